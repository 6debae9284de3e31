"use strict";
// The page of `pi0 view PATH`. Every text from a file becomes a text node, never markup; nothing is sent but GET.

const $ = (id) => document.getElementById(id);
const el = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "class") made.className = value;
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
};
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const known = (kind) => (["idle", "takeover", "gap", "label"].includes(kind) ? kind : kind === "left out" ? "gap" : "other");
const short = (value) => {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(2);
  return value.toFixed(size >= 100 ? 1 : size >= 10 ? 2 : 3);
};
const percent = (value) => (value === null ? "–" : `${(100 * value).toFixed(value < 0.1 ? 1 : 0)} %`);
const clock = (seconds) => (seconds >= 60 ? `${Math.floor(seconds / 60)} min ${(seconds % 60).toFixed(1)} s` : `${seconds.toFixed(2)} s`);

let trouble = "";
const complain = (text) => {
  trouble = text;
  $("trouble").textContent = text;
  $("trouble").hidden = !text;
};
async function ask(path) {
  let answer;
  try {
    answer = await fetch(path);
  } catch {
    throw new Error("the server is gone: start `pi0 view` again");
  }
  const content = answer.headers.get("Content-Type").startsWith("application/json") ? await answer.json() : { error: await answer.text() };
  if (content.error !== undefined) throw new Error(content.error);
  return content;
}

// ---------------------------------------------------------------------------------------------------------- charts

const charts = new Set(); // those on the page: drawn anew when their size or the colour scheme changes
const LEFT = 46, BOTTOM = 16, TOP = 4, RIGHT = 6;

