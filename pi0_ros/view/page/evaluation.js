// What `pi0 eval` found: the worst moments, errors by joint, the error of every chunk.

import { $, busy, cameraFile, el, factList, foreign, legend, noteList, percent, prompt, sheets, short } from "./page.js";
import { Chart, dropCharts } from "./chart.js";

let about = null, moment = 0, ofMoment = [], over = null;

export async function start(found, asked) {
  about = found;
  moment = Number(asked.get("moment")) || 0;
  dropCharts();
  const list = worstList();
  $("main").className = list ? "split" : "";
  $("main").replaceChildren(...(list ? [list] : []), el("div", {},
    el("section", { class: "box" }, factList(about.facts), noteList(about.notes)),
    el("div", { id: "shown" }), table(), ...allChunks(), ...sheets(about.files)));
  busy(false);
  if (about.worst.length) show(moment);
}
function worstList() {
  if (!about.worst.length) return null;
  const wide = window.matchMedia("(min-width: 821px)").matches;
  const row = (each, i) => el("li", {}, el("button", { type: "button", "data-moment": i, onclick: () => show(i) }, `${percent(each.error)} of range`, el("small", {}, foreign(`episode ${each.episode}, ${(each.frame / about.fps).toFixed(1)} s: ${worstJoint(each)}`))));
  return el("details", { id: "list", class: "box", open: wide }, el("summary", {}, `Worst moments (${about.worst.length})`), el("ol", {}, ...about.worst.map(row)));
}
function table() {
  const rows = about.table.map((row) => el("tr", {}, el("th", { scope: "row" }, foreign(row.joint)), ...["mean", "p95", "first", "last"].map((key) => el("td", {}, row[key] === null ? "" : short(row[key]))), el("td", {}, foreign(row.unit)), el("td", {}, percent(row.of_holding))));
  const head = el("tr", {}, ...["joint", "mean error", "95 % below", "first action", "last action", "unit", "of holding"].map((text) => el("th", { scope: "col" }, text)));
  return el("section", { class: "box" }, el("h2", {}, "Errors by joint"), el("p", { class: "soft" }, "Of holding: against a policy that does not move. Below 100 % it knows something."),
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "errors by joint" }, el("table", {}, el("thead", {}, head), el("tbody", {}, ...rows))));
}
function allChunks() {
  if (!about.chunks.length) return [];
  const marks = [], cut = new Set();
  about.chunks.forEach((chunk, i) => { if (i && chunk[0] !== about.chunks[i - 1][0]) { marks.push({ kind: "label", at: i - 0.5 }); cut.add(i); } });
  const errors = about.chunks.map((chunk) => (chunk[2] === null ? null : 100 * chunk[2]));
  over = new Chart({ title: "Error of each chunk", unit: "% of the joints' ranges", lines: [{ what: "", colour: "state", t: errors.map((_, i) => i), v: errors, cut, dots: about.chunks.length < 80 }], x: [0, Math.max(1, about.chunks.length - 1)], marks, across: "chunks", label: "error of each chunk", pick: nearest });
  over.node.id = "chunks";
  return [el("section", { class: "box" }, el("p", { class: "soft" }, "Episode after episode; dotted: the next begins. A click shows the nearest of the worst moments."), over.node)];
}

const worstJoint = (each) => {
  const place = each.by_joint.reduce((best, value, i) => (value !== null && value > (each.by_joint[best] ?? -1) ? i : best), 0);
  return about.joints[place] ? `farthest off: ${about.joints[place].name}` : "";
};
const placeOf = (each) => about.chunks.findIndex(([number, frame]) => number === each.episode && frame >= each.frame);
function nearest(at) {
  let best = 0;
  about.worst.forEach((each, i) => { if (Math.abs(placeOf(each) - at) < Math.abs(placeOf(about.worst[best]) - at)) best = i; });
  if (about.worst.length) show(best);
}
function show(number) {
  moment = Math.min(about.worst.length - 1, Math.max(0, number));
  const each = about.worst[moment], dt = 1 / about.fps;
  for (const button of document.querySelectorAll("[data-moment]")) {
    const isIt = Number(button.dataset.moment) === moment, list = $("list");
    button.setAttribute("aria-current", String(isIt));
    if (isIt && list.scrollHeight > list.clientHeight) list.scrollTop = Math.max(0, button.parentNode.offsetTop - list.clientHeight / 2);
  }
  dropCharts(ofMoment);
  ofMoment = about.joints.map((joint, j) => {
    const line = (what, rows, name, extra = {}) => ({ what, colour: name, t: rows.map((_, i) => i * dt), v: rows.map((row) => row[j]), ...extra });
    const chart = new Chart({ title: joint.name, unit: joint.unit, lower: joint.lower, upper: joint.upper, x: [0, Math.max(dt, (each.recorded.length - 1) * dt)], read: false, label: `${joint.name}: predicted and recorded`,
      lines: [line("held", each.recorded.map(() => each.held), "idle", { dash: [3, 3] }), line("recorded", each.recorded, "state", { wide: 2.2 }), line("predicted", each.predicted, "action")] });
    chart.reading.textContent = `${percent(each.by_joint[j])} of range`;
    return chart;
  });
  const step = (text, by) => el("button", { type: "button", disabled: moment + by < 0 || moment + by >= about.worst.length, onclick: () => show(moment + by) }, text);
  $("shown").replaceChildren(el("section", { class: "box", id: "moment" },
    el("h2", {}, `Moment ${moment + 1} of ${about.worst.length}: episode ${each.episode}, frame ${each.frame}, ${(each.frame * dt).toFixed(2)}\u00a0s`),
    prompt(each.prompt || "no prompt"),
    el("p", { class: "soft" }, `${percent(each.error)} of the joints' ranges; `, foreign(worstJoint(each))),
    el("div", { class: "marks spaced" }, step("‹ worse", -1), step("less bad ›", 1)),
    el("div", { class: "pictures" }, ...each.pictures.map(cameraFile)),
    legend(["state", "recorded"], ["action", "predicted"], ["held", "holding still", "dashed"], ["limit", "limit, drawn where values come near", "dashed"]),
    el("div", { class: "traces" }, ...ofMoment.map((chart) => chart.node))));
  if (over) over.cursor(placeOf(each));
  history.replaceState(null, "", `#moment=${moment}`);
}

export const KEYS = [["← →", "a worse moment, a less bad one"], ["Home End", "the worst, the least bad"], ["?", "these keys"]];
export function press(key) {
  const places = { ArrowLeft: moment - 1, ArrowRight: moment + 1, Home: 0, End: about.worst.length - 1 };
  if (!about.worst.length || !(key in places)) return false;
  show(places[key]);
  return true;
}
