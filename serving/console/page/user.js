// One user: what is stored, the list and why, the list without virtual behaviour, the place on the map; items to act on.

import { behave, choices, compare, recommended, storedUser } from "./api.js";
import { strip } from "./charts.js";
import { $, carriedOut, made, notice, plural, say, whole } from "./elements.js";
import { mapOf } from "./map.js";

const MOST_SHOWN = 8, SHOWN = 12, CANDIDATES = 500, NEAREST = 8, INFLUENCES = 2, WAITS = 60;
let run = 0, before = null, action = null;

export function start() {
  $("find-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const wanted = `#user/${encodeURIComponent($("find-user").value)}`;
    if (location.hash === wanted) show($("find-user").value);
    else location.hash = wanted;
  });
}

// All there is of the user `id`; `said` is told above it. One who is `awaited` may come within a minute.
export async function show(id, said = "", awaited = false) {
  const own = ++run;
  if (!id) return;
  $("find-user").value = id;
  if (before?.id !== id) {
    before = null;
    $("user").replaceChildren(made("p", { class: "soft" }, awaited ? `${said} Waiting for the worker…` : "Reading…"));
  }
  try {
    const known = await choices(), candidates = known.items.slice(0, CANDIDATES);
    const user = await arrived(id, own, awaited ? WAITS : 0);
    const [list, compared, map] = await Promise.all([
      recommended(id, candidates),
      user.virtual_behaviour?.current ? compare(id, candidates) : null,
      mapOf(id, user.virtual_behaviour?.current),
    ]);
    if (own === run) draw({ id, known, user, list, compared, map, said });
  } catch (error) {
    if (own !== run) return;
    notice(error.message);
    $("user").replaceChildren(made("p", { class: "soft" }, "There is nothing to show."));
  }
}

async function arrived(id, own, left) {
  try {
    return await storedUser(id);
  } catch (error) {
    if (error.status !== 404 || left <= 0 || own !== run) throw error;
  }
  await new Promise((resolve) => { setTimeout(resolve, 1000); });
  return arrived(id, own, left - 1);
}

function draw(found) {
  const { id, user, list, compared, map, said } = found;
  const names = list.ranked.slice(0, SHOWN).map((item) => item.item_id);
  const changes = before && { moved: names.filter((name, at) => before.names[at] !== name).length, stage: before.stage, names: before.names };
  const focused = $("user").contains(document.activeElement) ? document.activeElement : null, warm = user.stage === "warm";
  $("user").replaceChildren(
    made("p", { id: "arrived" }, said),
    made("div", { class: "columns" },
      made("div", { class: "stack" }, stored(found), virtual(user, compared, warm)),
      made("div", { class: "panel" }, made("h3", {}, "The list"), why(list), actions(found), ranked(found, changes)),
      made("div", { class: "panel" }, made("h3", {}, "Without virtual behaviour"), ...without(compared, names, warm))),
    map);
  if (focused) refocus(focused);
  if (changes) {
    const stage = changes.stage === user.stage ? `still ${user.stage}` : `now ${user.stage}`;
    say(`${id} is ${stage}, ${plural(acts(user), "behaviour")} seen; ${changes.moved} of ${names.length} places of the list changed.`);
  }
  before = { id, names, stage: user.stage };
}

// All was drawn anew: the focus goes to the same control, or, of an item that left the list, to the first.
function refocus(old) {
  const buttons = [...$("user").querySelectorAll("button.name")];
  const same = old.id ? $(old.id) : buttons.find((button) => button.dataset.item === old.dataset.item);
  (same ?? buttons[0])?.focus({ preventScroll: true });
}

function shown(value) {
  if (value === null) return "not known";
  if (!Array.isArray(value)) return String(value);
  return value.length > MOST_SHOWN ? `${value.slice(0, MOST_SHOWN).join(", ")}, … (${value.length})` : value.join(", ") || "none";
}

// An answer to a question is no act, nor is what was passed over: they warm nobody.
function acts(user) {
  return user.behaviour.filter(({ action }) => !["answered_yes", "answered_no", "passed_over"].includes(action)).length;
}

function stored({ user, known }) {
  const seen = acts(user), facts = Object.entries(user.attributes ?? {}).flatMap(([name, value]) => [
    made("dt", {}, name), made("dd", {}, shown(value))]);
  return made("div", { class: "panel" }, made("h3", {}, "What is stored"),
    made("p", {}, made("span", { class: `badge ${user.stage}`, id: "stage" }, user.stage ?? "no generation"), " ",
      `${plural(seen, "behaviour")}; warm from ${known.warm_after} on`),
    made("progress", { class: "progress", max: known.warm_after, value: Math.min(seen, known.warm_after), "aria-label": "Behaviours until warm" }),
    facts.length ? made("dl", { class: "facts" }, ...facts) : made("p", { class: "soft" }, "No sign-up was read."),
    user.behaviour.length ? made("ol", { class: "acts", tabindex: "0", "aria-label": "Behaviour, the newest first" },
      ...[...user.behaviour].reverse().map((act) => made("li", {}, `${act.item_id} `, made("span", { class: "soft" }, act.action))))
      : made("p", { class: "soft" }, "Has not acted yet."),
    ...user.damaged.map((view) => made("p", { class: "bad" }, `The stored row of ${view} cannot be read.`)));
}