class Chart {
  // lines: [{what, colour, t, v, dash, dots}]; x: [from, to]; bands, marks in units of x; pick(x) is called on a click
  constructor({ title, unit = "", lines, x, bands = [], marks = [], lower = null, upper = null, log = false, tall = false, pick = null, read = true, across = "s", label = null }) {
    Object.assign(this, { title, unit, lines, x, bands, marks, lower, upper, log, pick, read, across });
    this.base = el("canvas", { role: "img", "aria-label": label || `${title} over time` });
    this.top = el("canvas", { "aria-hidden": "true" });
    this.reading = el("span", { class: "read" });
    this.range = el("div", { class: "range" });
    const stack = el("div", { class: tall ? "stack tall" : "stack" }, this.base, this.top);
    this.node = el("div", { class: "trace" }, el("h3", {}, el("span", { title }, title + (unit ? ` (${unit})` : "")), this.reading), this.range, stack);
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
    this.sayRange();
    charts.add(this);
    sizes.observe(stack);
    stack.chart = this;
  }
  sayRange() {
    let outside = 0;
    const slack = this.lower !== null && this.upper !== null ? 0.01 * (this.upper - this.lower) : 0; // sensors are noisy at their ends
    for (const line of this.lines) for (const v of line.v) if (v !== null && ((this.lower !== null && v < this.lower - slack) || (this.upper !== null && v > this.upper + slack))) outside += 1;
    if (this.lower !== null || this.upper !== null) this.range.append(`limits ${short(this.lower)} to ${short(this.upper)} `);
    if (outside) this.range.append(el("span", { class: "old" }, ` ${outside} values outside`));
  }
  extent() {
    let low = Infinity, high = -Infinity;
    for (const line of this.lines) for (const v of line.v) if (v !== null && !(this.log && v <= 0)) { low = Math.min(low, v); high = Math.max(high, v); }
    if (low > high) return this.log ? [0.1, 1] : [0, 1];
    if (this.log) return [low / 1.15, high * 1.15];
    const spread = Math.max(high - low, 1e-3 * Math.max(Math.abs(high), Math.abs(low)), 1e-6);
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
    const [low, high] = this.ends || (this.ends = this.extent()), width = box.width - LEFT - RIGHT, height = box.height - TOP - BOTTOM;
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
    pen.font = "11px system-ui, sans-serif";
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    for (const tick of this.log ? powers(low, high) : ticks(low, high, (floor - TOP) / 34)) {
      pen.strokeStyle = colour("line");
      pen.lineWidth = 1;
      path(pen, [[LEFT, py(tick)], [right, py(tick)]]);
      pen.fillStyle = colour("soft");
      pen.fillText(trimmed(tick), LEFT - 5, py(tick));
    }
    pen.textBaseline = "alphabetic";
    const places = ticks(this.x[0], this.x[1], (right - LEFT) / 70), last = places[places.length - 1];
    const unit = `${trimmed(last)} ${this.across}`, room = pen.measureText(unit).width, end = Math.min(px(last) + room / 2, right);
    pen.textAlign = "right";
    pen.fillText(unit, end, height - 3);
    pen.textAlign = "center";
    for (const tick of places) if (px(tick) + 14 < end - room - 6) pen.fillText(trimmed(tick), px(tick), height - 3);
    for (const mark of this.marks) {
      pen.strokeStyle = colour(mark.kind === "prompt" ? "other" : "label");
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
    for (const line of this.lines) {
      pen.strokeStyle = pen.fillStyle = colour(line.colour);
      pen.lineWidth = line.wide || 1.6;
      pen.setLineDash(line.dash || []);
      let part = [];
      const flush = () => { if (part.length > 1) path(pen, part); else if (part.length) pen.fillRect(part[0][0] - 1, part[0][1] - 1, 2, 2); part = []; };
      for (let i = 0; i < line.v.length; i += 1) {
        if (line.v[i] === null || (this.log && line.v[i] <= 0) || (line.cut && line.cut.has(i))) flush();
        if (line.v[i] !== null && !(this.log && line.v[i] <= 0)) part.push([px(line.t[i]), py(line.v[i])]);
      }
      if (line.dots) for (const [x, y] of part) { pen.beginPath(); pen.arc(x, y, 2.6, 0, 7); pen.fill(); }
      flush();
      pen.setLineDash([]);
    }
    this.cursor(this.at);
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
      if (v === null) continue;
      pen.fillStyle = colour(line.colour);
      pen.beginPath();
      pen.arc(px(at), py(v), 3.2, 0, 7);
      pen.fill();
      told.push(el("span", { class: `t-${line.colour}` }, `${line.what} ${short(v)}`));
    }
    if (this.read) this.reading.replaceChildren(...told);
  }
}
const sizes = new ResizeObserver((entries) => { for (const entry of entries) if (entry.target.chart && charts.has(entry.target.chart)) entry.target.chart.draw(); });
const redraw = () => { for (const chart of charts) chart.draw(); drawStrip(); };
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
function dropCharts() { for (const chart of charts) sizes.unobserve(chart.base.parentNode); charts.clear(); }
function path(pen, points) {
  pen.beginPath();
  points.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
  pen.stroke();
}
function ticks(low, high, most) {
  const rough = (high - low) / Math.max(1, most);
  if (!(rough > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k += 1) found.push(k * step);
  return found;
}
function powers(low, high) {
  const found = [];
  for (let p = Math.floor(Math.log10(low)); p <= Math.ceil(Math.log10(high)); p += 1) for (const n of [1, 2, 5]) found.push(n * 10 ** p);
  const inside = found.filter((v) => v >= low && v <= high);
  return inside.length > 7 ? inside.filter((v) => Math.abs(Math.log10(v) - Math.round(Math.log10(v))) < 1e-9) : inside;
}
const trimmed = (value) => (Math.abs(value) >= 1e5 || (value !== 0 && Math.abs(value) < 1e-3) ? value.toExponential(0) : String(Number(value.toPrecision(6))));
function placeAt(times, at) { // the last one at or before
  let low = 0, high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] <= at + 1e-9) low = middle + 1; else high = middle;
  }
  return low - 1;
}
function valueAt(line, at) {
  const place = placeAt(line.t, at);
  return place < 0 ? null : line.v[place];
}
const legend = (...pairs) => el("div", { class: "legend" }, ...pairs.map(([kind, text, block]) => el("span", {}, el("span", { class: `key c-${kind}${block ? " block" : ""}` }), text)));
const factList = (facts) => el("dl", {}, ...facts.flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)]));
const noteList = (notes) => (notes && notes.length ? el("div", {}, ...notes.map((note) => el("p", { class: "soft" }, note))) : null);

