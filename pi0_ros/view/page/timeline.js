// The bar below the pictures: where we are, what holds there, play and scrub.

import { $, colour, el, foreign, known } from "./page.js";

export class Timeline {
  // `show` is called with a frame; `now` gives the one that is shown.
  constructor(episode, show, now) {
    Object.assign(this, { episode, show: (frame) => this.say(frame), seek: show, now });
    this.playing = null;
    const by = (step) => () => { this.stop(); show(now() + step); };
    const drawn = (event) => {
      const box = this.strip.getBoundingClientRect();
      this.stop();
      show(((event.clientX - box.left) / box.width) * (episode.frames - 1));
    };
    this.strip = el("canvas", { id: "strip", "aria-hidden": "true", onpointerdown: drawn, onpointermove: (event) => { if (event.buttons === 1) drawn(event); } });
    this.lanes = [...new Set(episode.bands.map((band) => band.kind))];
    this.strip.style.height = `${Math.max(14, 8 * this.lanes.length)}px`;
    this.slider = el("input", { type: "range", id: "slider", min: 0, max: episode.frames - 1, value: 0, "aria-label": "frame", oninput: () => { this.stop(); show(Number(this.slider.value)); } });
    this.button = el("button", { type: "button", id: "play", "aria-pressed": "false", onclick: () => this.toggle() }, "play");
    this.time = el("output", { id: "time", for: "slider" });
    this.holds = el("div", { id: "now", "aria-live": "off" });
    this.node = el("section", { class: "box", id: "scrub", "aria-label": "time" }, this.strip,
      el("div", { class: "row" },
        el("button", { type: "button", class: "step", "aria-label": "a frame back", onclick: by(-1) }, "‹"), this.button,
        el("button", { type: "button", class: "step", "aria-label": "a frame on", onclick: by(1) }, "›"), this.slider, this.time),
      this.holds);
    sizes.observe(this.strip);
    this.strip.timeline = this;
  }
  say(frame) {
    const { bands, marks, fps, frames } = this.episode, at = frame / fps;
    this.slider.value = frame;
    this.slider.setAttribute("aria-valuetext", `${at.toFixed(2)} s`);
    this.time.textContent = `${at.toFixed(2)} s · frame ${frame} / ${frames - 1}`;
    const here = bands.filter((band) => band.start <= at + 1e-9 && at < band.stop);
    const said = ["prompt", "label", "incident"].map((kind) => marks.filter((mark) => mark.kind === kind && mark.at <= at + 1e-9).pop()).filter(Boolean);
    this.holds.replaceChildren(
      ...here.map((band) => el("span", {}, el("span", { class: `key block c-${known(band.kind)}` }), `${band.kind}: `, foreign(band.text))),
      ...said.map((mark) => el("span", {}, el("span", { class: `key dotted c-${known(mark.kind)}` }), `${mark.kind}: `, foreign(mark.text))));
  }
  draw() {
    const ratio = window.devicePixelRatio || 1, box = this.strip.getBoundingClientRect(), { bands, marks, frames, fps } = this.episode;
    const width = (this.strip.width = Math.max(1, box.width * ratio)), height = (this.strip.height = Math.max(1, box.height * ratio));
    const pen = this.strip.getContext("2d"), px = (seconds) => (seconds / (frames / fps)) * width;
    pen.fillStyle = colour("hover");
    pen.fillRect(0, 0, width, height);
    for (const band of bands) { // a lane for each kind: what holds at the same time is seen at the same time
      pen.fillStyle = colour(known(band.kind));
      pen.fillRect(px(band.start), (this.lanes.indexOf(band.kind) / this.lanes.length) * height, Math.max(2 * ratio, px(band.stop - band.start)), height / this.lanes.length);
    }
    for (const mark of marks) {
      pen.fillStyle = colour(known(mark.kind));
      pen.fillRect(px(mark.at), 0, 2 * ratio, height);
    }
  }
  toggle() {
    if (this.playing !== null) { this.stop(); return; }
    const { frames, fps } = this.episode;
    if (this.now() >= frames - 1) this.seek(0);
    const from = this.now(), since = performance.now();
    this.button.textContent = "pause";
    this.button.setAttribute("aria-pressed", "true");
    const step = () => {
      const next = from + Math.floor(((performance.now() - since) / 1000) * fps);
      if (next !== this.now()) this.seek(next);
      if (next >= frames - 1) this.stop();
      else this.playing = requestAnimationFrame(step);
    };
    this.playing = requestAnimationFrame(step);
  }
  stop() {
    if (this.playing !== null) cancelAnimationFrame(this.playing);
    this.playing = null;
    this.button.textContent = "play";
    this.button.setAttribute("aria-pressed", "false");
  }
}
const redraw = () => { const strip = $("strip"); if (strip && strip.timeline) strip.timeline.draw(); };
const sizes = new ResizeObserver(redraw);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
