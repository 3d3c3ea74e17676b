// Files that need no attention any more are dismissed without leaving the page.

import { ask, showAnswer } from "./asking.js";
import { speak } from "./speak.js";

// What needs attention is not asked for anew while this question is open: not under the pointer, and not for ever.
const OPEN_MS = 60_000;

export function dismissInPlace() {
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.matches("form.dismiss")) return;
    event.preventDefault();
    dismiss(form);
  });
  document.addEventListener("toggle", ({ target }) => target.open && closeLater(target), { capture: true });
}

function closeLater(question) {
  setTimeout(() => {
    question.open = false;
    document.dispatchEvent(new Event("mended"));
  }, OPEN_MS);
}

async function dismiss(form) {
  const button = form.querySelector("button");
  if (button.disabled) return;
  const question = form.closest("details");
  const focused = document.activeElement === button;
  button.disabled = true;
  const answer = await ask(form);
  if (answer.ok) speak(answer.text);
  else showAnswer(form, answer);
  button.disabled = false;
  if (question && answer.ok) question.open = false;
  if (focused) (question?.querySelector("summary") ?? button).focus({ preventScroll: true });
  document.dispatchEvent(new Event("mended"));
}