// -------------------------------------------------------------------------------------------- datasets and recordings

let about = null, episode = null, frame = 0, cameras = [], playing = null, wantedEpisode = 0;

function showEpisodes() {
  const search = el("input", { type: "search", placeholder: "search number or text", "aria-label": "search episodes", id: "find" });
  const list = el("ol", { id: "rows" }), more = el("button", { type: "button", hidden: true }, "more");
  const noun = about.kind === "bag" ? "Recordings" : "Episodes";
  const details = el("details", { id: "list", class: "box", open: window.matchMedia("(min-width: 821px)").matches },
    el("summary", {}, `${noun} (${about.episodes})`), search, list, more,
    el("div", { class: "soft", id: "about" }, factList(about.facts)));
  $("main").className = "split";
  $("main").replaceChildren(details, el("div", { id: "shown" }));
  let asked = 0;
  const load = async (from) => {
    const mine = (asked += 1);
    try {
      const found = await ask(`/api/episodes?from=${from}&find=${encodeURIComponent(search.value)}`);
      if (mine !== asked) return;
      if (!from) list.replaceChildren();
      for (const [number, text, seconds] of found.rows) {
        const told = seconds === null ? "" : ` · ${clock(seconds)}`;
        list.append(el("li", {}, el("button", { type: "button", "data-episode": number, "aria-current": String(number === wantedEpisode), onclick: () => openEpisode(number) },
          about.kind === "bag" ? text : `${number}${told}`, about.kind === "bag" ? null : el("small", {}, text))));
      }
      more.hidden = list.children.length >= found.found;
      more.textContent = `more (${found.found - list.children.length})`;
      if (!found.found) list.append(el("li", { class: "soft" }, "nothing found"));
    } catch (error) { complain(error.message); }
  };
  search.addEventListener("input", () => load(0));
  more.addEventListener("click", () => load(list.children.length));
  load(0);
}

