// What in an episode is worth a look, each with its time: takeovers, gaps, holds, what was said, and where joints are
// outside their limits or farthest from their command.

import { known, within } from "./page.js";
import { valueAt } from "./chart.js";

const MOST_BUTTONS = 8; // the others are folded
const WEIGHT = ["incident", "stopped", "hold", "outside", "farthest", "takeover", "label", "prompt"]; // then all else

export function momentsOf(episode, charts) {
  const bands = episode.bands.filter((band) => band.kind !== "idle").map((band) => ({ at: band.start, kind: band.kind, lasts: band.stop - band.start, colour: known(band.kind), text: `${band.kind}: ${band.text}` }));
  const marks = episode.marks.map((mark) => ({ at: mark.at, kind: mark.kind, colour: known(mark.kind), text: `${mark.kind}: ${mark.text}` }));
  const outside = charts.filter((chart) => chart.firstOutside !== undefined).map((chart) => ({ at: chart.firstOutside, kind: "outside", colour: "limit", text: `outside its limits: ${chart.title}` }));
  const found = [...bands, ...marks, ...outside, ...farthest(charts)];
  const weight = (each) => (WEIGHT.includes(each.kind) ? WEIGHT.indexOf(each.kind) : WEIGHT.length);
  const first = [...found].sort((a, b) => weight(a) - weight(b) || (b.lasts || 0) - (a.lasts || 0) || a.at - b.at);
  first.forEach((each, place) => { each.folded = place >= MOST_BUTTONS; });
  return found.sort((a, b) => a.at - b.at);
}

// Where a joint is farthest from its command, as a share of its range: the worst of all joints.
function farthest(charts) {
  let worst = null;
  for (const chart of charts) {
    const [action, state] = ["action", "state"].map((what) => chart.lines.find((line) => line.what === what));
    if (!action || !state) continue;
    const range = chart.range || chart.ends[1] - chart.ends[0];
    state.t.forEach((at, i) => {
      const told = valueAt(action, at);
      if (told === null || state.v[i] === null) return;
      const off = Math.abs(state.v[i] - told);
      if (!worst || off / range > worst.share) worst = { share: off / range, at, chart, off };
    });
  }
  if (!worst || worst.share < 0.01) return [];
  const { at, chart, off, share } = worst;
  return [{ at, kind: "farthest", colour: "state", text: `farthest from its command: ${chart.title}, ${within(chart.range)(off)} ${chart.unit} (${(100 * share).toFixed(0)} % of its range)` }];
}
