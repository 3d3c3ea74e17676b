// Says something to a screen reader: one thing at a time, and nothing twice in a row.

const spoken = document.querySelector("#spoken");

export function speak(text) {
  if (spoken.textContent !== text) spoken.textContent = text;
}