async function openEpisode(number, at = 0) {
  stop();
  wantedEpisode = number;
  for (const button of document.querySelectorAll("[data-episode]")) button.setAttribute("aria-current", String(Number(button.dataset.episode) === number));
  $("main").setAttribute("aria-busy", "true");
  let found;
  try {
    found = await ask(`/api/episode?n=${number}`);
  } catch (error) {
    if (number !== wantedEpisode) return;
    complain(error.message);
    dropCharts();
    episode = null;
    $("shown").replaceChildren();
    $("main").setAttribute("aria-busy", "false");
    return;
  }
  if (number !== wantedEpisode) return;
  complain("");
  episode = found;
  dropCharts();
  const seconds = episode.frames / episode.fps, last = (episode.frames - 1) / episode.fps;
  cameras = episode.cameras.map((name, place) => new Camera(name, place));
  const kinds = [...new Set(episode.bands.map((band) => band.kind))];
  const pick = (x) => show(Math.round(x * episode.fps));
  const traces = episode.traces.map((trace) => new Chart({
    title: trace.name, unit: trace.unit, lower: trace.lower, upper: trace.upper, x: [0, Math.max(last, 1 / episode.fps)], bands: episode.bands, marks: episode.marks, pick,
    lines: trace.curves.map((curve) => ({ what: curve.what, colour: curve.what, t: curve.t || curve.v.map((_, i) => i / episode.fps), v: curve.v, wide: curve.what === "action" ? 2.2 : 1.4 }))
      .sort((a, b) => (a.what < b.what ? -1 : 1)),
  }));
  const prompt = (episode.facts.find(([name]) => name === "prompt") || ["", ""])[1];
  const slider = el("input", { type: "range", id: "slider", min: 0, max: episode.frames - 1, value: 0, "aria-label": "frame", oninput: () => { stop(); show(Number($("slider").value)); } });
  $("shown").replaceChildren(
    el("section", { class: "box" }, el("p", { class: "prompt" }, prompt || "no prompt"), el("p", { class: "soft" }, `${episode.title} · ${clock(seconds)}`), noteList(episode.notes),
      episode.marks.length ? el("div", { class: "marks", "aria-label": "prompts and labels" }, ...episode.marks.map((mark) => el("button", { type: "button", onclick: () => show(Math.ceil(mark.at * episode.fps - 1e-6)) }, `${mark.at.toFixed(1)} s · ${mark.kind}: ${mark.text}`))) : null),
    el("div", { class: "pictures" }, ...cameras.map((camera) => camera.node)),
    el("section", { class: "box", id: "scrub", "aria-label": "time" }, el("canvas", { id: "strip", "aria-hidden": "true", onpointerdown: (event) => { const box = $("strip").getBoundingClientRect(); show(Math.round(((event.clientX - box.left) / box.width) * (episode.frames - 1))); } }),
      el("div", { class: "row" },
        el("button", { type: "button", "aria-label": "a frame back", onclick: () => { stop(); show(frame - 1); } }, "‹"),
        el("button", { type: "button", id: "play", "aria-pressed": "false", onclick: toggle }, "play"),
        el("button", { type: "button", "aria-label": "a frame on", onclick: () => { stop(); show(frame + 1); } }, "›"),
        slider, el("output", { id: "time", for: "slider" })),
      el("div", { id: "now", "aria-live": "off" })),
    el("section", { class: "box" }, el("h2", {}, "Joints"),
      legend(["state", "state"], ["action", "action"], ["limit", "limit, drawn where values come near"], ...kinds.map((kind) => [known(kind), kind, true]), ...(episode.marks.length ? [["label", "label", false]] : [])),
      traces.length ? el("div", { class: "traces" }, ...traces.map((chart) => chart.node)) : el("p", { class: "soft" }, "no joint is recorded here")),
    el("section", { class: "box" }, el("h2", {}, "About it"), factList(episode.facts)));
  $("main").setAttribute("aria-busy", "false");
  show(at);
  drawStrip();
}

class Camera {
  constructor(name, place) {
    this.place = place;
    this.wanted = this.loading = null;
    this.image = el("img", { alt: `camera ${name}`, draggable: "false" });
    this.why = el("span", { class: "why", hidden: true });
    this.age = el("span", { class: "soft" });
    const button = el("button", { type: "button", "aria-pressed": "false", "aria-label": `enlarge camera ${name}`, onclick: () => button.setAttribute("aria-pressed", String(this.node.classList.toggle("large"))) }, this.image, this.why);
    this.node = el("figure", {}, button, el("figcaption", {}, el("span", { title: name }, name), this.age));
  }
  async show(number) {
    this.wanted = number;
    if (this.loading !== null) return; // the newest wish is fetched next
    const mine = episode;
    while (this.wanted !== this.loading && mine === episode) {
      this.loading = this.wanted;
      try {
        const answer = await fetch(`/picture?n=${mine.number}&camera=${this.place}&frame=${this.loading}`);
        if (!answer.ok) throw new Error((await answer.json()).error);
        const age = answer.headers.get("X-Age-S"), address = URL.createObjectURL(await answer.blob()), before = this.image.src;
        if (mine !== episode) { URL.revokeObjectURL(address); return; }
        this.image.src = address;
        this.image.dataset.frame = this.loading;
        if (before.startsWith("blob:")) URL.revokeObjectURL(before);
        this.why.hidden = true;
        this.age.textContent = age === null ? "" : `${(1000 * Number(age)).toFixed(0)} ms old`;
        this.age.className = Number(age) > 0.5 ? "old" : "soft";
      } catch (error) {
        this.image.removeAttribute("src");
        this.image.dataset.frame = this.loading;
        this.why.textContent = error.message;
        this.why.hidden = false;
        this.age.textContent = "";
      }
    }
    this.loading = null;
  }
}

