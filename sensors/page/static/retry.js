// Another try, without leaving the page.

import { speak } from "./speak.js";

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
  const { ok, text } = await asked(form.action);
  tell(form, text, ok);
  button.textContent = ok ? "Is tried again" : "Not tried again";
  setTimeout(() => {
    button.replaceChildren(...before);
    button.disabled = false;
    document.dispatchEvent(new Event("retried"));
  }, SHOWN_MS);
}

async function asked(address) {
  try {
    const answer = await fetch(address, { method: "POST", headers: { Accept: "application/json" } });
    const said = await answer.json().catch(() => ({}));
    return answer.ok ? { ok: true, text: said.told.join("; ") } : { ok: false, text: said.detail ?? answer.statusText };
  } catch {
    return { ok: false, text: "the sensor cannot be reached" };
  }
}

function tell(form, text, ok) {
  const holder = form.closest(".buttons") ?? form;
  const told = holder.querySelector(".told") ?? holder.appendChild(document.createElement("p"));
  told.className = ok ? "told" : "told bad";
  told.textContent = text;
  speak(text);
}
