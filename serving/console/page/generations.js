// Generations with their verdicts, and the way back.

import { generations, rollBack } from "./api.js";
import { $, carriedOut, made, notice, say } from "./elements.js";

const FIGURES = [["cold.virtual.gauc", "GAUC, cold"], ["warm.real.gauc", "GAUC, warm"]];

export async function show(said = "") {
  try {
    draw((await generations()).generations, said);
  } catch (error) {
    notice(error.message);
    $("generations").replaceChildren(made("p", { class: "soft" }, "The generations could not be read."));
  }
}

function draw(found, said) {
  if (!found.length) {
    $("generations").replaceChildren(made("p", { class: "soft" }, "There is none yet: train and publish one first."));
    return;
  }
  const names = ["Number", "State", "Made", "From", "Verdict", ...FIGURES.map(([, name]) => name)];
  const table = made("table", {}, made("caption", { class: "unseen" }, "All generations, the newest first"),
    made("thead", {}, made("tr", {}, ...names.map((name) => made("th", { scope: "col" }, name)))),
    made("tbody", {}, ...[...found].reverse().map(row)));
  const active = found.find((each) => each.state === "active"), previous = found.find((each) => each.state === "previous");
  $("generations").replaceChildren(
    said && made("p", { id: "moved" }, said),
    made("div", { class: "scroll panel", tabindex: "0", role: "region", "aria-label": "Table of generations" }, table),
    active && previous
      ? made("button", { class: "danger", id: "roll-back", onclick: (event) => ask(event.currentTarget, active.number, previous.number) },
        `Roll back from ${active.number} to ${previous.number}…`)
      : made("p", { class: "soft" }, "There is no previous generation to roll back to."));
}

function row(each) {
  return made("tr", { class: each.state === "active" && "active" },
    made("th", { scope: "row" }, String(each.number)),
    made("td", {}, each.state === "active" ? made("span", { class: "badge" }, "active") : each.state,
      each.damage && made("span", { class: "badge damage" }, each.damage)),
    made("td", {}, each.created_at ? new Date(each.created_at).toISOString().slice(0, 16).replace("T", " ") : "–"),
    made("td", {}, each.base === null ? "scratch" : `generation ${each.base}`),
    made("td", {}, each.verdict ?? "not judged"),
    ...FIGURES.map(([name]) => made("td", {}, each.metrics[name]?.toFixed(4) ?? "–")));
}

function ask(button, active, previous) {
  const dialog = $("confirm");
  $("confirm-text").textContent = `All readers go from generation ${active} to generation ${previous} at once. `
    + `Generation ${active} stays loaded, and rankings go on meanwhile.`;
  dialog.returnValue = "no";
  dialog.addEventListener("close", async () => {
    if (dialog.returnValue !== "yes") return button.focus();
    const moved = await carriedOut(button, () => rollBack(active));
    if (!moved) return button.focus();
    const said = `Done: readers moved from generation ${moved.left} to generation ${moved.active}.`;
    await show(said);
    say(said);
    $("roll-back")?.focus();
  }, { once: true });
  dialog.showModal();
}