function show(number) {
  if (!episode) return;
  frame = Math.min(episode.frames - 1, Math.max(0, Number.isFinite(number) ? number : 0));
  const at = frame / episode.fps;
  $("slider").value = frame;
  $("slider").setAttribute("aria-valuetext", `${at.toFixed(2)} s`);
  $("time").textContent = `${at.toFixed(2)} s · frame ${frame} / ${episode.frames - 1}`;
  for (const camera of cameras) camera.show(frame);
  for (const chart of charts) chart.cursor(at);
  const here = episode.bands.filter((band) => band.start <= at + 1e-9 && at < band.stop);
  const said = ["prompt", "label"].map((kind) => episode.marks.filter((mark) => mark.kind === kind && mark.at <= at + 1e-9).pop()).filter(Boolean);
  $("now").replaceChildren(...here.map((band) => el("span", {}, el("span", { class: `key block c-${known(band.kind)}` }), `${band.kind}: ${band.text}`)), ...said.map((mark) => el("span", {}, el("span", { class: "key c-label" }), mark.text)));
  history.replaceState(null, "", `#episode=${episode.number}&frame=${frame}`);
}
function drawStrip() {
  const strip = $("strip");
  if (!strip || !episode) return;
  const ratio = window.devicePixelRatio || 1, box = strip.getBoundingClientRect(), seconds = episode.frames / episode.fps;
  strip.width = box.width * ratio;
  strip.height = box.height * ratio;
  const pen = strip.getContext("2d");
  pen.fillStyle = colour("hover");
  pen.fillRect(0, 0, strip.width, strip.height);
  for (const band of episode.bands) {
    pen.fillStyle = colour(known(band.kind));
    pen.fillRect((band.start / seconds) * strip.width, 0, Math.max(2 * ratio, ((band.stop - band.start) / seconds) * strip.width), strip.height);
  }
  pen.fillStyle = colour("label");
  for (const mark of episode.marks) pen.fillRect((mark.at / seconds) * strip.width, 0, 2 * ratio, strip.height);
}
function toggle() {
  if (playing !== null) { stop(); return; }
  if (!episode) return;
  if (frame >= episode.frames - 1) show(0);
  const from = frame, since = performance.now();
  $("play").textContent = "pause";
  $("play").setAttribute("aria-pressed", "true");
  const step = () => {
    const next = from + Math.floor(((performance.now() - since) / 1000) * episode.fps);
    if (next !== frame) show(next);
    if (next >= episode.frames - 1) stop();
    else playing = requestAnimationFrame(step);
  };
  playing = requestAnimationFrame(step);
}
function stop() {
  if (playing !== null) cancelAnimationFrame(playing);
  playing = null;
  if ($("play")) { $("play").textContent = "play"; $("play").setAttribute("aria-pressed", "false"); }
}
function neighbour(step) {
  const rows = [...document.querySelectorAll("[data-episode]")], place = rows.findIndex((row) => Number(row.dataset.episode) === wantedEpisode);
  const next = rows[place + step];
  if (next) { next.scrollIntoView({ block: "nearest" }); openEpisode(Number(next.dataset.episode)); }
}

// -------------------------------------------------------------------------------------------------- a training run

const GROUPS = [["Losses", (name) => !["lr", "grad_norm", "param_norm", "frames_per_s"].includes(name)], ["Learning rate", (name) => name === "lr"], ["Gradient norm", (name) => name === "grad_norm"], ["Parameter norm", (name) => name === "param_norm"], ["Frames per second", (name) => name === "frames_per_s"]];
const PALETTE = ["state", "action", "value", "takeover", "gap", "other", "idle"];
let logarithmic = true, drawnRun = "";

