// Whatever comes from a device, a camera or a model is a stranger's text: it may steer the direction of writing, hide in characters
// without width, pile up marks, or be very long. After `clean` it is a short line that shows what is in it.

// Longest text that is shown, characters: a reason of the service is one or two sentences.
const LONGEST = 400;
// Marks on one letter at most: more than any script writes.
const MOST_MARKS = 4;

// Controls, formats (direction, width, tags), what has no meaning yet, line and paragraph separators, halves of surrogates.
const UNSEEN = /[\p{Cc}\p{Cf}\p{Cn}\p{Co}\p{Cs}\p{Zl}\p{Zp}\u115f\u1160\u3164\uffa0\u2800]/gu;
const MARKS = new RegExp(`(\\p{M}{${MOST_MARKS}})\\p{M}+`, "gu");

export function clean(value, longest = LONGEST) {
  if (value === null || value === undefined || typeof value === "object" || typeof value === "function") return "";
  // What is cut off is not looked at: a text of megabytes costs no more than a short one.
  let text = String(value).slice(0, 4 * longest).replace(/\s+/g, " ").trim();
  text = text.replace(UNSEEN, "\ufffd").replace(MARKS, "$1");
  const letters = [...text];
  return letters.length > longest ? letters.slice(0, longest - 1).join("") + "…" : text;
}

// A number that can be reckoned with, or the other.
export function number(value, otherwise = NaN) {
  return typeof value === "number" && Number.isFinite(value) ? value : otherwise;
}

export const list = (value, most) => (Array.isArray(value) ? value.slice(0, most) : []);
export const object = (value) => (value !== null && typeof value === "object" && !Array.isArray(value) ? value : {});
