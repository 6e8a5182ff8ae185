// Elements, made with text alone: names of users and items are never markup.

export const $ = (id) => document.getElementById(id);

export function made(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function drawn(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== undefined && value !== null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== false && child !== null && child !== undefined));
  return element;
}

// For who does not see the page: what just changed.
export function say(text) {
  $("said").textContent = text;
}

// What went wrong, above everything; an empty text takes it away.
export function notice(text = "") {
  if ($("notice").textContent !== text) $("notice").textContent = text;
}

// Runs what a person asked for: the button rests meanwhile, and what goes wrong is said. It keeps the focus.
export async function carriedOut(button, work) {
  if (button.getAttribute("aria-disabled") === "true") return undefined;
  notice();
  button.setAttribute("aria-disabled", "true");
  try {
    return await work();
  } catch (error) {
    notice(error.message);
    return undefined;
  } finally {
    button.removeAttribute("aria-disabled");
  }
}

export const whole = (value) => Math.round(value).toLocaleString("en");
export const plural = (count, one, many = `${one}s`) => `${whole(count)} ${count === 1 ? one : many}`;
