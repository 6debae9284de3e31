// Lines over time: drawn anew when their size or the colour scheme changes.

import { colour, el, foreign, known, short, trimmed, within } from "./page.js";

const charts = new Set(); // those on the page
const LEFT = 46, BOTTOM = 16, TOP = 4, RIGHT = 6;
const LEAST = 0.1; // of a joint's whole range is shown: one that hardly moves looks so
const FLAT = 0.02; // of a value where nobody says how far it may go
const SLACK = 0.01; // of the range beyond a limit: sensors are noisy at their ends

export class Chart {
  // lines: [{what, colour, t, v, dash, dots}]; x: [from, to]; bands, marks in units of x; pick(x) is called on a click
  constructor({ title, unit = "", lines, x, bands = [], marks = [], lower = null, upper = null, log = false, tall = false, pick = null, read = true, across = "s", label = null }) {
    Object.assign(this, { title, unit, lines, x, bands, marks, lower, upper, log, pick, read, across });
    this.range = lower !== null && upper !== null ? upper - lower : 0;
    this.ends = this.extent();
    this.word = this.range || bands.length || unit ? within(this.range || this.ends[1] - this.ends[0]) : short;
    this.base = el("canvas", { role: "img", "aria-label": label || `${title} over time` });
    this.top = el("canvas", { "aria-hidden": "true" });
    this.reading = el("span", { class: "read" });
    this.limits = el("div", { class: "range" });
    const stack = el("div", { class: tall ? "stack tall" : "stack" }, this.base, this.top);
    this.node = el("div", { class: "trace" }, el("h3", {}, el("span", { title }, foreign(title + (unit ? ` (${unit})` : ""))), this.reading), this.limits, stack);
    this.at = null;
    const picked = (event) => {
      const box = this.top.getBoundingClientRect();
      const share = (event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT);
      this.pick(this.x[0] + Math.min(1, Math.max(0, share)) * (this.x[1] - this.x[0]));
    };
    if (pick) {
      this.top.addEventListener("pointerdown", (event) => { if (event.button === 0) picked(event); });
      this.top.addEventListener("pointermove", (event) => { if (event.buttons === 1 && event.pointerType === "mouse") picked(event); });
    }
    this.sayLimits();
    charts.add(this);
    sizes.observe(stack);
    stack.chart = this;
  }
  isOutside(v) {
    const slack = SLACK * this.range;
    return v !== null && ((this.lower !== null && v < this.lower - slack) || (this.upper !== null && v > this.upper + slack));
  }
  sayLimits() {
    const places = [...new Set(this.lines.flatMap((line) => line.v.flatMap((v, i) => (this.isOutside(v) ? [line.t[i]] : []))))].sort((a, b) => a - b);
    const say = (end) => (end === null ? "none" : trimmed(Number(end.toPrecision(4))));
    if (this.lower !== null || this.upper !== null) this.limits.append(`limits ${say(this.lower)} to ${say(this.upper)} `);
    if (!places.length) return;
    const text = `${places.length} ${places.length === 1 ? "value" : "values"} outside`;
    const on = () => this.pick(places.find((at) => at > this.at + 1e-6) ?? places[0]); // the next one, round and round
    this.limits.append(this.pick ? el("button", { type: "button", class: "small old", "aria-label": `${text}, ${this.title}: show the next`, onclick: on }, text) : el("span", { class: "old" }, text));
    this.firstOutside = places[0];
  }
  extent() {
    let low = Infinity, high = -Infinity;
    for (const line of this.lines) for (const v of line.v) if (v !== null && !(this.log && v <= 0)) { low = Math.min(low, v); high = Math.max(high, v); }
    if (low > high) return this.log ? [0.1, 1] : [0, 1];
    if (this.log) return [low / 1.15, high * 1.15];
    const least = LEAST * this.range || Math.max(FLAT * Math.max(Math.abs(high), Math.abs(low)), 1e-6);
    if (high - low < least) [low, high] = [(low + high - least) / 2, (low + high + least) / 2];
    const spread = high - low;
    if (this.lower !== null && low - this.lower < 0.35 * spread) low = Math.min(low, this.lower);
    if (this.upper !== null && this.upper - high < 0.35 * spread) high = Math.max(high, this.upper);
    return [low - 0.08 * spread, high + 0.08 * spread];
  }
  scale(canvas) {
    const box = canvas.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
    canvas.width = Math.max(1, Math.round(box.width * ratio));
    canvas.height = Math.max(1, Math.round(box.height * ratio));
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const [low, high] = this.ends, width = box.width - LEFT - RIGHT, height = box.height - TOP - BOTTOM;
    const bend = this.log ? Math.log10 : (v) => v;
    return {
      pen, width: box.width, height: box.height, low, high,
      px: (x) => LEFT + (width * (x - this.x[0])) / (this.x[1] - this.x[0] || 1),
      py: (y) => TOP + height * (1 - (bend(y) - bend(low)) / (bend(high) - bend(low))),
    };
  }
  draw() {
    const { pen, width, height, low, high, px, py } = this.scale(this.base);
    const floor = height - BOTTOM, right = width - RIGHT;
    for (const band of this.bands) {
      pen.fillStyle = colour(known(band.kind));
      pen.globalAlpha = 0.2;
      pen.fillRect(px(band.start), TOP, Math.max(1.5, px(Math.min(band.stop, this.x[1])) - px(band.start)), floor - TOP);
    }
    pen.globalAlpha = 1;
    this.axes(pen, right, floor, height, low, high, px, py);
    for (const mark of this.marks) {
      pen.strokeStyle = colour(known(mark.kind));
      pen.setLineDash([2, 3]);
      path(pen, [[px(mark.at), TOP], [px(mark.at), floor]]);
      pen.setLineDash([]);
    }
    for (const limit of [this.lower, this.upper]) {
      if (limit === null || limit < low || limit > high) continue;
      pen.strokeStyle = colour("limit");
      pen.setLineDash([6, 4]);
      path(pen, [[LEFT, py(limit)], [right, py(limit)]]);
      pen.setLineDash([]);
    }
    pen.save();
    pen.beginPath();
    pen.rect(LEFT - 3, 0, right - LEFT + 6, floor + 3); // a message that came after the last frame is not on the page
    pen.clip();
    for (const line of this.lines) this.line(pen, line, px, py);
    pen.restore();
    this.cursor(this.at);
  }
  axes(pen, right, floor, height, low, high, px, py) {
    pen.font = "11px system-ui, sans-serif";
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    for (const tick of this.log ? powers(low, high) : ticks(low, high, (floor - TOP) / 34)) {
      pen.strokeStyle = colour("line");
      pen.lineWidth = 1;
      path(pen, [[LEFT, py(tick)], [right, py(tick)]]);
      pen.fillStyle = colour("soft");
      pen.fillText(trimmed(tick), LEFT - 5, Math.max(py(tick), 6));
    }
    pen.textBaseline = "alphabetic";
    const places = ticks(this.x[0], this.x[1], (right - LEFT) / 70), last = places[places.length - 1];
    const unit = `${trimmed(last)} ${this.across}`, room = pen.measureText(unit).width, end = Math.min(px(last) + room / 2, right);
    pen.textAlign = "right";
    pen.fillText(unit, end, height - 3);
    pen.textAlign = "center";
    for (const tick of places) if (px(tick) + 14 < end - room - 6) pen.fillText(trimmed(tick), px(tick), height - 3);
  }
  line(pen, line, px, py) {
    pen.strokeStyle = pen.fillStyle = colour(line.colour);
    pen.lineWidth = line.wide || 1.6;
    pen.setLineDash(line.dash || []);
    let part = [];
    const flush = () => {
      if (part.length > 1) path(pen, part);
      else if (part.length) pen.fillRect(part[0][0] - 1, part[0][1] - 1, 2, 2);
      if (line.dots) for (const [x, y] of part) dot(pen, x, y, 2.6);
      part = [];
    };
    for (let i = 0; i < line.v.length; i += 1) {
      const isThere = line.v[i] !== null && !(this.log && line.v[i] <= 0);
      if (!isThere || (line.cut && line.cut.has(i))) flush();
      if (isThere) part.push([px(line.t[i]), py(line.v[i])]);
    }
    flush();
    pen.setLineDash([]);
  }
  cursor(at) {
    this.at = at;
    const { pen, height, px, py } = this.scale(this.top);
    if (at === null) return;
    pen.strokeStyle = colour("cursor");
    pen.lineWidth = 1;
    path(pen, [[px(at), TOP], [px(at), height - BOTTOM]]);
    const told = [];
    for (const line of this.lines) {
      const v = valueAt(line, at);
      told.push(el("span", { class: `t-${line.colour}` }, `${line.what} ${this.word(v)}`));
      if (v === null) continue;
      pen.fillStyle = colour(line.colour);
      dot(pen, px(at), py(v), 3.2);
    }
    if (this.read) this.reading.replaceChildren(...told);
  }
}

