"""Where the time goes between a click on the emergency stop of a live view and STOPPED seen there.

    pi0 up demo view:=true auto_arm:=true
    python bench/stop_click.py http://localhost:8080 --busy 2

A headless Chromium draws the scene on the processor. Times are milliseconds after the mouse was pressed: when the page
saw the press, sent the stop, was told STOPPED, had it in its text, and when that frame was shown. Between two trials
the page's buttons reset and arm. `--busy` loads the machine with as many endless loops, `--no-scene` leaves WebGL out.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
from browser import Page, browser

NO_SCENE = """(() => { const made = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, ...more) {
  return kind.startsWith("webgl") ? null : made.call(this, kind, ...more); }; })()"""
WATCH = """(() => {
  const noted = window.noted = {}, now = () => performance.timeOrigin + performance.now();
  window.note = (what, at) => { noted[what] ??= at ?? now(); };
  window.again = () => { for (const what in noted) delete noted[what]; };
  addEventListener("pointerdown", (event) => note("event", performance.timeOrigin + event.timeStamp), true);
  addEventListener("pointerdown", () => note("handled"), true);
  const ask = window.fetch;
  window.fetch = async (path, ...more) => {
    if (path === "/pi0/stop") note("sent");
    const answer = await ask(path, ...more);
    if (path === "/pi0/stop") note("answered");
    return answer;
  };
  const word = document.querySelector("#pi0-state b");
  new MutationObserver(() => {
    if (word.textContent !== "STOPPED" || !noted.event) return;
    note("in the text");
    requestAnimationFrame(() => setTimeout(() => note("shown")));
  }).observe(word, {childList: true});
  window.frames_s = [];
  const next = requestAnimationFrame;
  const frame = () => { window.frames_s.push(performance.now() / 1e3); next(frame); };
  next(frame);
})()"""
STEPS = ("event", "handled", "sent", "answered", "in the text", "shown")
WORD = "document.querySelector('#pi0-state b').textContent"
BUTTON = "[...document.querySelectorAll('button')].find(one => one.textContent === {!r} && one.offsetParent)"
SETTLE_S, LONGEST_S = 10.0, 120.0


@contextmanager
def busy(loops: int) -> Iterator[None]:
    """Other work on this machine."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
    try:
        yield
    finally:
        for one in running:
            one.kill()
            one.wait()


def trial(page: Page) -> dict[str, float]:
    """Press the stop once; ms after the press."""
    place = page.run(
        "(() => { again(); const box = document.getElementById('pi0-stop').getBoundingClientRect();"
        "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
    )
    pressed = time.time() * 1e3
    for kind in ("mousePressed", "mouseReleased"):
        page.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)
    page.wait("!!noted.shown", LONGEST_S)
    return {what: at - pressed for what, at in page.run("noted").items()}


def arm(page: Page) -> None:
    """By the page's buttons; until the robot runs."""
    for label, after in (("Reset", "DISARMED"), ("Arm", "RUNNING")):
        end = time.monotonic() + LONGEST_S
        while page.run(WORD) != after and page.run(WORD) not in ("IDLE", "RUNNING"):
            page.run(f"{BUTTON.format(label)}?.click()")
            time.sleep(1.0)
            if time.monotonic() > end:
                raise TimeoutError(f"{after} does not come: {page.run('document.body.innerText')}")
    page.wait(f"{WORD} === 'RUNNING'", LONGEST_S)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", help="of a running live view whose robot is armed")
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--busy", type=int, default=0, help="endless loops beside it")
    parser.add_argument("--no-scene", action="store_true", help="without the 3D drawing")
    args = parser.parse_args()
    rows = []
    with browser() as page:
        if args.no_scene:
            page.call("Page.addScriptToEvaluateOnNewDocument", source=NO_SCENE)
        page.open(args.address)
        page.wait(f"document.querySelectorAll('.mantine-Paper-root').length > 0 || {args.no_scene:d}", LONGEST_S)
        page.run(WATCH)
        with busy(args.busy):
            for _ in range(args.trials):
                arm(page)
                page.run("frames_s.length = 0")
                time.sleep(SETTLE_S)
                gaps = np.diff(page.run("frames_s") or [0.0])
                rows.append(trial(page))
                times = "  ".join(f"{what} {rows[-1].get(what, np.nan):.0f}" for what in STEPS)
                longest = f"{gaps.max():.2f} s" if len(gaps) else "?"
                print(f"{times}   ({len(gaps) / SETTLE_S:.1f} frames/s, the longest {longest})", flush=True)
        arm(page)
    middle = "  ".join(f"{what} {np.median([row.get(what, np.nan) for row in rows]):.0f}" for what in STEPS)
    print(f"median ms: {middle}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
