// What a change elsewhere may have changed is asked for anew: every element that is marked data-refresh, and the title.

import { replace } from "./replace.js";

const SOON_MS = 700;
const PAUSE_MS = 2000;
const ANYWAY_MS = 60_000;

let due = 0;
let last = 0;

export function keepFresh() {
  if (document.querySelector("[data-refresh]") === null) return;
  document.addEventListener("live:arrival", ({ detail }) => concerns(detail) && refreshSoon());
  document.addEventListener("live:connected", refreshSoon);
  document.addEventListener("live:services", refreshSoon);
  document.addEventListener("live:figures", refreshSoon);
  document.addEventListener("mended", refreshSoon);
  // Alerts that do not get through change nothing in the ledger.
  setInterval(refreshSoon, ANYWAY_MS);
}

function concerns(arrival) {
  const only = document.querySelector("[data-arrival]")?.dataset.arrival;
  return only === undefined || arrival.id === `arrival-${only}`;
}

function refreshSoon() {
  if (due) return;
  due = setTimeout(refresh, Math.max(SOON_MS, last + PAUSE_MS - performance.now()));
}

async function refresh() {
  due = 0;
  last = performance.now();
  let text;
  try {
    const here = location.origin + location.pathname + location.search;
    const answer = await fetch(here, { headers: { Accept: "text/html" } });
    if (!answer.ok) return;
    text = await answer.text();
  } catch {
    return; // the connection is shown as lost
  }
  const fresh = new DOMParser().parseFromString(text, "text/html");
  document.title = fresh.title;
  for (const old of document.querySelectorAll("[data-refresh]")) {
    const made = fresh.getElementById(old.id);
    if (made && !busy(old)) replace(old, document.importNode(made, true));
  }
}

// The user has just asked for something in there, or is about to, and the answer is shown there.
function busy(element) {
  return element.querySelector("form.retry button:disabled, details[open]") !== null;
}
