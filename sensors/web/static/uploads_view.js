// How uploads are shown: all together in one line, and of many files only those that are under way or went wrong.

import { bytes, counted } from "./wording.js";

const EACH = 12; // up to so many files each keeps its line
const MOST_LINES = 60;
const PAUSE_MS = 100;
const WRONG = ["wrong", "rejected", "failed"];
const UNDER_WAY = ["sending", "paused"];

export class UploadsView {
  constructor(card, uploads) {
    this.uploads = uploads;
    this.place = card.querySelector(".uploads");
    this.total = this.place.querySelector(".total");
    this.progress = this.place.querySelector("progress");
    this.files = this.place.querySelector(".files");
    this.more = this.place.querySelector(".more");
    this.again = this.place.querySelector(".again");
    this.clear = this.place.querySelector(".clear");
    this.stop = this.place.querySelector(".stop");
    this.lines = new Map();
    this.again.addEventListener("click", () => uploads.tryAgain());
    this.stop.addEventListener("click", () => uploads.stop());
    this.clear.addEventListener("click", () => {
      uploads.clear();
      card.querySelector("input[type=file]").focus();
    });
  }

  changed() {
    this.due ??= setTimeout(() => {
      this.due = undefined;
      this.draw();
    }, PAUSE_MS);
  }

  draw() {
    const { all, again, underWay } = this.uploads;
    this.place.hidden = all.length === 0;
    const sendable = all.filter(({ step }) => step !== "wrong");
    const size = sum(sendable.map(({ file }) => file.size));
    const sent = sum(sendable.map((upload) => Math.min(upload.sent, upload.file.size)));
    this.progress.hidden = !underWay;
    this.progress.value = size ? sent / size : 1;
    set(this.total, underWay ? this.onTheWay(sendable, sent, size) : this.ended());
    set(this.again, `Try ${counted(again.length, "upload")} again`);
    this.again.hidden = again.length === 0 || underWay;
    this.clear.hidden = underWay;
    this.stop.hidden = !underWay;
    this.drawLines(all);
  }

  onTheWay(sendable, sent, size) {
    const came = sendable.filter(({ step }) => !["waiting", ...UNDER_WAY].includes(step)).length;
    return `${came} of ${counted(sendable.length, "file")} uploaded, ${bytes(sent)} of ${bytes(size)}`;
  }

  ended() {
    const number = (wanted) => this.uploads.all.filter(({ step }) => step === wanted).length;
    const came = this.uploads.all.length - number("wrong");
    const parts = [
      came && `${counted(came, "file")} uploaded`,
      number("loaded") && `${number("loaded").toLocaleString("en")} loaded`,
      number("skipped") && `${number("skipped")} skipped as duplicates`,
      number("sent") && `${number("sent")} on the way`,
      number("rejected") && `${number("rejected")} rejected`,
      number("failed") && `${number("failed")} failed`,
      number("wrong") && `${number("wrong")} not uploaded`,
    ];
    return parts.filter(Boolean).join(", ");
  }

  drawLines(all) {
    const worth = all.length <= EACH ? all : all.filter(({ step }) => WRONG.includes(step) || UNDER_WAY.includes(step));
    const shown = worth.slice(0, MOST_LINES);
    for (const [upload, line] of this.lines) {
      if (shown.includes(upload)) continue;
      line.remove();
      this.lines.delete(upload);
    }
    shown.forEach((upload, at) => {
      const line = this.lines.get(upload) ?? makeLine(upload);
      this.lines.set(upload, line);
      if (this.files.children[at] !== line) this.files.insertBefore(line, this.files.children[at] ?? null);
      drawLine(line, upload);
    });
    this.more.hidden = worth.length <= shown.length;
    set(this.more, `and ${counted(worth.length - shown.length, "more file")}`);
  }
}

function makeLine(upload) {
  const line = document.createElement("li");
  line.className = "upload";
  const parts = { name: "a", soFar: "span", progress: "progress", why: "span" };
  for (const [part, tag] of Object.entries(parts)) line[part] = line.appendChild(document.createElement(tag));
  line.name.className = "name";
  line.name.textContent = upload.name;
  line.name.title = upload.name;
  line.progress.ariaLabel = `Upload of ${upload.name}`;
  line.why.className = "why";
  return line;
}

function drawLine(line, upload) {
  const [text, tone] = wordsOf(upload);
  set(line.soFar, text);
  line.soFar.className = `so-far ${tone}`;
  line.progress.hidden = upload.step !== "sending";
  line.progress.value = upload.file.size ? upload.sent / upload.file.size : 0;
  line.why.hidden = !upload.why;
  set(line.why, upload.why);
  if (upload.arrival) line.name.href = `/arrivals/${encodeURIComponent(upload.arrival)}`;
}

function wordsOf({ step, sent, file, rows, arrival }) {
  switch (step) {
    case "waiting": return ["waits", ""];
    case "sending": return [`${bytes(Math.min(sent, file.size))} of ${bytes(file.size)}`, ""];
    case "paused": return ["the sensor is busy, waits", ""];
    case "wrong": return ["\u2717 not uploaded", "bad"];
    case "sent": return [arrival ? "taken" : "uploaded", "busy"];
    case "loaded": return [rows === null ? "\u2713 loaded" : `\u2713 loaded, ${counted(rows, "row")}`, "good"];
    case "skipped": return ["skipped, a duplicate", ""];
    default: return [`\u2717 ${step}`, "bad"];
  }
}

function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function sum(numbers) {
  return numbers.reduce((all, one) => all + one, 0);
}
