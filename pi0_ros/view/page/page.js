// What every page is built from: elements, texts, numbers in words, and questions to the server.
// Every text from a file becomes a text node, never markup; nothing is sent but GET.

export const $ = (id) => document.getElementById(id);
export const el = (tag, attributes = {}, ...children) => {
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
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const KINDS = { idle: "idle", takeover: "takeover", gap: "gap", "left out": "gap", hold: "hold", stopped: "ink", label: "label", prompt: "other", incident: "bad" };
export const known = (kind) => KINDS[kind] || "other"; // the colour of a kind of band or mark

// ------------------------------------------------------------------------------------------------------- numbers

const worded = (text) => (Number(text) === 0 ? text.replace("-", "") : text); // no -0.000
export const trimmed = (value) => (Math.abs(value) >= 1e5 || (value !== 0 && Math.abs(value) < 1e-3) ? Number(value.toPrecision(4)).toExponential() : String(Number(value.toPrecision(6))));
export const short = (value) => { // three digits that say something
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(2);
  return value.toFixed(size >= 100 ? 1 : size >= 10 ? 2 : 3);
};
export const within = (span) => { // values of something that goes as far as `span`: to its thousandth
  const digits = span > 0 ? Math.min(6, Math.max(0, 3 + Math.ceil(-Math.log10(span)))) : 3;
  return (value) => (value === null || value === undefined ? "–" : worded(value.toFixed(digits)));
};
export const percent = (value) => (value === null ? "–" : `${(100 * value).toFixed(value < 0.1 ? 1 : 0)} %`);
export const clock = (seconds) => {
  if (seconds < 59.995) return `${seconds.toFixed(2)} s`;
  const tenths = Math.round(10 * seconds), minutes = Math.round(seconds / 60);
  if (tenths < 36000) return `${Math.floor(tenths / 600)} min ${(tenths % 600) / 10} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
};

// --------------------------------------------------------------------------------------------------------- texts

// A text of somebody else, in its own direction, which may break behind the slashes of a topic.
export const foreign = (text) => el("bdi", {}, ...String(text).split(/(?<=\/)/).flatMap((part, i) => (i ? [el("wbr"), part] : [part])));
export const legend = (...pairs) => el("div", { class: "legend" }, ...pairs.map(([kind, text, form]) => el("span", {}, el("span", { class: `key c-${kind} ${form || ""}` }), text)));
export const factList = (facts) => el("dl", {}, ...facts.flatMap(([name, text]) => [el("dt", {}, foreign(name)), el("dd", {}, foreign(text))]));
export const noteList = (notes) => (notes && notes.length ? el("div", {}, ...notes.map((note) => el("p", { class: "soft" }, foreign(note)))) : null);
export const alerts = (texts) => (texts && texts.length ? el("div", { role: "alert" }, ...texts.map((text) => el("p", { class: "alert" }, foreign(text)))) : null);

// A prompt: a long one is folded to three lines until somebody wants all of it.
export function prompt(text) {
  const said = el("p", { class: "prompt folded" }, foreign(text));
  const more = el("button", { type: "button", class: "small", hidden: true, "aria-expanded": "false", onclick: () => {
    const folded = said.classList.toggle("folded");
    more.textContent = folded ? "the whole prompt" : "less";
    more.setAttribute("aria-expanded", String(!folded));
  } }, "the whole prompt");
  requestAnimationFrame(() => { more.hidden = said.scrollHeight <= said.clientHeight + 1; });
  return el("div", {}, said, more);
}

// ---------------------------------------------------------------------------------------------------- the server

let trouble = "";
export const complain = (text) => {
  trouble = text;
  $("trouble").textContent = text;
  $("trouble").hidden = !text;
};
export const complains = () => trouble !== "";
export const busy = (is) => $("main").setAttribute("aria-busy", String(is));
export async function ask(path) {
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

// ------------------------------------------------------------------------------------------------------ pictures

// A camera's picture, which a click enlarges; `caption` stands beside its name.
export function figure(name, image, ...caption) {
  const button = el("button", { type: "button", "aria-pressed": "false", "aria-label": `enlarge camera ${name}`, onclick: () => {
    button.setAttribute("aria-pressed", String(node.classList.toggle("large")));
    node.scrollIntoView({ block: "nearest" });
  } }, image);
  const node = el("figure", {}, button, el("figcaption", {}, el("span", { title: name }, foreign(name)), ...caption));
  return node;
}
const address = (name) => `/file?name=${encodeURIComponent(name)}`;
export const cameraFile = ([camera, file]) => figure(camera, el("img", { alt: `camera ${camera}`, src: address(file) }));
export const sheets = (files) => files.map(([name, text]) => el("section", { class: "box" }, el("h2", {}, text),
  el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": text }, el("a", { href: address(name), target: "_blank", rel: "noopener", title: "open alone" }, el("img", { class: "sheet", alt: text, src: address(name) })))));
