// Says something to somebody who listens to the page: one thing at a time, and nothing twice in a row.

const spoken = document.querySelector("#spoken");

export function speak(text) {
  if (spoken.textContent !== text) spoken.textContent = text;
}
