// What became of files that this page has uploaded: of many at once by their arrival, of the rest one by one.

const SOON_MS = 300;
const REST_MS = 4000;
const REST_AT_ONCE = 10;
const ENDED = ["loaded", "failed", "skipped"];

export function learnFates(uploads) {
  const asking = new Set();
  document.addEventListener("live:arrival", ({ detail }) => {
    const { inbox, state } = detail.dataset;
    if (inbox !== uploads.inbox || !ENDED.includes(state) || uploads.all.length === 0) return;
    const id = detail.id.slice("arrival-".length);
    if (asking.has(id)) return;
    asking.add(id);
    setTimeout(async () => {
      asking.delete(id);
      if (uploads.unknown.length) await learnFromArrival(uploads, id);
    }, SOON_MS);
  });
  restless(uploads);
}

async function learnFromArrival(uploads, id) {
  const journey = await fetched(`/api/arrivals/${encodeURIComponent(id)}?files=10000`);
  if (journey === null) return;
  const byName = new Map(journey.files.map((file) => [file.name, file]));
  for (const upload of uploads.unknown) {
    const file = byName.get(upload.name);
    if (file) upload.learn(file);
  }
  uploads.view.changed();
}

// An arrival may have ended before its last upload was answered, or while the stream was cut off.
async function restless(uploads) {
  for (const upload of uploads.unknown.slice(0, REST_AT_ONCE)) {
    const file = await fetched(upload.address);
    if (file !== null) upload.learn(file);
  }
  if (uploads.all.length) uploads.view.changed();
  setTimeout(restless, REST_MS, uploads);
}

async function fetched(address) {
  try {
    const answer = await fetch(new URL(address, location.origin), { headers: { Accept: "application/json" } });
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
}