function showRun() {
  const state = JSON.stringify(about);
  if (state === drawnRun) return;
  drawnRun = state;
  dropCharts();
  const steps = about.curves.flatMap((curve) => curve.t), x = [0, Math.max(1, ...steps)];
  const marks = about.stages.filter((stage) => stage.at > 0).map((stage) => ({ kind: "label", at: stage.at, text: stage.name }));
  const boxes = GROUPS.flatMap(([title, belongs]) => {
    const whole = about.curves.find((curve) => curve.name === "loss"); // of one part only: the same line twice
    const curves = about.curves.filter((curve) => belongs(curve.name) && !(curve.name === "flow" && whole && String(curve.v) === String(whole.v)));
    if (!curves.length) return [];
    const first = title === "Losses";
    const chart = new Chart({ title, lines: curves.map((curve, i) => ({ what: curve.name, colour: PALETTE[i % PALETTE.length], t: curve.t, v: curve.v, dots: curve.name.startsWith("val_"), dash: i >= PALETTE.length ? [5, 3] : [] })), x, marks, tall: first, log: first && logarithmic, across: "steps", label: `${title} over steps`, pick: (at) => { for (const each of charts) each.cursor(at); } });
    return [el("section", { class: "box" }, first ? el("label", { class: "soft" }, el("input", { type: "checkbox", checked: logarithmic, onchange: (event) => { logarithmic = event.target.checked; drawnRun = ""; showRun(); } }), " logarithmic") : null,
      curves.length > 1 ? legend(...curves.map((curve, i) => [PALETTE[i % PALETTE.length], curve.name.startsWith("val_") ? `${curve.name.slice(4)}, held out` : curve.name])) : null, chart.node)];
  });
  $("main").className = "";
  $("main").replaceChildren(
    el("section", { class: "box" }, el("h2", {}, "The run"), factList(about.facts),
      about.stages.length > 1 ? el("p", { class: "soft" }, `stages: ${about.stages.map((stage) => `${stage.name} from step ${stage.at.toFixed(0)}`).join(", ")}`) : null),
    ...(boxes.length ? boxes : [el("p", { class: "soft" }, "no report yet: the page waits for the first")]), ...pictures());
  $("main").setAttribute("aria-busy", "false");
}
const pictures = () => about.files.map(([name, text]) => el("section", { class: "box" }, el("h2", {}, text), el("a", { href: `/file?name=${encodeURIComponent(name)}`, target: "_blank", rel: "noopener" }, el("img", { class: "sheet", alt: text, src: `/file?name=${encodeURIComponent(name)}` }))));

// -------------------------------------------------------------------------------------------------- an evaluation

let moment = 0;

