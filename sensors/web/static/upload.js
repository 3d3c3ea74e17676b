// One file on its way into an inbox.

const OUTCOMES = ["loaded", "rejected", "failed", "skipped"];
const LONGEST_PAUSE_SECONDS = 60;
const MOST_TRIES = 100;
const STOPPED = "was stopped";
const CLOCK_MS = 2000; // what a Date header leaves out, and a bit

export class Upload {
  // `step` is one of: waiting, sending, paused, wrong; then sent, and what became of it: loaded, rejected, failed,
  // skipped.
  constructor(inbox, file, mistake) {
    this.inbox = inbox;
    this.file = file;
    this.name = file.name;
    this.step = mistake ? "wrong" : "waiting";
    this.why = mistake;
    this.canTryAgain = false;
    this.sent = 0;
    this.tries = 0;
    this.arrival = null;
    this.rows = null;
    this.cameAt = 0; // by the server's clock; what came under this name before is another file
  }

  get address() {
    return `${location.origin}/inbox/${this.inbox}/${encodeURIComponent(this.name)}`;
  }

  // Sends it and resolves when its step is another one; `progressed` is called on the way.
  async send(progressed) {
    this.step = "sending";
    this.why = "";
    this.tries += 1;
    const begun = performance.now();
    if (this.isUncertain && (await this.hasCome())) return this.accept(new Date(), begun);
    this.isUncertain = false;
    this.request = new XMLHttpRequest();
    const request = await put(this.request, this.address, this.file, (sent) => {
      this.sent = sent;
      progressed();
    });
    if (request.status === 201) return this.accept(dateOf(request), begun);
    this.sent = 0;
    const pause = Number(request.getResponseHeader("Retry-After"));
    if (request.status === 503 && pause > 0 && this.tries < MOST_TRIES && !this.isStopped) return this.pause(pause);
    this.step = "wrong";
    this.why = this.isStopped ? STOPPED : reasonOf(request);
    // A name or size that is refused now is refused again.
    this.canTryAgain = ![400, 404, 413, 415, 422].includes(request.status);
    this.isUncertain = request.status === 0;
    this.firstBegun ??= begun;
  }

  accept(date, begun) {
    this.step = "sent";
    this.sent = this.file.size;
    this.cameAt = date.getTime() - (performance.now() - begun) - CLOCK_MS;
  }

  async pause(seconds) {
    this.step = "paused";
    await new Promise((resolve) => setTimeout(resolve, 1000 * Math.min(seconds, LONGEST_PAUSE_SECONDS)));
    if (this.step === "paused") this.step = "waiting";
  }

  // Begins anew, after an error or because it was stopped.
  again() {
    Object.assign(this, { step: "waiting", why: "", tries: 0, isStopped: false });
  }

  // Gives it up for now; what is under way is cut off.
  stop() {
    this.isStopped = true;
    if (this.step === "sending") this.request?.abort();
    else Object.assign(this, { step: "wrong", why: STOPPED, canTryAgain: true });
  }

  // Whether a file whose response never came has arrived all the same: sent again it would be loaded twice.
  async hasCome() {
    try {
      const answer = await fetch(this.address);
      if (!answer.ok) return false;
      const seen = Date.parse((await answer.json()).seen_at);
      return seen >= dateOf(answer).getTime() - (performance.now() - this.firstBegun) - CLOCK_MS;
    } catch {
      return false;
    }
  }

  // Takes what the server says of the file that has this name; an older one of that name says nothing.
  learn({ state, seen_at, rows, reason, arrival_id }) {
    if (Date.parse(seen_at) < this.cameAt) return;
    this.arrival = arrival_id;
    this.rows = rows;
    this.why = reason ?? "";
    if (OUTCOMES.includes(state)) this.step = state;
  }
}

function put(request, address, file, sent) {
  return new Promise((resolve) => {
    request.open("PUT", address);
    request.setRequestHeader("Accept", "application/json");
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.addEventListener("progress", (event) => sent(event.loaded));
    request.addEventListener("loadend", () => resolve(request));
    request.send(file);
  });
}

function dateOf(answer) {
  const header = answer.getResponseHeader ? answer.getResponseHeader("Date") : answer.headers.get("Date");
  return new Date(header ?? Date.now());
}

function reasonOf(request) {
  if (request.status === 0) return "the connection broke before the sensor answered";
  if (request.status === 401) return "credentials are needed; load the page again";
  try {
    return JSON.parse(request.responseText).detail;
  } catch {
    // A page in HTML is a proxy's, which has refused it by itself.
    const said = request.getResponseHeader("Content-Type")?.startsWith("text/plain") ? request.responseText.trim() : "";
    return said.slice(0, 300) || `${request.status} ${request.statusText}`.trim();
  }
}
