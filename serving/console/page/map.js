// The map of real and virtual behaviour, with one user on it.

import { behaviourMap, placeOnMap } from "./api.js";
import { drawn, made, plural } from "./elements.js";

const WIDTH = 900, HEIGHT = 460, EDGE = 24;
let kept = null;

// A panel with the map of the active generation; `placed` says whether the user has a place on it.
export async function mapOf(id, placed) {
  try {
    const place = placed ? await placeOnMap(id) : null;
    if (!kept || (place && kept.generation !== place.generation)) kept = await behaviourMap();
    return panel(id, kept, place);
  } catch (error) {
    return made("div", { class: "panel" }, made("h3", {}, "The map"), made("p", { class: "soft" }, error.message));
  }
}

function panel(id, map, place) {
  const at = ([x, y]) => [EDGE + x * (WIDTH - 2 * EDGE), HEIGHT - EDGE - y * (HEIGHT - 2 * EDGE)];
  const words = `${plural(map.real.length, "real behaviour")} and ${plural(map.virtual.length, "virtual one")} of training users`
    + (place ? `; ${id} is placed among them` : "");
  const svg = drawn("svg", { class: "map", id: "map", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `Map: ${words}` },
    ...map.real.map(at).map(([x, y]) => drawn("circle", { class: "real", cx: x.toFixed(1), cy: y.toFixed(1), r: 3.5 })),
    ...map.virtual.map(at).map(([x, y]) => drawn("rect", { class: "virtual", x: (x - 3).toFixed(1), y: (y - 3).toFixed(1), width: 6, height: 6 })));
  if (place) {
    const [x, y] = at([place.x, place.y]), right = x < WIDTH * 0.75;
    svg.append(drawn("circle", { class: "ring", cx: x, cy: y, r: 15 }), drawn("circle", { class: "own", id: "own", cx: x, cy: y, r: 8 }),
      drawn("text", { x: right ? x + 22 : x - 22, y: y + 5, "text-anchor": right ? "start" : "end" }, id));
  }
  return made("div", { class: "panel" }, made("h3", {}, "The map"),
    made("p", { class: "soft" }, "Users whom the generation was trained on, laid out by likeness (t-SNE). ",
      place ? `${id} lies between the virtual behaviours nearest to its own${place.distance < 0.001 ? ", and on one of them" : ""}.`
        : "This user has no virtual behaviour to place."),
    svg,
    made("p", { class: "legend" }, made("span", {}, made("span", { class: "dot real" }), "real behaviour"),
      made("span", {}, made("span", { class: "dot virtual" }), "virtual behaviour"),
      place && made("span", {}, made("span", { class: "dot own" }), "this user")));
}