function showEvaluation() {
  const rows = about.table.map((row) => el("tr", {}, el("td", {}, row.joint), ...["mean", "p95", "first", "last"].map((key) => el("td", {}, row[key] === null ? "" : short(row[key]))), el("td", {}, percent(row.of_holding)), el("td", {}, row.unit)));
  const head = el("tr", {}, ...["joint", "mean error", "95 % below", "first action", "last action", "of holding", "unit"].map((text) => el("th", { scope: "col" }, text)));
  const wide = window.matchMedia("(min-width: 821px)").matches;
  const list = about.worst.length ? el("details", { id: "list", class: "box", open: wide }, el("summary", {}, `Worst moments (${about.worst.length})`),
    el("ol", {}, ...about.worst.map((each, i) => el("li", {}, el("button", { type: "button", "data-moment": i, onclick: () => showMoment(i) }, `${percent(each.error)} of range`, el("small", {}, `episode ${each.episode}, ${(each.frame / about.fps).toFixed(1)} s: ${worstJoint(each)}`)))))) : null;
  dropCharts();
  $("main").className = list ? "split" : "";
  const over = [];
  if (about.chunks.length) {
    const marks = [], cut = new Set();
    about.chunks.forEach((chunk, i) => { if (i && chunk[0] !== about.chunks[i - 1][0]) { marks.push({ kind: "label", at: i - 0.5 }); cut.add(i); } });
    const chart = new Chart({ title: "Error of each chunk, as a share of the joints' ranges", lines: [{ what: "error", colour: "state", t: about.chunks.map((_, i) => i), v: about.chunks.map((chunk) => chunk[2]), cut, dots: about.chunks.length < 80 }], x: [0, Math.max(1, about.chunks.length - 1)], marks, across: "chunks", label: "error of each chunk", read: false, pick: (at) => nearest(at) });
    chart.node.id = "chunks";
    over.push(el("section", { class: "box" }, el("p", { class: "soft" }, "Dotted: the next episode begins. A click shows the nearest of the worst moments."), chart.node));
  }
  $("main").replaceChildren(...(list ? [list] : []), el("div", {},
    el("section", { class: "box" }, factList(about.facts), noteList(about.notes)),
    el("div", { id: "shown" }),
    el("section", { class: "box" }, el("h2", {}, "Errors by joint"), el("p", { class: "soft" }, "Of holding: against a policy that does not move. Below 100 % it knows something."), el("div", { class: "scroll" }, el("table", {}, el("thead", {}, head), el("tbody", {}, ...rows)))),
    ...over, ...pictures()));
  $("main").setAttribute("aria-busy", "false");
  if (about.worst.length) showMoment(Math.min(about.worst.length - 1, moment));
}
const worstJoint = (each) => {
  const place = each.by_joint.reduce((best, value, i) => (value !== null && value > (each.by_joint[best] ?? -1) ? i : best), 0);
  return about.joints[place] ? `farthest off: ${about.joints[place].name}` : "";
};
function nearest(at) {
  const index = (each) => about.chunks.findIndex(([number, place]) => number === each.episode && place >= each.frame);
  let best = 0;
  about.worst.forEach((each, i) => { if (Math.abs(index(each) - at) < Math.abs(index(about.worst[best]) - at)) best = i; });
  if (about.worst.length) showMoment(best);
}
function showMoment(number) {
  moment = Math.min(about.worst.length - 1, Math.max(0, number));
  const each = about.worst[moment], dt = 1 / about.fps;
  for (const button of document.querySelectorAll("[data-moment]")) {
    button.setAttribute("aria-current", String(Number(button.dataset.moment) === moment));
    if (Number(button.dataset.moment) === moment) { const list = $("list"), row = button.parentNode; if (list.scrollHeight > list.clientHeight) list.scrollTop = Math.max(0, row.offsetTop - list.clientHeight / 2); }
  }
  for (const chart of [...charts]) if (chart.ofMoment) { sizes.unobserve(chart.base.parentNode); charts.delete(chart); }
  const curves = about.joints.map((joint, j) => {
    const line = (what, rows, name, extra = {}) => ({ what, colour: name, t: rows.map((_, i) => i * dt), v: rows.map((row) => row[j]), ...extra });
    const chart = new Chart({ title: joint.name, unit: joint.unit, lower: joint.lower, upper: joint.upper, x: [0, Math.max(dt, (each.recorded.length - 1) * dt)], read: false, label: `${joint.name}: predicted and recorded`,
      lines: [line("held", each.recorded.map(() => each.held), "idle", { dash: [3, 3] }), line("recorded", each.recorded, "state", { wide: 2.2 }), line("predicted", each.predicted, "action")] });
    chart.ofMoment = true;
    chart.reading.textContent = `${percent(each.by_joint[j])} of range`;
    return chart;
  });
  $("shown").replaceChildren(el("section", { class: "box", id: "moment" },
    el("h2", {}, `Moment ${moment + 1} of ${about.worst.length}: episode ${each.episode}, frame ${each.frame}, ${(each.frame * dt).toFixed(2)}\u00a0s`),
    el("p", { class: "prompt" }, each.prompt),
    el("p", { class: "soft" }, `${percent(each.error)} of the joints' ranges; ${worstJoint(each)}`),
    el("div", { class: "marks spaced" }, el("button", { type: "button", disabled: moment === 0, onclick: () => showMoment(moment - 1) }, "‹ worse"), el("button", { type: "button", disabled: moment === about.worst.length - 1, onclick: () => showMoment(moment + 1) }, "less bad ›")),
    el("div", { class: "pictures" }, ...each.pictures.map(([camera, file]) => { const node = el("figure", {}, el("button", { type: "button", "aria-label": `enlarge camera ${camera}`, onclick: () => node.classList.toggle("large") }, el("img", { alt: `camera ${camera}`, src: `/file?name=${encodeURIComponent(file)}` })), el("figcaption", {}, el("span", { title: camera }, camera))); return node; })),
    legend(["state", "recorded"], ["action", "predicted"], ["held", "holding still"], ["limit", "limit, drawn where values come near"]),
    el("div", { class: "traces" }, ...curves.map((chart) => chart.node))));
  history.replaceState(null, "", `#moment=${moment}`);
}

