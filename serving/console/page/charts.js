// Small charts as inline SVG.

import { drawn, made } from "./elements.js";

// A line over the last values; nulls are gaps. `words` say the same to who does not see it.
export function spark(values, words) {
  const known = values.filter((value) => value !== null);
  const top = Math.max(...known, 1e-9) * 1.1, last = Math.max(values.length - 1, 1);
  const points = values.map((value, at) => value === null ? null : [100 * at / last, 40 - 38 * value / top]);
  const line = points.map((point, at) => point && `${points[at - 1] ? "L" : "M"}${point.map((each) => each.toFixed(2)).join(" ")}`)
    .filter(Boolean).join(" ");
  const shown = points.filter(Boolean);
  const area = shown.length > 1 ? `M${shown[0][0]} 40 ${shown.map((point) => `L${point[0]} ${point[1]}`).join(" ")} L${shown.at(-1)[0]} 40 Z` : "";
  return drawn("svg", { class: "spark", viewBox: "0 0 100 40", preserveAspectRatio: "none", role: "img", "aria-label": words },
    drawn("path", { class: "area", d: area }), drawn("path", { d: line }));
}

// A bar of shares in [0, 1], side by side.
export function bar(parts, hidden = true) {
  const svg = drawn("svg", { class: "bar", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": hidden && "true" },
    drawn("rect", { class: "track", width: 100, height: 10, rx: 1 }));
  let start = 0;
  for (const [kind, share] of parts) {
    svg.append(drawn("rect", { class: kind, x: start, width: Math.max(100 * share, 0), height: 10 }));
    start += 100 * share;
  }
  return svg;
}

// M vectors of D numbers as a strip: the darker a cell, the further from 0; its colour tells the sign.
export function strip(vectors) {
  const columns = vectors[0].length, most = Math.max(...vectors.flat().map(Math.abs), 1e-9);
  const svg = drawn("svg", { class: "strip", viewBox: `0 0 ${columns * 10} ${vectors.length * 14}`, role: "img",
    "aria-label": `Virtual behaviour: ${vectors.length} vectors of ${columns} numbers, the largest ${most.toPrecision(3)}` });
  vectors.forEach((vector, row) => vector.forEach((value, column) => svg.append(drawn("rect", {
    class: value < 0 ? "minus" : "plus", x: column * 10, y: row * 14, width: 9, height: 13,
    "fill-opacity": (0.06 + 0.94 * Math.abs(value) / most).toFixed(2),
  }))));
  return svg;
}

export function card(title, value, chart, note = "") {
  return made("div", { class: "panel" }, made("h4", { class: "unseen" }, title),
    made("p", { class: "soft", "aria-hidden": "true" }, title), made("p", { class: "card-value" }, value), chart,
    note && made("p", { class: "soft" }, note));
}
