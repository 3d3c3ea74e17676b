// Another try, without leaving the page.

import { ask, showAnswer } from "./asking.js";

const SHOWN_MS = 4000;

export function retryInPlace() {
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.matches("form.retry")) return;
    event.preventDefault();
    tryAgain(form);
  });
}

async function tryAgain(form) {
  const button = form.querySelector("button");
  if (button.disabled) return;
  const before = [...button.childNodes];
  button.disabled = true;
  button.textContent = "Asking";
  const answer = await ask(form);
  showAnswer(form, answer);
  button.textContent = answer.ok ? "Is tried again" : "Not tried again";
  setTimeout(() => {
    button.replaceChildren(...before);
    button.disabled = false;
    document.dispatchEvent(new Event("mended"));
  }, SHOWN_MS);
}