function virtual(user, compared, warm) {
  const held = user.virtual_behaviour;
  if (!held) {
    return made("div", { class: "panel" }, made("h3", {}, "Virtual behaviour"),
      made("p", { class: "soft" }, warm ? "A warm user needs none." : "There is none yet."));
  }
  const nearest = compared && !warm ? [...compared.ranked].sort((one, other) => other.lift - one.lift).slice(0, NEAREST) : [];
  return made("div", { class: "panel", id: "virtual" }, made("h3", {}, "Virtual behaviour"),
    made("p", { class: "soft" }, `Generation ${held.generation}${held.current ? "" : ", not read any more"}; ${held.vectors.length} vectors of ${held.vectors[0].length} numbers, made of the attributes.`),
    strip(held.vectors),
    nearest.length > 0 && made("h3", { class: "next" }, "Items nearest to it"),
    nearest.length > 0 && made("p", { class: "soft" }, "Those for which it speaks most, against the mean of all users: what it adds to the log odds."),
    nearest.length > 0 && made("ol", { class: "ranked", id: "nearest" }, ...nearest.map((item) => made("li", {},
      made("span", { class: "name" }, item.item_id), made("span", { class: "score" }, signed(item.lift))))),
    warm && made("p", { class: "soft" }, "The list of a warm user no longer reads it."));
}

const SERVED = { virtual: "Served by virtual behaviour", blended: "Served by virtual and real behaviour together",
  real: "Served by real behaviour", read_repaired: "Served by virtual behaviour made on the spot", fallback: "A fallback served it" };

function why(list) {
  const generation = list.ranking_generation ? `, ranked by generation ${list.ranking_generation}` : "";
  return made("p", { id: "served" }, `${SERVED[list.served_by] ?? list.served_by}${generation}.`, list.reason ? ` ${list.reason}` : "");
}

function actions({ known, id, list }) {
  if (!known.actions.length) return null;
  if (!known.actions.includes(action)) action = [...known.actions].sort().at(-1);
  const select = made("select", { id: "action", onchange: (event) => { action = event.currentTarget.value; } },
    ...known.actions.map((each) => made("option", { value: each, selected: each === action }, each)));
  return made("div", { class: "inline" }, made("label", { for: "action" }, "A click means"), select,
    made("button", { class: "plain", id: "act-five", onclick: (event) => act(event.currentTarget, id, list.ranked.slice(0, 5).map((item) => item.item_id)) }, "Click the first five"));
}

function ranked({ id, list }, changes) {
  const explained = new Map((list.explanation ?? []).map((each) => [each.item_id, each.influences]));
  return made("ol", { class: "ranked", id: "list" }, ...list.ranked.slice(0, SHOWN).map((item, at) => {
    const was = changes ? changes.names.indexOf(item.item_id) : at, influences = explained.get(item.item_id) ?? [];
    return made("li", { class: changes && was !== at && "changed" },
      made("button", { class: "name", "data-item": item.item_id, onclick: (event) => act(event.currentTarget, id, [item.item_id]) }, item.item_id),
      made("span", { class: "score" }, changes && was !== at && moved(was, at), " ", item.score.toFixed(3)),
      influences.length > 0 && made("span", { class: "why" }, influences.slice(0, INFLUENCES).map(worded).join(" · ")));
  }));
}

const moved = (was, at) => was < 0 ? made("span", { class: "moved" }, "new")
  : made("span", { class: was > at ? "moved" : "moved down" }, was > at ? `▲${was - at}` : `▼${at - was}`);
const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;
const worded = (each) => `${each.attribute !== null ? `${each.attribute} ${each.value === null ? "unknown" : shown(each.value)}` : each.behaviour} ${signed(each.effect)}`;

function without(compared, names, warm) {
  if (!compared) return [made("p", { class: "soft" }, "There is no virtual behaviour to leave out.")];
  if (warm) return [made("p", { class: "soft" }, "The same list: of a warm user, virtual behaviour is not read.")];
  const order = [...compared.ranked].sort((one, other) => other.without - one.without).slice(0, SHOWN);
  const shared = order.filter((item) => names.includes(item.item_id)).length;
  return [
    made("p", {}, `Read with the mean of all users in its place; ${whole(shared)} of these ${order.length} are in the list too.`),
    made("ol", { class: "ranked", id: "without" }, ...order.map((item) => made("li", {},
      made("span", { class: "name" }, item.item_id), made("span", { class: "score" }, item.without.toFixed(3))))),
  ];
}

function act(button, id, items) {
  const now = Date.now();
  const acts = items.map((item_id, at) => ({ user_id: id, item_id, action, at: new Date(now + at).toISOString() }));
  return carriedOut(button, async () => {
    const answer = await behave(acts);
    const counted = items.length === 1 ? `The click on ${items[0]}` : `${items.length} clicks`;
    await show(id, answer.readable ? `${counted} arrived.` : `${counted} went to Kafka, but no worker has taken them yet.`);
  });
}
