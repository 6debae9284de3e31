"""The live view's panel in a real browser: what must be in sight is, on a phone too, and keys do what buttons do."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

viser = pytest.importorskip("viser")
pytest.importorskip("websockets")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import browser as chromium  # noqa: E402
from browser import DESK, PHONE, Page, Screen  # noqa: E402

from pi0_ros.monitor.panel import Actions, Panel  # noqa: E402
from pi0_ros.monitor.panel_text import Health, JointRow, StreamRow  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.skipif(chromium.found() is None, reason="needs chromium")]
STOP = "[...document.querySelectorAll('button')].find(one => one.textContent === 'EMERGENCY STOP')"
SCROLLED = "document.querySelector('.mantine-ScrollArea-viewport:has(.pi0-headline)')"


def in_sight(element: str) -> str:
    """Whether the middle of an element lies within the window, with nothing above it."""
    return (
        f"(() => {{ const one = {element}; const box = one.getBoundingClientRect();"
        "const top = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);"
        "return box.x >= 0 && box.right <= innerWidth && !!top && (one.contains(top) || top.contains(one)); })()"
    )


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with chromium.browser() as page:
        yield page


@pytest.fixture
def told() -> list[Any]:
    return []


@pytest.fixture
def panel(told: list[Any]) -> Iterator[Panel]:
    server = viser.ViserServer(host="127.0.0.1", port=18090, verbose=False)
    actions = Actions(told.append, told.append, told.append, lambda what, on: told.append((what, on)))
    panel = Panel(server, "arm", ["put the red cube in the tray"], actions, new_scene=True, takeover=True)
    panel.show_headline("RUNNING (policy in charge)", "put the red cube in the tray", "")
    panel.show_images({"base": np.zeros((96, 96, 3), np.uint8), "wrist": np.zeros((96, 96, 3), np.uint8)})
    panel.show_health([Health("policy", 0, "fine"), Health("controller", 1, "HOLDING")])
    panel.show_joints([JointRow(f"joint {n}", "rad", -1.0, 1.0, 0.1 * n, np.nan) for n in range(14)])
    panel.show_streams([StreamRow("base", 0.02, 30.0, 0.1), StreamRow("wrist", np.inf, 0.0, 0.1)])
    for number in range(20):
        panel.log("state", f"state {number}")
    yield panel
    server.stop()


def opened(page: Page, panel: Panel, screen: Screen) -> None:
    page.show(screen)
    page.open(f"http://127.0.0.1:{panel._server.get_port()}")
    page.wait(f"!!({STOP}) && document.body.innerText.includes('state 19')", 120.0)


def until(done: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 30.0
    while not done():
        assert time.monotonic() < end, what
        time.sleep(0.05)


@pytest.mark.parametrize("screen", [DESK, PHONE, Screen(1280, 500)], ids=["desk", "phone", "low"])
def test_state_and_emergency_stop_stay_in_sight_and_work(
    page: Page, panel: Panel, told: list[Any], screen: Screen
) -> None:
    opened(page, panel, screen)
    scrolls = page.run(f"{SCROLLED}.scrollHeight - {SCROLLED}.clientHeight")
    assert scrolls > 100 or screen is DESK, "else nothing is tested"
    for share in (0.0, 0.5, 1.0):
        page.run(f"{SCROLLED}.scrollTop = {share} * {SCROLLED}.scrollHeight")
        for element in (STOP, "document.querySelector('.pi0-headline h3')"):
            page.wait(in_sight(element), 30.0)
    page.run(f"{STOP}.id = 'stop'")
    told.clear()
    page.run("(() => { window.before = scrollY; })()")
    place = page.run("(() => { const b = document.getElementById('stop').getBoundingClientRect();"
                     "return [b.x + b.width / 2, b.y + b.height / 2]; })()")  # fmt: skip
    for kind in ("mousePressed", "mouseReleased"):
        page.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", buttons=1, clickCount=1)
    until(lambda: told == ["estop"], f"the stop, told {told}")
    assert page.run("document.documentElement.scrollWidth") <= screen.width


def test_keys_do_what_buttons_do(page: Page, panel: Panel, told: list[Any]) -> None:
    opened(page, panel, DESK)
    told.clear()
    page.press("S", shift=True)
    until(lambda: told == ["estop"], f"Shift+S stops, told {told}")
    told.clear()
    page.run("document.querySelector('form input').focus()")
    page.type("fold the Shirt")
    page.press("S", shift=True)  # a letter of the instruction
    assert told == []
    page.wait("document.querySelector('form input').value.startsWith('fold the Shirt')")
    time.sleep(1.0)  # the browser says what was typed a moment later
    for kind in ("keyDown", "keyUp"):
        page.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r")
    until(lambda: bool(told) and told[0].startswith("fold the Shirt"), f"Enter sends, told {told}")


def test_cameras_are_enlarged_and_closed(page: Page, panel: Panel) -> None:
    opened(page, panel, DESK)
    button = "[...document.querySelectorAll('button')].find(one => one.textContent === {!r})"
    shown = "Math.max(...[...document.images].map(one => one.getBoundingClientRect().width))"
    small = page.run(shown)
    page.run(f"{button.format('Enlarge')}.click()")
    page.wait(f"{shown} > 1.3 * {small}")
    panel.show_images({"base": np.full((96, 96, 3), 255, np.uint8), "wrist": np.zeros((96, 96, 3), np.uint8)})
    assert len(panel._large) == 1
    page.run(f"{button.format('Close')}.click()")
    until(lambda: not panel._large, "closed")


def test_what_the_tables_say(page: Page, panel: Panel) -> None:
    opened(page, panel, DESK)
    text = page.run("document.body.innerText")
    assert "20 ms old" in text and "nothing yet" in text and "30 Hz" in text
    assert "controller (warning) HOLDING" in text
    assert "state 8" in text and "state 7" not in text, "the newest twelve"
    for found in page.run(
        "[...document.querySelectorAll('.mantine-ScrollArea-content p, .mantine-ScrollArea-content td')]"
        ".map(one => one.getBoundingClientRect()).filter(box => box.width).map(box => [box.left, box.right])"
    ):
        assert DESK.width - 330 < found[0] <= found[1] <= DESK.width, "within the panel, away from its edge"