const sizes = new ResizeObserver((entries) => { for (const entry of entries) if (entry.target.chart && charts.has(entry.target.chart)) entry.target.chart.draw(); });
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { for (const chart of charts) chart.draw(); });
export function dropCharts(which = charts) {
  for (const chart of [...which]) {
    sizes.unobserve(chart.base.parentNode);
    charts.delete(chart);
  }
}
export const showCursor = (at) => { for (const chart of charts) chart.cursor(at); };

function path(pen, points) {
  pen.beginPath();
  points.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
  pen.stroke();
}
function dot(pen, x, y, radius) {
  pen.beginPath();
  pen.arc(x, y, radius, 0, 7);
  pen.fill();
}
// Round numbers from low to high, about `most` of them, at least two: one alone says nothing about the scale.
export function ticks(low, high, most) {
  const rough = (high - low) / Math.max(1, most);
  if (!(rough > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10].map((n) => n * power);
  for (let place = steps.findIndex((n) => n >= rough * (1 - 1e-9)); place >= 0; place -= 1) {
    const step = steps[place], found = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k += 1) found.push(k * step);
    if (found.length > 1) return found;
  }
  return [low];
}
function powers(low, high) {
  const found = [];
  for (let p = Math.floor(Math.log10(low)); p <= Math.ceil(Math.log10(high)); p += 1) for (const n of [1, 2, 5]) found.push(n * 10 ** p);
  const inside = found.filter((v) => v >= low && v <= high);
  const whole = inside.filter((v) => Math.abs(Math.log10(v) - Math.round(Math.log10(v))) < 1e-9);
  return inside.length > 7 ? whole : inside.length > 1 ? inside : ticks(low, high, 4).filter((v) => v > 0);
}
function placeAt(times, at) { // the last one at or before
  let low = 0, high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] <= at + 1e-9) low = middle + 1; else high = middle;
  }
  return low - 1;
}
export function valueAt(line, at) {
  const place = placeAt(line.t, at);
  return place < 0 ? null : line.v[place];
}
