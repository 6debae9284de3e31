// A training run, read anew while it goes on: how it is, its curves, and what its first batch looked like.

import { $, alerts, ask, busy, complain, complains, el, factList, foreign, legend, sheets } from "./page.js";
import { Chart, dropCharts, showCursor } from "./chart.js";

const AGAIN_MS = 5000;
const OTHERS = { lr: "Learning rate", grad_norm: "Gradient norm", param_norm: "Parameter norm", frames_per_s: "Frames per second" };
const GROUPS = [["Losses", (name) => !(name in OTHERS)], ...Object.entries(OTHERS).map(([own, title]) => [title, (name) => name === own])];
const PALETTE = ["state", "action", "value", "takeover", "gap", "other", "idle"];
let about = null, logarithmic = true, drawn = "", steps = [], at = null;

export async function start(found) {
  about = found;
  show();
  setInterval(async () => {
    try { about = await ask("/api/about"); if (complains()) complain(""); show(); } catch (error) { complain(error.message); }
  }, AGAIN_MS);
}

function show() {
  const { state, ...rest } = about, content = JSON.stringify(rest);
  if (content !== drawn) draw();
  drawn = content;
  $("state").textContent = state;
}
function draw() {
  dropCharts();
  steps = [...new Set(about.curves.flatMap((curve) => curve.t))].sort((a, b) => a - b);
  const x = [0, Math.max(1, ...steps.slice(-1))];
  $("main").className = "";
  $("main").replaceChildren(
    el("section", { class: "box" }, el("h2", {}, "The run"), el("p", { id: "state", class: "state" }), alerts(about.alerts), factList(about.facts),
      about.stages.length > 1 ? el("p", { class: "soft" }, "stages: ", foreign(about.stages.map((stage) => `${stage.name} from step ${stage.at.toFixed(0)}`).join(", "))) : null),
    ...GROUPS.map(([title, belongs]) => box(title, belongs, x)), ...(about.curves.length ? [] : [el("p", { class: "soft" }, "no report yet: the page waits for the first")]), ...sheets(about.files));
  if (at !== null) showCursor(at);
  busy(false);
}
function box(title, belongs, x) {
  const whole = about.curves.find((curve) => curve.name === "loss"); // of one part only: the same line twice
  const curves = about.curves.filter((curve) => belongs(curve.name) && !(curve.name === "flow" && whole && String(curve.v) === String(whole.v)));
  if (!curves.length) return "";
  const first = title === "Losses", form = (i) => (i >= PALETTE.length ? "dashed" : "");
  const name = (curve) => (curve.name.startsWith("val_") ? `${curve.name.slice(4)}, held out` : curve.name);
  const marks = about.stages.filter((stage) => stage.at > 0).map((stage) => ({ kind: "label", at: stage.at, text: stage.name }));
  const lines = curves.map((curve, i) => ({ what: curves.length > 1 ? name(curve) : "", colour: PALETTE[i % PALETTE.length], t: curve.t, v: curve.v, dots: curve.name.startsWith("val_"), dash: form(i) ? [5, 3] : [] }));
  const chart = new Chart({ title, lines, x, marks, tall: first, log: first && logarithmic, across: "steps", label: `${title} over steps`, pick: cursorAt });
  const scale = first ? el("label", { class: "soft" }, el("input", { type: "checkbox", checked: logarithmic, onchange: (event) => { logarithmic = event.target.checked; draw(); $("state").textContent = about.state; document.querySelector("input[type=checkbox]").focus(); } }), " logarithmic") : null;
  const stages = first && marks.length ? [["label", "a stage begins", "dotted"]] : [];
  return el("section", { class: "box" }, scale, curves.length > 1 || stages.length ? legend(...curves.map((curve, i) => [PALETTE[i % PALETTE.length], name(curve), form(i)]), ...stages) : null, chart.node);
}
const cursorAt = (asked) => { // at the report that is nearest
  at = steps.reduce((best, step) => (Math.abs(step - asked) < Math.abs(best - asked) ? step : best), steps[0] ?? 0);
  showCursor(at);
};

export const KEYS = [["← →", "the values of the report before, after"], ["Home End", "of the first, the last"], ["?", "these keys"]];
export function press(key) {
  if (!steps.length) return false;
  const place = at === null ? steps.length : steps.indexOf(at), last = steps.length - 1;
  const places = { ArrowLeft: place - 1, ArrowRight: place + 1, Home: 0, End: last };
  if (!(key in places)) return false;
  cursorAt(steps[Math.min(last, Math.max(0, places[key]))]);
  return true;
}
