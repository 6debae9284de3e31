"""Take the pictures of browser pages for the docs: a running view's address, or a path for `pi0 view`, in; PNGs out.

    python tools/screenshot.py http://localhost:8080 docs/images/demo.png                     the running demo
    python tools/screenshot.py http://localhost:8080 docs/images/takeover.png --press "Take over"
    python tools/screenshot.py datasets/demo docs/images/view_dataset.png --at "episode=1&frame=40" --dark --phone

--dark and --phone write further pictures beside it, view_dataset_dark.png and view_dataset_phone.png. Needs Chromium
(`apt-get install chromium`). Pages are drawn without a GPU: it takes a while.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from browser import PHONE, Page, Screen, browser

DISMISS = "document.querySelectorAll('.mantine-Notification-closeButton').forEach(button => button.click())"
TOP = "document.querySelectorAll('*').forEach(element => { if (element.scrollTop) element.scrollTop = 0; })"
FILES_READY = "document.getElementById('main').getAttribute('aria-busy') === 'false'"
LOADED = "[...document.images].every(image => image.complete)"
# The live view's scene fades in frame by frame, and without a GPU a frame may take seconds.
LIVE_AT_ONCE = (
    "document.head.appendChild(document.createElement('style')).textContent = 'canvas { opacity: 1 !important }'"
)
LIVE_S, FILES_S = 20.0, 1.0  # until a page of the live view, and of files, is drawn


@contextmanager
def address_of(what: str) -> Iterator[tuple[str, bool]]:
    """Where it is served, and whether it is a live view's. Raises URLError when nothing is served there."""
    if what.startswith(("http://", "https://")):
        urllib.request.urlopen(what).close()
        yield what, True
        return
    from pi0_ros.cli.view import open_source
    from pi0_ros.view.server import Server

    with Server(open_source(Path(what), None, None), "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"{server.address}/", False
        server.shutdown()


def screenshot(
    what: str,
    out: Path,
    screens: dict[str, Screen],
    at: str = "",
    press: Sequence[str] = (),
    wait_s: float | None = None,
) -> list[Path]:
    """Write a PNG for each screen: `out` with the screen's name behind its stem. `press` names buttons."""
    written = []
    with address_of(what) as (address, live), browser() as page:
        for name, screen in screens.items():
            page.show(screen)
            whole = f"{address}{'&' if '?' in address else '?'}fixedDpr=1" if live else address  # as with a GPU
            page.open(f"{whole}#{at}" if at else whole)
            if live:
                page.run(LIVE_AT_ONCE)
            else:
                page.wait(f"{FILES_READY} && {LOADED}")
            time.sleep(wait_s if wait_s is not None else LIVE_S if live else FILES_S)
            for label in press:
                _press(page, label)
            page.run(DISMISS)
            page.run(TOP)
            time.sleep(3.0 if live else 0.5)
            written.append(out.with_stem(out.stem + name))
            page.picture(written[-1])
    return written


def _press(page: Page, label: str) -> None:
    """Click the button of this label, as a person would."""
    found = f"[...document.querySelectorAll('button')].find(one => one.textContent.trim() === {json.dumps(label)})"
    page.wait(f"(() => {{ const one = {found}; if (one) one.id = 'to-press'; return !!one; }})()")
    page.click("#to-press")
    page.run("document.getElementById('to-press').removeAttribute('id')")
    time.sleep(2.0)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", help="the address of a running view, or a path that `pi0 view` shows")
    parser.add_argument("out", type=Path, help="PNG file to write")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=800)
    parser.add_argument("--at", default="", help="what stands behind the # of the address")
    parser.add_argument("--press", action="append", default=[], help="a button's label, to press before the picture")
    parser.add_argument("--dark", action="store_true", help="also in dark colours")
    parser.add_argument("--phone", action="store_true", help="also on a phone")
    parser.add_argument(
        "--wait", type=float, help=f"seconds before the picture (default {LIVE_S:g}, of files {FILES_S:g})"
    )
    args = parser.parse_args()
    screens = {"": Screen(args.width, args.height)}
    if args.dark:
        screens["_dark"] = Screen(args.width, args.height, dark=True)
    if args.phone:
        screens["_phone"] = PHONE
    for path in screenshot(args.what, args.out, screens, args.at, args.press, args.wait):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
