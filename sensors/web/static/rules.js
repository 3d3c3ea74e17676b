// What an inbox takes, asked before a byte is sent; the server asks again.

import { bytes } from "./wording.js";

export function rulesOf(card) {
  const { inbox, patterns, most, done } = card.dataset;
  return { inbox, patterns: JSON.parse(patterns), most: Number(most), done };
}

// Returns why a file is not sent, or "".
export function mistakeIn(file, isFolder, { inbox, patterns, most, done }) {
  if (isFolder) return "is a folder; drop the files that are in it";
  const name = done && file.name.endsWith(done) ? file.name.slice(0, -done.length) : file.name;
  if (!patterns.some((pattern) => expression(pattern).test(name))) {
    return `inbox ${inbox} takes ${patterns.join(" ")}, not this kind of file`;
  }
  if (file.size > most) return `has ${bytes(file.size)}, at most ${bytes(most)} are taken here`;
  return "";
}

// `*`, `?`, `[abc]` and `[!abc]`, as the sensor reads them; case makes no difference.
function expression(pattern) {
  const source = pattern.replace(/\[!?\]?[^\]]*\]|[\s\S]/g, (part) => {
    if (part === "*") return ".*";
    if (part === "?") return ".";
    if (part.length === 1) return part.replace(/[.+^${}()|[\]\\/]/, "\\$&");
    const [not, inside] = part[1] === "!" ? ["^", part.slice(2, -1)] : ["", part.slice(1, -1)];
    return `[${not}${inside.replace(/[\\\][^]/g, "\\$&")}]`;
  });
  return new RegExp(`^${source}$`, "is");
}
