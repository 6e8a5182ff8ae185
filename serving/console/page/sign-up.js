// The form that signs somebody up with chosen attributes.

import { choices, signUp } from "./api.js";
import { $, carriedOut, made, notice, say } from "./elements.js";

let offered = null;

export async function show() {
  if (!$("new-user").value) $("new-user").value = freshName();
  try {
    const found = await choices();
    if (offered?.generation !== found.generation) drawFields(found);
    offered = found;
    $("sign-up-button").disabled = false;
  } catch (error) {
    notice(error.message);
    if (!offered) $("attributes").replaceChildren(made("p", { class: "soft" }, "The fields could not be read."));
  }
}

export function start() {
  $("sign-up-form").addEventListener("submit", (event) => {
    event.preventDefault();
    carriedOut($("sign-up-button"), register);
  });
}

async function register() {
  const id = $("new-user").value, began = performance.now();
  const answer = await signUp(id, attributes());
  const seconds = (performance.now() - began) / 1000;
  const said = answer.readable
    ? `Signed up; the virtual behaviour was there ${Math.round(1000 * seconds)} ms after the button.`
    : "Signed up; no worker had taken the event within eight seconds.";
  say(said);
  last = { said, awaited: !answer.readable };
  $("new-user").value = freshName();
  location.hash = `#user/${encodeURIComponent(id)}`;
}

const NONE = { said: "", awaited: false };
let last = NONE;

// What the last sign-up came to, told once, and whether its user is still to come.
export function arrival() {
  const told = last;
  last = NONE;
  return told;
}

function drawFields(found) {
  const fields = Object.entries(found.attributes).map(([name, field], at) => {
    const id = `attribute-${at}`;
    const numeric = field.kind === "numeric", several = field.kind === "list" || field.kind === "vector";
    const middle = field.values[Math.floor(field.values.length / 2)] ?? "";
    const control = several
      ? made("input", { id, name, type: "text", value: middle === "" ? "" : JSON.stringify(middle), placeholder: "a JSON array", "data-kind": field.kind })
      : numeric
      ? made("input", { id, name, type: "number", step: "any", value: middle, "data-kind": "numeric" })
      : made("select", { id, name }, made("option", { value: "" }, "not known"),
        ...inOrder(field.values).map((value) => made("option", { value, selected: value === field.values[0] }, String(value))));
    return made("div", {}, made("label", { for: id }, name), control);
  });
  $("attributes").replaceChildren(...(fields.length ? fields : [made("p", { class: "soft" }, "The active generation reads no attributes.")]));
}

// They come the most frequent first, which is what is chosen at the beginning.
const inOrder = (values) => [...values].sort((one, other) => String(one).localeCompare(String(other), "en", { numeric: true }));

function attributes() {
  const found = {};
  for (const control of $("attributes").querySelectorAll("select, input")) {
    if (control.value !== "") found[control.name] = valueOf(control);
  }
  return found;
}

// Of a list or a vector: the JSON array that was written, or one value alone.
function valueOf(control) {
  const kind = control.dataset.kind, text = control.value;
  if (kind === "numeric") return Number(text);
  if (kind === undefined || !text.trim().startsWith("[")) return text;
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(`${control.name}: is no JSON array.`);
  }
}

function freshName() {
  return `guest-${crypto.getRandomValues(new Uint32Array(1))[0].toString(36)}`;
}
