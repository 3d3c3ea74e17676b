// Puts one element in the place of another, and the reader's place in it stays.

// Returns whether anything is different.
export function replace(old, made) {
  if (old.isEqualNode(made)) return false;
  const focused = old.contains(document.activeElement) ? document.activeElement : null;
  const like = focused && likeIt(old, focused);
  old.replaceWith(made);
  if (like) like(made)?.focus({ preventScroll: true });
  return true;
}

// Finds what stands for an element after a change: the same address, or the same place among those of its kind.
function likeIt(old, focused) {
  const href = focused.getAttribute("href");
  const kind = focused.tagName.toLowerCase();
  const at = [...old.querySelectorAll(kind)].indexOf(focused);
  return (made) =>
    (href && made.querySelector(`${kind}[href="${CSS.escape(href)}"]`)) || made.querySelectorAll(kind)[at] || made;
}
