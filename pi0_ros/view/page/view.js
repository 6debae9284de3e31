// The page of `pi0 view PATH`: asks what lies there and shows the page of its kind; keys and the address's #.

import { $, ask, busy, complain, factList } from "./page.js";
import * as episodes from "./episodes.js";
import * as evaluation from "./evaluation.js";
import * as run from "./run.js";

const PAGES = { dataset: ["dataset", episodes], bag: ["recording", episodes], run: ["training run", run], evaluation: ["evaluation", evaluation] };
let page = null;

function toggleKeys() {
  const shown = $("keys").hidden;
  $("keys").replaceChildren(factList(page ? page.KEYS : []));
  $("keys").hidden = !shown;
  $("help").setAttribute("aria-expanded", String(shown));
}
$("help").addEventListener("click", toggleKeys);
document.addEventListener("keydown", (event) => {
  const target = event.target, typing = target.tagName === "INPUT" && target.type !== "range" && target.type !== "checkbox";
  if (event.ctrlKey || event.metaKey || event.altKey || !page) return;
  if (typing) { if (event.key === "Escape") { target.value = ""; target.dispatchEvent(new Event("input")); target.blur(); } return; }
  const onControl = ["BUTTON", "SUMMARY", "A"].includes(target.tagName) || target.type === "checkbox";
  const scrolls = target.classList.contains("scroll") && event.key.startsWith("Arrow"); // a wide table, by its own keys
  if (!scrolls && page.press(event.key, event.shiftKey, onControl)) event.preventDefault();
  else if (event.key === "?") { toggleKeys(); event.preventDefault(); }
  else if (event.key === "/" && $("find")) { $("list").open = true; $("find").focus(); event.preventDefault(); }
});

try {
  const about = await ask("/api/about");
  const [word, found] = PAGES[about.kind];
  page = found;
  $("kind").textContent = word;
  $("title").textContent = about.title;
  document.title = `${about.title} – pi0 view`;
  await page.start(about, new URLSearchParams(location.hash.slice(1)));
} catch (error) {
  complain(error.message);
  busy(false);
}
