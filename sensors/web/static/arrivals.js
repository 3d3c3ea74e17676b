// The list of arrivals and the figures of the inboxes, kept as they are now; outcomes are spoken, together.

import { replace } from "./replace.js";
import { speak } from "./speak.js";

const ENDED = new Set(["loaded", "failed", "skipped"]);
const SPOKEN_MS = 2000;

export function showArrivals() {
  document.addEventListener("live:figures", ({ detail }) => {
    const old = document.getElementById(detail.id);
    if (old) replace(old, detail);
  });
  const list = document.querySelector("#arrivals");
  if (list) document.addEventListener("live:arrival", ({ detail }) => put(list, detail));
}

function put(list, made) {
  const holder = list.closest("#list");
  const wanted = holder?.dataset.inbox;
  if (wanted && wanted !== made.dataset.inbox) return;
  const old = document.getElementById(made.id);
  const before = old?.dataset.state;
  if (old) {
    if (!replace(old, made)) return;
  } else {
    if (holder && "still" in holder.dataset) return;
    if (!insert(list, made)) return;
  }
  if (ENDED.has(made.dataset.state) && before !== made.dataset.state) speakOf(made.dataset);
}

// Puts a new arrival in its place by the time it was taken; returns whether there is one for it.
function insert(list, made) {
  const most = Number(list.dataset.most);
  const next = [...list.children].find((one) => one.dataset.created <= made.dataset.created) ?? null;
  if (next === null && list.children.length >= most) return false;
  made.classList.add("new");
  made.addEventListener("animationend", () => made.classList.remove("new"), { once: true });
  list.insertBefore(made, next);
  while (list.children.length > most) list.lastElementChild.remove();
  document.querySelector(".empty")?.setAttribute("hidden", "");
  return true;
}

let ended = [];

function speakOf({ title, state, rows, bad }) {
  if (ended.length === 0) setTimeout(speakAll, SPOKEN_MS);
  ended.push({ title, state, rows: Number(rows), bad: Number(bad) });
}

function speakAll() {
  const all = ended;
  ended = [];
  if (all.length === 1) {
    const [{ title, state, rows, bad }] = all;
    speak(`${title}: ${state}${rows ? `, ${rows} rows` : ""}${bad ? `, ${bad} files not loaded` : ""}`);
    return;
  }
  const well = all.filter((one) => one.state !== "failed" && one.bad === 0).length;
  speak(`${all.length} arrivals ended: ${well} loaded, ${all.length - well} with files that were not loaded`);
}
