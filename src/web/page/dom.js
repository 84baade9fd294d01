// Elements without markup: every text goes in as text.

// An element with attributes and children; a text becomes a text node, `undefined` and `null` nothing.
export function el(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

const SVG = "http://www.w3.org/2000/svg";

// The same for SVG.
export function svg(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children.flat().filter((child) => child !== undefined && child !== null));
  return made;
}

// A text of a stranger in a run of its own, so that its direction of writing ends with it.
export const bdi = (text) => el("bdi", {}, text);

// Sets a text only when it changes: screen readers and selections stay undisturbed.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Shows or hides.
export function show(element, is_shown) {
  element.hidden = !is_shown;
}

let count = 0;
// A name that no other element has.
export const fresh = (word) => `${word}-${++count}`;

// A field with its label and help. Returns the whole and the field in it.
export function field(label, help, input) {
  input.id = fresh("field");
  const whole = el("div", { class: "field" }, el("label", { for: input.id }, label), input);
  if (help) {
    const words = el("p", { class: "help", id: `${input.id}-help` }, help);
    input.setAttribute("aria-describedby", words.id);
    whole.append(words);
  }
  return whole;
}
