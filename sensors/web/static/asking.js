// A form's request, made without leaving the page, and what came of it.

import { speak } from "./speak.js";

// Returns whether it was done, and the answer in words.
export async function ask(form) {
  try {
    const answer = await fetch(form.action, { method: "POST", headers: { Accept: "application/json" } });
    const said = await answer.json().catch(() => ({}));
    return answer.ok ? { ok: true, text: said.told.join("; ") } : { ok: false, text: said.detail ?? answer.statusText };
  } catch {
    return { ok: false, text: "the sensor cannot be reached" };
  }
}

// Shows the answer next to the form, and says it.
export function showAnswer(form, { ok, text }) {
  const holder = form.closest(".buttons") ?? form;
  const line = holder.querySelector(".answer") ?? holder.appendChild(document.createElement("p"));
  line.className = ok ? "answer" : "answer bad";
  line.textContent = text;
  speak(text);
}