// ------------------------------------------------------------------------------------------------------------ keys

const KEYS = {
  dataset: [["← →", "a frame back, on"], ["Shift ← →", "a second"], ["Home End", "first, last frame"], ["Space", "play, pause"], ["Page up, down", "episode before, after"], ["/", "search"], ["?", "these keys"]],
  run: [["?", "these keys"]],
  evaluation: [["← →", "a worse moment, a less bad one"], ["?", "these keys"]],
};
function toggleKeys() {
  const shown = $("keys").hidden;
  $("keys").replaceChildren(factList(KEYS[about && about.kind === "bag" ? "dataset" : (about || {}).kind] || KEYS.run));
  $("keys").hidden = !shown;
  $("help").setAttribute("aria-expanded", String(shown));
}
$("help").addEventListener("click", toggleKeys);
document.addEventListener("keydown", (event) => {
  const target = event.target, typing = target.tagName === "INPUT" && target.type !== "range" && target.type !== "checkbox";
  if (event.ctrlKey || event.metaKey || event.altKey || !about) return;
  if (typing) { if (event.key === "Escape") { target.value = ""; target.dispatchEvent(new Event("input")); target.blur(); } return; }
  const second = event.shiftKey && episode ? Math.max(1, Math.round(episode.fps)) : 1;
  const scrub = { ArrowLeft: () => { stop(); show(frame - second); }, ArrowRight: () => { stop(); show(frame + second); }, Home: () => { stop(); show(0); }, End: () => { stop(); show(Infinity); show(episode.frames - 1); }, PageUp: () => neighbour(-1), PageDown: () => neighbour(1) };
  const moments = { ArrowLeft: () => showMoment(moment - 1), ArrowRight: () => showMoment(moment + 1) };
  const table = about.kind === "evaluation" ? (about.worst.length ? moments : {}) : about.kind === "run" ? {} : scrub;
  const onControl = ["BUTTON", "SUMMARY", "A"].includes(target.tagName);
  if (event.key in table && (episode || event.key.startsWith("Page") || about.kind === "evaluation")) table[event.key]();
  else if (event.key === " " && !onControl && episode) toggle();
  else if (event.key === "?") toggleKeys();
  else if (event.key === "/" && $("find")) { $("list").open = true; $("find").focus(); }
  else return;
  event.preventDefault();
});
window.addEventListener("resize", drawStrip);

async function begin() {
  try {
    about = await ask("/api/about");
  } catch (error) {
    complain(error.message);
    $("main").setAttribute("aria-busy", "false");
    return;
  }
  const words = { dataset: "dataset", bag: "recording", run: "training run", evaluation: "evaluation" };
  $("kind").textContent = words[about.kind];
  $("title").textContent = about.title;
  document.title = `${about.title} – pi0 view`;
  const asked = new URLSearchParams(location.hash.slice(1));
  if (about.kind === "run") {
    showRun();
    setInterval(async () => {
      try { about = await ask("/api/about"); if (trouble) complain(""); showRun(); } catch (error) { complain(error.message); }
    }, 5000);
  } else if (about.kind === "evaluation") {
    moment = Number(asked.get("moment")) || 0;
    showEvaluation();
  } else {
    showEpisodes();
    wantedEpisode = Number(asked.get("episode")) || 0;
    const first = (await ask("/api/episodes?from=0")).rows[0];
    openEpisode(asked.has("episode") ? wantedEpisode : first[0], Number(asked.get("frame")) || 0);
  }
}
begin();
