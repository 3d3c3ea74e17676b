// The stream of changes, passed to the rest of the page as events `arrival`, `figures` and `services`, and whether it still comes.

import { underWay } from "./zones.js";

const AGAIN_MS = 10_000;
const HIDDEN_MS = 30_000;

const connection = document.querySelector("#connection");
let source = null;
let again = 0;

export function follow() {
  open();
  // A browser gives six connections to one address, and streams of hidden pages would take them all.
  let hiding = 0;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiding);
    if (document.hidden) hiding = setTimeout(() => underWay() || close(), HIDDEN_MS);
    else if (source === null) open();
  });
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", () => source ?? open());
}

function open() {
  close();
  source = new EventSource(new URL("/stream", location.origin));
  source.addEventListener("open", () => {
    show("Live");
    dispatch("connected");
  });
  source.addEventListener("arrival", (event) => dispatch("arrival", elementOf(event)));
  source.addEventListener("inbox", (event) => dispatch("figures", elementOf(event)));
  source.addEventListener("services", () => dispatch("services"));
  source.addEventListener("full", () => show("Not live: too many pages are open", true));
  source.addEventListener("error", () => {
    show("Connection lost, trying again", true);
    // After an answer such as 503 a browser does not try again by itself.
    if (source?.readyState === EventSource.CLOSED) again = setTimeout(open, AGAIN_MS);
  });
}

function close() {
  clearTimeout(again);
  source?.close();
  source = null;
}

function elementOf(event) {
  // What a file's name holds was escaped by the server; a template runs no scripts and loads nothing.
  const template = document.createElement("template");
  template.innerHTML = JSON.parse(event.data).html;
  return template.content.firstElementChild;
}

function dispatch(name, detail) {
  document.dispatchEvent(new CustomEvent(`live:${name}`, { detail }));
}

function show(text, isLost = false) {
  connection.hidden = false;
  connection.classList.toggle("lost", isLost);
  if (connection.textContent !== text) connection.textContent = text;
}
