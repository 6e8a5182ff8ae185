// The live view: a funnel, and rates, latency and lag as they move.

import { overview } from "./api.js";
import { bar, card, spark } from "./charts.js";
import { $, made, notice, plural, whole } from "./elements.js";

const EVERY = 2000, KEPT = 60;
const looks = [];
let timer = null, run = 0;

export function show() {
  const own = ++run;
  async function look() {
    try {
      const found = await overview();
      if (own !== run) return;
      looks.push({ ...found, at: Date.parse(found.at) });
      if (looks.length > KEPT + 1) looks.shift();
      notice();
      draw();
    } catch (error) {
      if (own !== run) return;
      notice(error.message);
      $("now-note").textContent = "Nothing to show until the service answers.";
    }
    timer = setTimeout(look, EVERY);
  }
  look();
}

export function hide() {
  run += 1;
  clearTimeout(timer);
}

function draw() {
  const now = looks.at(-1), { events, users } = now;
  const away = now.away.length ? ` Away: ${now.away.join(", ")}.` : "";
  $("now-note").textContent = (now.generation === null ? "No generation is active yet."
    : `Generation ${now.generation} is active.`) + away;
  const steps = [
    ["Registered", events.registered?.events, "sign-up"],
    ["Enriched", events.enriched?.events, "virtual behaviour"],
    ["Ranked", events.ranked?.events, "list shown", "lists shown"],
    ["Warmed", users && users.warming + users.warm, users && `user who acted, ${whole(users.warm)} warm`,
      users && `users who acted, ${whole(users.warm)} warm`],
  ];
  const most = Math.max(...steps.map(([, count]) => count ?? 0), 1);
  $("funnel").replaceChildren(...steps.map(([name, count, one, many]) => made("li", {},
    made("span", {}, name), bar([["fill", (count ?? 0) / most]]),
    made("span", {}, count === undefined || count === null ? "not known" : made("strong", {}, whole(count)),
      count === undefined || count === null ? "" : ` ${plural(count, one, many).replace(/^\S+ /, "")}`))));
  $("stages").replaceChildren(...stages(users));
  $("charts").replaceChildren(...charts());
}

function stages(users) {
  if (!users?.users) return [made("p", { class: "soft" }, users ? "Nobody has signed up yet." : "The users could not be read.")];
  const parts = [["third", users.cold], ["second", users.warming], ["fill", users.warm]];
  return [
    made("p", {}, made("strong", {}, whole(users.users)), ` ${users.users === 1 ? "user is" : "users are"} stored`,
      users.whole ? "" : " (counting)", `; ${whole(users.virtual)} are ranked by virtual behaviour.`),
    bar(parts.map(([kind, count]) => [kind, count / users.users])),
    made("p", { class: "legend" },
      made("span", {}, made("span", { class: "key first" }), `cold ${whole(users.cold)}`),
      made("span", {}, made("span", { class: "key second" }), `warming ${whole(users.warming)}`),
      made("span", {}, made("span", { class: "key third" }), `warm ${whole(users.warm)}`)),
  ];
}

// What came between each two looks; null where either did not tell.
const between = (told) => looks.slice(1).map((look, at) => told(looks[at], look, (look.at - looks[at].at) / 1000));
const rate = (count) => between((before, after, seconds) => {
  const [low, high] = [count(before), count(after)];
  return low === undefined || high === undefined || seconds <= 0 ? null : Math.max(high - low, 0) / seconds;
});
const answered = (look) => Object.values(look.answers).reduce((sum, each) => sum + each, 0);

// Where a share of the rankings between two looks lies, in milliseconds, within its bucket by a straight line.
function quantile(before, after, share) {
  const { upper, counts } = after.ranking_seconds, old = before.ranking_seconds.counts;
  const own = counts.map((count, at) => count - (old[at] ?? 0)), total = own.reduce((sum, each) => sum + each, 0);
  if (total <= 0) return null;
  let left = share * total;
  for (let at = 0; at < own.length; at += 1) {
    const low = at ? upper[at - 1] : 0, high = upper[at] ?? low;
    if (left <= own[at]) return 1000 * (low + (high - low) * left / own[at]);
    left -= own[at];
  }
  return null;
}

function charts() {
  const lag = (name) => looks.map((look) => look.events[name]?.unhandled ?? null);
  const series = [
    ["Sign-ups a second", rate((look) => look.events.registered?.events), (value) => value.toFixed(1)],
    ["Rankings a second", rate(answered), (value) => value.toFixed(1)],
    ["Ranking, p99", between((before, after) => quantile(before, after, 0.99)), (value) => `${value.toFixed(1)} ms`],
    ["Ranking, p50", between((before, after) => quantile(before, after, 0.5)), (value) => `${value.toFixed(1)} ms`],
    ["Sign-ups that wait", lag("registered"), whole],
    ["Behaviours that wait", lag("behaved"), whole],
    ["Rankings not in the log yet", lag("ranked"), whole],
    ["Dead letters", looks.map((look) => look.events.dead_letters?.events ?? null), whole],
  ];
  return series.map(([title, values, worded]) => {
    const last = values.at(-1), now = last === null || last === undefined ? "–" : worded(last);
    return card(title, now, spark(values, `${title}: now ${now === "–" ? "nothing to tell" : now}`));
  });
}
