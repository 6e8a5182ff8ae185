// The views, by the address's hash; health and the token.

import { health, useToken } from "./api.js";
import { $, notice } from "./elements.js";
import * as generations from "./generations.js";
import * as now from "./now.js";
import * as signUp from "./sign-up.js";
import * as user from "./user.js";

const EVERY = 5000;
const views = {
  now: () => now.show(),
  "sign-up": () => signUp.show(),
  user: (id) => {
    const { said, awaited } = signUp.arrival();
    return user.show(id, said, awaited);
  },
  generations: () => generations.show(),
};
let current = null;

function route(moved) {
  const [name, ...rest] = location.hash.slice(1).split("/");
  if (name === "main") return $("main").focus();
  const view = name in views ? name : "now";
  if (current === "now") now.hide();
  for (const each of Object.keys(views)) $(`view-${each}`).hidden = each !== view;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${view}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  notice();
  document.title = `${$(`${view}-title`).textContent} – Foretaste`;
  current = view;
  if (moved) $(`${view}-title`).focus({ preventScroll: true });
  views[view](decodeURIComponent(rest.join("/")));
  return undefined;
}

async function look() {
  const place = $("health");
  try {
    const found = await health();
    const away = (found.parts ?? []).filter((part) => !part.healthy).map((part) => part.name);
    const active = found.generation ? `, generation ${found.generation}` : "";
    tell(place, `${found.readiness}${active}${away.length ? `; away: ${away.join(", ")}` : ""}`, found.readiness === "ready");
  } catch (error) {
    tell(place, error.message, false);
  }
}

// A status is read out when its text changes, so it is only set when it does.
function tell(place, text, good) {
  if (place.textContent !== text) place.textContent = text;
  place.className = `health ${good ? "good" : "bad"}`;
}

$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken($("token").value);
  $("access").open = false;
  look();
  route(false);
});
signUp.start();
user.start();
addEventListener("hashchange", () => route(true));
route(false);
look();
setInterval(look, EVERY);
