// Where files are dropped: one zone an inbox. Dropped anywhere else they do nothing, least of all leave the page.

import { speak } from "./speak.js";
import { mistakeIn, rulesOf } from "./rules.js";
import { Upload } from "./upload.js";
import { Uploads } from "./uploads.js";

const all = [];

export function openZones() {
  keepFromLeaving();
  for (const card of document.querySelectorAll("[data-inbox].inbox")) {
    if (card.querySelector(".zone")) open(card); // a visitor who may only look has none
  }
  window.addEventListener("beforeunload", (event) => {
    if (underWay()) event.preventDefault();
  });
}

export function underWay() {
  return all.some((uploads) => uploads.underWay);
}

function open(card) {
  const rules = rulesOf(card);
  const uploads = new Uploads(card);
  all.push(uploads);
  card.querySelector(".needs-script").hidden = false;

  const zone = card.querySelector(".zone");
  const input = card.querySelector("input[type=file]");
  input.addEventListener("change", () => {
    take([...input.files].map((file) => ({ file, isFolder: false })));
    input.value = ""; // the same file can be chosen again
  });
  zone.addEventListener("dragover", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    event.stopPropagation();
    event.dataTransfer.dropEffect = "copy";
    zone.classList.add("over");
  });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    take(dropped(event.dataTransfer));
  });

  function take(found) {
    if (found.length === 0) return;
    speak(`Uploading ${found.length === 1 ? found[0].file.name : `${found.length} files`} to ${rules.inbox}`);
    uploads.add(found.map(({ file, isFolder }) => new Upload(rules.inbox, file, mistakeIn(file, isFolder, rules))));
  }
}

function dropped(transfer) {
  const items = [...transfer.items].filter((item) => item.kind === "file");
  if (items.length === 0) return [...transfer.files].map((file) => ({ file, isFolder: false }));
  return items
    .map((item) => ({ file: item.getAsFile(), isFolder: item.webkitGetAsEntry?.()?.isDirectory ?? false }))
    .filter(({ file }) => file !== null);
}

function holdsFiles(event) {
  return [...event.dataTransfer.types].includes("Files");
}

function keepFromLeaving() {
  const root = document.documentElement;
  let settle = 0;
  document.addEventListener("dragover", (event) => {
    if (!holdsFiles(event)) return;
    root.classList.add("dragging");
    clearTimeout(settle);
    settle = setTimeout(() => root.classList.remove("dragging"), 300); // it comes again all the while
    if (event.target.closest?.(".zone")) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "none";
  }, true);
  document.addEventListener("drop", (event) => {
    root.classList.remove("dragging");
    if (holdsFiles(event)) event.preventDefault();
  });
}
