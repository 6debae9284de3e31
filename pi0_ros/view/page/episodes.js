// The list of episodes or recordings, and the one that is looked at: pictures, joints, what holds when.

import { $, alerts, ask, busy, clock, complain, el, factList, figure, foreign, known, legend, noteList, prompt } from "./page.js";
import { Chart, dropCharts, showCursor } from "./chart.js";
import { Timeline } from "./timeline.js";
import { momentsOf } from "./moments.js";

let about = null, episode = null, frame = 0, cameras = [], wanted = 0, timeline = null, moments = [], written = 0;

export async function start(found, asked) {
  about = found;
  showList();
  const first = (await ask("/api/episodes?from=0")).rows[0];
  const number = asked.has("episode") ? Number(asked.get("episode")) || 0 : first[0];
  await open(number, asked.has("frame") ? Number(asked.get("frame")) || 0 : null);
}

// ------------------------------------------------------------------------------------------------------- the list

function showList() {
  const search = el("input", { type: "search", placeholder: "search number or text", "aria-label": "search episodes", id: "find" });
  const list = el("ol", { id: "rows" }), more = el("button", { type: "button", hidden: true }, "more");
  const isBag = about.kind === "bag";
  const details = el("details", { id: "list", class: "box", open: window.matchMedia("(min-width: 821px)").matches },
    el("summary", {}, `${isBag ? "Recordings" : "Episodes"} (${about.episodes})`), search, list, more,
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
        list.append(el("li", {}, el("button", { type: "button", title: text, "data-episode": number, "aria-current": String(number === wanted), onclick: () => open(number) },
          isBag ? foreign(text) : `${number}${told}`, isBag ? null : el("small", {}, foreign(text)))));
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
function neighbour(step) {
  const rows = [...document.querySelectorAll("[data-episode]")], place = rows.findIndex((row) => Number(row.dataset.episode) === wanted);
  const next = rows[place + step];
  if (next) { next.scrollIntoView({ block: "nearest" }); open(Number(next.dataset.episode)); }
}

// ----------------------------------------------------------------------------------------------------- an episode

async function open(number, at = null) {
  if (timeline) timeline.stop();
  wanted = number;
  for (const button of document.querySelectorAll("[data-episode]")) button.setAttribute("aria-current", String(Number(button.dataset.episode) === number));
  busy(true);
  let found;
  try {
    found = await ask(`/api/episode?n=${number}`);
  } catch (error) {
    if (number !== wanted) return;
    complain(error.message);
    dropCharts();
    episode = timeline = null;
    $("shown").replaceChildren();
    busy(false);
    return;
  }
  if (number !== wanted) return;
  complain("");
  episode = found;
  dropCharts();
  cameras = episode.cameras.map((name, place) => new Camera(name, place));
  const traces = charts();
  moments = momentsOf(episode, traces);
  timeline = new Timeline(episode, show, () => frame);
  const said = (episode.facts.find(([name]) => name === "prompt") || ["", ""])[1];
  $("shown").replaceChildren(
    el("section", { class: "box" }, prompt(said || "no prompt"), el("p", { class: "soft" }, foreign(episode.title), ` · ${clock(episode.frames / episode.fps)}`), alerts(episode.alerts), noteList(episode.notes)),
    el("div", { class: "pictures" }, ...cameras.map((camera) => camera.node)),
    timeline.node, ...buttons(),
    el("section", { class: "box" }, el("h2", {}, "Joints"), key(),
      traces.length ? el("div", { class: "traces" }, ...traces.map((chart) => chart.node)) : el("p", { class: "soft" }, "no joint is recorded here")),
    el("section", { class: "box" }, el("h2", {}, "About it"), factList(episode.facts)));
  busy(false);
  const incident = episode.marks.find((mark) => mark.kind === "incident");
  show(at !== null ? at : incident ? frameAt(incident.at) : 0);
}
const frameAt = (seconds) => Math.ceil(seconds * episode.fps - 1e-6);

function charts() {
  const last = (episode.frames - 1) / episode.fps;
  return episode.traces.map((trace) => new Chart({
    title: trace.name, unit: trace.unit, lower: trace.lower, upper: trace.upper, x: [0, Math.max(last, 1 / episode.fps)], bands: episode.bands, marks: episode.marks,
    pick: (x) => show(Math.round(x * episode.fps)),
    lines: trace.curves.map((curve) => ({ what: curve.what, colour: curve.what, t: curve.t || curve.v.map((_, i) => i / episode.fps), v: curve.v, wide: curve.what === "action" ? 2.2 : 1.4 }))
      .sort((a, b) => (a.what < b.what ? -1 : 1)),
  }));
}
function key() {
  const bands = [...new Set(episode.bands.map((band) => band.kind))], marks = [...new Set(episode.marks.map((mark) => mark.kind))];
  const curves = [...new Set(episode.traces.flatMap((trace) => trace.curves.map((curve) => curve.what)))].sort().reverse();
  const limits = episode.traces.some((trace) => trace.lower !== null || trace.upper !== null);
  return legend(...curves.map((what) => [what, what]), ...(limits ? [["limit", "limit, drawn where values come near", "dashed"]] : []), ...bands.map((kind) => [known(kind), kind, "block"]), ...marks.map((kind) => [known(kind), kind, "dotted"]));
}
function buttons() {
  if (!moments.length) return [];
  const made = moments.map((each) => el("button", { type: "button", hidden: each.folded, onclick: () => goTo(each.at) },
    el("span", { class: `key block c-${each.colour}` }), `${each.at.toFixed(2)} s · `, foreign(each.text)));
  const rest = moments.filter((each) => each.folded).length;
  const more = rest > 0 ? el("button", { type: "button", onclick: () => { for (const button of made) button.hidden = false; more.remove(); } }, `${rest} more`) : null;
  return [el("section", { class: "box" }, el("h2", {}, "Worth a look"), el("div", { class: "marks", role: "group", "aria-label": "moments worth a look" }, ...made, more))];
}
const goTo = (at) => { timeline.stop(); show(frameAt(at)); };
function nextMoment(step) {
  const at = frame / episode.fps, places = [...new Set(moments.map((each) => frameAt(each.at) / episode.fps))].sort((a, b) => a - b);
  const next = step > 0 ? places.find((place) => place > at + 1e-6) : places.filter((place) => place < at - 1e-6).pop();
  if (next !== undefined) goTo(next);
}

function show(number) {
  if (!episode) return;
  frame = Math.min(episode.frames - 1, Math.max(0, Number.isFinite(number) ? Math.round(number) : 0));
  timeline.show(frame);
  for (const camera of cameras) camera.show(frame);
  showCursor(frame / episode.fps);
  const address = `#episode=${episode.number}&frame=${frame}`;
  const write = () => history.replaceState(null, "", address);
  clearTimeout(written);
  if (timeline.playing === null) write();
  else written = setTimeout(write, 200); // browsers refuse an address that changes with every frame that is played
}

class Camera {
  constructor(name, place) {
    this.place = place;
    this.wanted = this.loading = null;
    this.image = el("img", { alt: `camera ${name}`, draggable: "false", hidden: true });
    this.why = el("span", { class: "why", hidden: true });
    this.age = el("span", { class: "soft" });
    this.node = figure(name, this.image, this.age);
    this.image.after(this.why);
  }
  async show(number) {
    this.wanted = number;
    if (this.loading !== null) return; // the newest wish is fetched next
    const mine = episode;
    while (this.wanted !== this.loading && mine === episode) {
      this.loading = this.wanted;
      try {
        const answer = await fetch(`/picture?n=${mine.number}&camera=${this.place}&frame=${this.loading}`).catch(() => { throw new Error("the server is gone: start `pi0 view` again"); });
        if (answer.headers.get("Content-Type").startsWith("application/json")) throw new Error((await answer.json()).error);
        const age = answer.headers.get("X-Age-S"), address = URL.createObjectURL(await answer.blob()), before = this.image.src;
        if (mine !== episode) { URL.revokeObjectURL(address); return; }
        this.image.src = address;
        this.image.hidden = false;
        this.image.dataset.frame = this.loading;
        if (before.startsWith("blob:")) URL.revokeObjectURL(before);
        this.why.hidden = true;
        this.age.textContent = age === null ? "" : `${(1000 * Number(age)).toFixed(0)} ms old`;
        this.age.className = Number(age) > 0.5 ? "old" : "soft";
      } catch (error) {
        this.image.removeAttribute("src");
        this.image.hidden = true;
        this.image.dataset.frame = this.loading;
        this.why.replaceChildren(foreign(error.message));
        this.why.hidden = false;
        this.age.textContent = "";
      }
    }
    this.loading = null;
  }
}

// ----------------------------------------------------------------------------------------------------------- keys

export const KEYS = [["← →", "a frame back, on"], ["Shift ← →", "a second"], ["Home End", "first, last frame"], ["Space", "play, pause"], ["N P", "the next, the previous moment worth a look"], ["Page up, down", "episode before, after"], ["/", "search"], ["?", "these keys"]];
export function press(key, shift, onControl) {
  if (key === "PageUp" || key === "PageDown") { neighbour(key === "PageUp" ? -1 : 1); return true; }
  if (!episode) return false;
  const step = shift ? Math.max(1, Math.round(episode.fps)) : 1;
  const places = { ArrowLeft: frame - step, ArrowRight: frame + step, Home: 0, End: episode.frames - 1 };
  if (key in places) { timeline.stop(); show(places[key]); }
  else if (key === " " && !onControl) timeline.toggle();
  else if (key === "n" || key === "p") nextMoment(key === "n" ? 1 : -1);
  else return false;
  return true;
}
