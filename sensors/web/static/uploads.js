// The uploads of one inbox: four at a time, and after that what became of each file.

import { learnFates } from "./fates.js";
import { speak } from "./speak.js";
import { UploadsView } from "./uploads_view.js";
import { counted } from "./wording.js";

const AT_ONCE = 4; // of a browser's six connections: the stream has one, and the page needs one
const UNDER_WAY = ["waiting", "sending", "paused"];

export class Uploads {
  constructor(card) {
    this.inbox = card.dataset.inbox;
    this.all = [];
    this.sending = 0;
    this.view = new UploadsView(card, this);
    learnFates(this);
  }

  get underWay() {
    return this.all.some(({ step }) => UNDER_WAY.includes(step));
  }

  get unknown() {
    return this.all.filter(({ step }) => step === "sent");
  }

  get again() {
    return this.all.filter(({ step, canTryAgain }) => step === "wrong" && canTryAgain);
  }

  add(uploads) {
    if (!this.underWay) this.all = this.all.filter(({ step }) => step !== "loaded" && step !== "skipped");
    this.all.push(...uploads);
    this.go();
  }

  tryAgain() {
    for (const upload of this.again) upload.again();
    this.go();
  }

  stop() {
    for (const upload of this.all) if (UNDER_WAY.includes(upload.step)) upload.stop();
    this.view.changed();
  }

  clear() {
    this.all = [];
    this.view.changed();
  }

  go() {
    for (const upload of this.all.filter(({ step }) => step === "waiting").slice(0, AT_ONCE - this.sending)) {
      this.sendOne(upload);
    }
    this.view.changed();
  }

  async sendOne(upload) {
    this.sending += 1;
    try {
      await upload.send(() => this.view.changed());
    } catch (error) {
      Object.assign(upload, { step: "wrong", why: String(error), canTryAgain: true });
    } finally {
      this.sending -= 1;
    }
    this.go();
    if (!this.underWay) this.speakOfEnd();
  }

  speakOfEnd() {
    const wrong = this.all.filter(({ step }) => step === "wrong").length;
    const came = this.all.length - wrong;
    speak(`${counted(came, "file")} uploaded to ${this.inbox}${wrong ? `, ${wrong} not` : ""}`);
  }
}
