"""The live view in a real browser: what must be in sight is, whatever the page shows, and keys do what buttons do."""

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

from pi0_ros.control.states import State  # noqa: E402
from pi0_ros.monitor import offers  # noqa: E402
from pi0_ros.monitor.panel import LABELS, MOTION, Actions, Panel  # noqa: E402
from pi0_ros.monitor.panel_text import Health, JointRow, StreamRow  # noqa: E402
from pi0_ros.monitor.scene import Scene  # noqa: E402
from pi0_ros.monitor.top_bar import Standing, TopBar  # noqa: E402
from pi0_ros.monitor.web_guard import Guard, guarded  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.skipif(chromium.found() is None, reason="needs chromium")]
STOP, STATE = "document.getElementById('pi0-stop')", "document.querySelector('#pi0-state b')"
SCREENS = {
    "small phone": Screen(360, 640, phone=True),
    "phone": PHONE,
    "lying phone": Screen(640, 360, dark=True, phone=True),
    "tablet": Screen(768, 1024),
    "desk": DESK,
    "low": Screen(1280, 500, dark=True),
}
NO_CONTROLLER = "NO CONTROLLER"
LONG = "no fresh chunk for 2.1 s, and its text goes on and on " * 20
FOLD = "[aria-label='Collapse panel area']"  # of a docked panel; on a phone its heading folds it
HEADING = "[...document.querySelectorAll('.mantine-ScrollArea-root div')].find(one => one.style.height === '3.5em')"
BUTTON = "[...document.querySelectorAll('button')].find(one => one.textContent === {!r})"
RECORDER = {
    "state": "recording",
    "episode": "/bags/episode_000003",
    "duration_s": "12.3",
    "saved": "2",
    "discarded": "1",
    "prompt": "fold it",
    "queue_mb": "0.3",
    "free_gb": "120.11",
    "rate_hz /base": "29.9",
    "age_s /base": "0.031",
    "messages /base": "360",
    "lost /base": "7",
    "rate_hz /joint_states": "0.0",
    "age_s /joint_states": "",
    "messages /joint_states": "0",
}


class Robot:
    """What the view is told about a robot, and what it was asked for."""

    def __init__(self) -> None:
        self.standing = Standing("RUNNING", "policy in charge")
        self.told: list[Any] = []


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with chromium.browser() as page:
        yield page


@pytest.fixture(scope="module")
def robot() -> Robot:
    return Robot()


@pytest.fixture(scope="module")
def panel(robot: Robot) -> Iterator[Panel]:
    bar = TopBar(lambda: robot.standing, lambda: robot.told.append("estop"))
    with guarded(Guard(), bar):
        server = viser.ViserServer(host="127.0.0.1", port=18090, verbose=False)
    Scene(server)
    told = robot.told
    actions = Actions(told.append, told.append, told.append, lambda what, on: told.append((what, on)))
    panel = Panel(server, "arm", ["put the red cube in the tray"], actions, new_scene=True)
    panel.show_headline("put the red cube in the tray", "", offers.motion({"state": "RUNNING"}, True))
    panel.show_images({"base": np.zeros((96, 96, 3), np.uint8), "wrist": np.zeros((96, 96, 3), np.uint8)})
    panel.show_health([Health("policy", 0, "fine"), Health("controller", 1, "HOLDING")])
    panel.show_joints([JointRow(f"joint {n}", "rad", -1.0, 1.0, 0.1 * n, np.nan) for n in range(14)])
    panel.show_streams([StreamRow("base", 0.02, 30.0, 0.1), StreamRow("wrist", np.inf, 0.0, 0.1)])
    for number in range(20):
        panel.log("state", f"state {number}")
    yield panel
    server.stop()


@pytest.fixture(autouse=True)
def anew(robot: Robot) -> None:
    robot.standing = Standing("RUNNING", "policy in charge")
    robot.told.clear()


def in_sight(element: str) -> str:
    """Whether the middle and the corners of an element lie within the window, with nothing above them."""
    return (
        f"(() => {{ const one = {element}, box = one.getBoundingClientRect();"
        "const seen = (x, y) => x >= 0 && y >= 0 && x <= innerWidth && y <= innerHeight"
        " && one.contains(document.elementFromPoint(x, y));"
        "return box.width > 20 && [[0.5, 0.5], [0.1, 0.2], [0.9, 0.2], [0.1, 0.8], [0.9, 0.8]]"
        ".every(([x, y]) => seen(box.x + x * box.width, box.y + y * box.height)); })()"
    )


def opened(page: Page, panel: Panel, screen: Screen) -> None:
    page.show(screen)
    page.open(f"http://127.0.0.1:{panel._server.get_port()}")
    page.wait("document.body.innerText.includes('state 19')", 120.0)


def press(page: Page, element: str) -> None:
    page.wait(f"(() => {{ const one = {element}; one?.setAttribute('data-press', ''); return !!one; }})()")
    page.click("[data-press]")
    page.run("document.querySelector('[data-press]')?.removeAttribute('data-press')")


def until(done: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 30.0
    while not done():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def stops(page: Page, robot: Robot, state: str, where: str) -> None:
    """State and stop are in sight, and a click on the stop reaches the robot."""
    page.wait(f"{STATE}.textContent === {state!r}", 30.0)
    for what, element in (("stop", STOP), ("state", STATE)):
        assert page.run(in_sight(element)), f"the {what} is not in sight: {where}"
    assert page.run(f"{STATE}.scrollWidth <= {STATE}.clientWidth"), f"the state is cut: {where}"
    robot.told.clear()
    page.click("#pi0-stop")
    until(lambda: robot.told == ["estop"], f"the stop reached the robot ({where}): {robot.told}")


@pytest.mark.parametrize("name", SCREENS)
def test_state_and_stop_are_in_sight_and_work_whatever_the_page_shows(
    page: Page, panel: Panel, robot: Robot, name: str
) -> None:
    opened(page, panel, SCREENS[name])
    sheet = page.run(f"!document.querySelector({FOLD!r})")
    fold = HEADING if sheet else f"document.querySelector({FOLD!r})"
    standings = (robot.standing, Standing("SHADOW DISARMED", LONG), Standing("NO CONTROLLER", LONG, LONG))

    for standing in standings:
        robot.standing = standing
        stops(page, robot, standing.state, f"{name}, unfolded")
    for share in (0.5, 1.0):
        page.run(
            "document.querySelectorAll('.mantine-ScrollArea-viewport')"
            f".forEach(one => {{ one.scrollTop = {share} * one.scrollHeight; }})"
        )
        stops(page, robot, robot.standing.state, f"{name}, scrolled")
    page.run(f"{BUTTON.format('Enlarge')}.click()")
    page.wait("!!document.querySelector('.mantine-Modal-content')")
    time.sleep(0.5)  # it slides in
    stops(page, robot, robot.standing.state, f"{name}, with a dialog")
    page.press("S", shift=True)
    until(lambda: len(robot.told) == 2, "the key in a dialog")
    page.run(f"{BUTTON.format('Close')}.click()")
    page.wait("!document.querySelector('.mantine-Modal-content')")
    height = f"{BUTTON.format('Enlarge')}.getBoundingClientRect().height"
    press(page, fold)
    page.wait(f"!{BUTTON.format('Enlarge')} || {height} === 0 || !({in_sight(BUTTON.format('Enlarge'))})")
    for standing in standings:
        robot.standing = standing
        stops(page, robot, standing.state, f"{name}, folded")
    assert page.run("document.documentElement.scrollWidth") <= SCREENS[name].width


def test_the_bar_says_what_became_of_the_stop(page: Page, panel: Panel, robot: Robot) -> None:
    opened(page, panel, DESK)
    robot.standing = Standing("RUNNING", "policy in charge", "estop: nobody offers /controller/estop")
    page.click("#pi0-stop")
    page.wait(f"{STOP}.textContent.startsWith('NOT STOPPED')", 30.0)
    page.wait("document.getElementById('pi0-state').textContent.includes('nobody offers /controller/estop')")
    robot.standing = Standing("STOPPED", "by the view")
    page.wait(f"{STOP}.textContent === 'EMERGENCY STOP' && {STATE}.textContent === 'STOPPED'", 30.0)
    assert page.run("getComputedStyle(document.getElementById('pi0-state')).backgroundColor") == "rgb(179, 38, 30)"


def test_the_stop_is_sent_when_it_is_pressed_and_once(page: Page, panel: Panel, robot: Robot) -> None:
    """Before the button is let go, wherever that is; by the keyboard, too."""
    opened(page, panel, DESK)
    place = page.run(f"(() => {{ const box = {STOP}.getBoundingClientRect(); return [box.x + 20, box.y + 20]; }})()")
    page.call("Input.dispatchMouseEvent", type="mousePressed", x=place[0], y=place[1], button="left", clickCount=1)
    until(lambda: robot.told == ["estop"], f"pressed, not let go: {robot.told}")
    page.call("Input.dispatchMouseEvent", type="mouseReleased", x=300, y=400, button="left", clickCount=1)
    page.click("#pi0-stop")
    until(lambda: len(robot.told) == 2, f"a whole click stops: {robot.told}")
    page.run(f"{STOP}.focus()")
    page.call("Input.dispatchKeyEvent", type="keyDown", key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r")
    page.call("Input.dispatchKeyEvent", type="keyUp", key="Enter", code="Enter", windowsVirtualKeyCode=13)
    until(lambda: len(robot.told) == 3, f"Enter stops: {robot.told}")
    time.sleep(1.0)
    assert robot.told == 3 * ["estop"], "and none is sent twice"


def test_without_a_gpu_the_scene_is_drawn_half_as_fine(page: Page, panel: Panel) -> None:
    """So that words come soon; the address may say otherwise."""
    opened(page, panel, DESK)
    one = "document.querySelector('canvas[data-engine]')"
    share = f"{one}.width / {one}.clientWidth"
    page.wait(f"Math.abs({share} - 0.5) < 0.01")
    page.open(f"http://127.0.0.1:{panel._server.get_port()}/?fixedDpr=1")
    page.wait(f"!!document.querySelector('canvas[data-engine]') && Math.abs({share} - 1) < 0.01")


def test_the_bar_says_when_the_view_is_gone(page: Page) -> None:
    bar = TopBar(lambda: Standing("RUNNING"), lambda: None)
    with guarded(Guard(), bar):
        server = viser.ViserServer(host="127.0.0.1", port=18190, verbose=False)
    page.show(DESK)
    page.open(f"http://127.0.0.1:{server.get_port()}")
    page.wait(f"{STATE}.textContent === 'RUNNING'", 60.0)
    server.stop()
    page.wait(f"{STATE}.textContent === 'NOT CONNECTED'", 60.0)
    page.click("#pi0-stop")
    page.wait(f"{STOP}.textContent === 'STOP NOT SENT'", 60.0)


@pytest.mark.parametrize(
    ("key", "code", "stops"),
    [("S", "KeyS", True), ("s", "KeyS", True), ("Ы", "KeyS", True), ("s", "Semicolon", True), ("O", "KeyS", False)],
)
def test_the_stop_is_a_key_with_caps_lock_and_on_other_keyboards_too(
    page: Page, panel: Panel, robot: Robot, key: str, code: str, stops: bool
) -> None:
    opened(page, panel, DESK)
    about = f"{{key: {key!r}, code: {code!r}, shiftKey: true, bubbles: true}}"
    page.run(f"document.body.dispatchEvent(new KeyboardEvent('keydown', {about})), 0")
    page.wait(f"{STOP}.textContent === {'STOPPING' if stops else 'EMERGENCY STOP'!r}", 10.0)
    until(lambda: robot.told == ["estop"] * stops, f"told {robot.told}")


def test_old_news_is_called_old_and_a_stop_that_failed_stays_so(page: Page, panel: Panel, robot: Robot) -> None:
    opened(page, panel, DESK)
    ask = "window.asked ??= window.fetch; window.fetch = "
    page.run(f"{ask} () => new Promise(() => 0), 0")  # a server that hangs
    page.wait("document.getElementById('pi0-state').textContent.includes('no news for')", 30.0)
    page.click("#pi0-stop")
    page.wait(f"{STOP}.textContent.startsWith('NOT STOPPED')", 10.0)
    opened(page, panel, DESK)
    refused = "(path, given) => path === '/pi0/stop' ? Promise.reject(new Error('no')) : window.asked(path, given)"
    page.run(f"{ask} {refused}, 0")
    page.click("#pi0-stop")
    time.sleep(1.5)  # in which it is told again and again that the robot runs
    assert page.run(f"[{STOP}.textContent, {STATE}.textContent]") == ["STOP NOT SENT", "RUNNING"]
    robot.standing = Standing("STOPPED", "by somebody else")
    page.wait(f"{STOP}.textContent === 'EMERGENCY STOP'", 10.0)


def luminance(colour: str) -> float:
    """Of a CSS colour `rgb(r, g, b)`, as WCAG counts it."""
    parts = np.array([float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_light_and_dark_as_the_browser_says_and_as_chosen(page: Page, panel: Panel) -> None:
    """Words and marks stand out from their ground; the choice lasts over a reload."""
    panel.show_joints([JointRow("far", "rad", -1.0, 1.0, 2.0, 0.5)])
    panel.show_recording(RECORDER, "policy", offers.recording(RECORDER))
    style = "getComputedStyle({})[{!r}]"
    ground = "document.querySelector('.mantine-ScrollArea-viewport .mantine-Paper-root')"
    marks = "[...document.querySelectorAll('span')].filter(one => one.style.color.includes('--pi0-bad'))"
    for screen, dark in ((Screen(dark=True), True), (Screen(), False)):
        opened(page, panel, screen)
        page.wait("!!document.querySelector('canvas[data-engine]')", 60.0)

        def looks() -> list[str]:
            return [
                page.run(style.format("document.querySelector('canvas[data-engine]')", "backgroundColor")),
                page.run(style.format("document.getElementById('pi0-bar')", "backgroundColor")),
                page.run(style.format("document.body", "backgroundColor")),
            ]  # fmt: skip

        def check(dark: bool) -> None:
            for colour in looks():
                assert (luminance(colour) < 0.05) == dark and (luminance(colour) > 0.7) != dark, colour
            body = page.run(style.format("document.body", "backgroundColor"))
            assert contrast(page.run(style.format("document.body", "color")), body) > 7
            assert page.run(f"{marks}.length") > 0
            for colour in page.run(f"{marks}.map(one => getComputedStyle(one).color)"):
                assert contrast(colour, body) > 4.5, f"what is wrong, {colour} on {body}"
            for mark in ("is", "sent"):
                found = f"getComputedStyle(document.documentElement).getPropertyValue('--pi0-{mark}')"
                track = "getComputedStyle(document.documentElement).getPropertyValue('--pi0-track')"
                assert contrast(rgb(page.run(found)), rgb(page.run(track))) > 1.9, mark

        check(dark)
        page.click("#pi0-scheme")
        check(not dark)
        opened(page, panel, screen)
        check(not dark)
        page.click("#pi0-scheme")
        check(dark)
        page.run("localStorage.removeItem('pi0-scheme')")
    assert page.run(f"!!{ground}")


@pytest.mark.parametrize("screen", [DESK, Screen(dark=True), PHONE], ids=["light", "dark", "phone"])
def test_every_state_says_what_it_means_and_what_to_do(page: Page, panel: Panel, robot: Robot, screen: Screen) -> None:
    """Each state of the controller, and none: its word and why in the bar, what it means in the panel, legibly."""
    opened(page, panel, screen)
    bar = "getComputedStyle(document.getElementById('pi0-state'))"
    for told in (*({"state": state.value} for state in State), None):
        offer = offers.motion(told, True)
        word = told["state"] if told else NO_CONTROLLER
        robot.standing = Standing(word, f"why it is {word}")
        panel.show_headline("fold it", "", offer)
        page.wait(f"{STATE}.textContent === {word!r}", 30.0)
        page.wait(f"document.getElementById('pi0-state').innerText.includes('why it is {word}')", 30.0)
        meant = f"[...document.querySelectorAll('p')].find(one => one.textContent === {offer.why!r})"
        page.wait(f"!!({meant})", 30.0)
        assert contrast(*page.run(f"[{bar}.color, {bar}.backgroundColor]")) > 4.5, word
        assert page.run(in_sight(meant)), f"what {word} means is in sight"
        shown = page.run("[...document.querySelectorAll('button')].map(one => one.textContent)")
        assert {LABELS[name] for name in MOTION} & set(shown) == {LABELS[name] for name in offer.buttons}, word


@pytest.mark.parametrize("size", [(360, 740), (390, 844), (414, 896), (740, 360), (844, 390), (896, 414), (568, 320)])
def test_on_a_phone_the_panel_is_as_wide_as_the_phone_and_nothing_is_cut(
    page: Page, panel: Panel, size: tuple[int, int]
) -> None:
    """A lying phone has it beside the scene, where there is room for both."""
    opened(page, panel, Screen(*size, phone=True))
    heading = "document.querySelector('.mantine-ScrollArea-viewport').getBoundingClientRect()"
    page.wait(f"{heading}.width > 0")
    left, right, top = page.run(f"[{heading}.left, {heading}.right, {heading}.top]")
    assert size[0] - 2 <= right <= size[0] and (left == 0 if size[0] <= 576 else left > size[0] / 2), (left, right)
    assert top >= page.run("document.getElementById('pi0-bar').offsetHeight"), "below the bar"
    beyond = page.run(
        "[...document.querySelectorAll('button, p, td, input')].filter(one => one.offsetWidth)"
        ".map(one => one.getBoundingClientRect()).filter(box => box.left < 0 || box.right > innerWidth).length"
    )
    assert beyond == 0
    assert page.run("document.documentElement.scrollWidth") <= size[0]


def rgb(colour: str) -> str:
    """`#rrggbb` or `#rgb` as `rgb(r, g, b)`."""
    digits = colour.strip().lstrip("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    return f"rgb({', '.join(str(int(digits[n : n + 2], 16)) for n in (0, 2, 4))})"


def test_while_recording_it_says_rates_and_losses_and_offers_no_dead_button(
    page: Page, panel: Panel, robot: Robot
) -> None:
    opened(page, panel, DESK)

    def shown(name: str) -> str:
        return f"!!({BUTTON.format(LABELS[name])})"

    panel.show_recording(RECORDER, "policy", offers.recording(RECORDER))
    page.wait(f"{shown('success')} && !{shown('start')}")
    text = page.run("document.body.innerText")
    for said in ("episode_000003 12.3 s, led by policy", "fold it", "120.11 GB free, 0.3 MB wait", "29.9", "31 ms"):
        assert said in text, said
    assert "360" in text and "never" in text and "7" in text
    press(page, BUTTON.format("Discard"))
    page.wait(f"!!({BUTTON.format('Discard: press again')})")
    assert robot.told == []
    press(page, BUTTON.format("Discard: press again"))
    until(lambda: robot.told == ["discard"], f"discarded by the second press: {robot.told}")
    press(page, BUTTON.format(LABELS["success"]))
    until(lambda: robot.told == ["discard", "success"], f"saved: {robot.told}")

    refused = {**RECORDER, "state": "idle", "refuses": "nothing publishes /base: start the robot's drivers first"}
    panel.show_recording(refused, "", offers.recording(refused))
    page.wait("document.body.innerText.includes('cannot start: nothing publishes /base')")
    assert not any(page.run(shown(name)) for name in ("start", "success", "failure"))
    ready = {**refused, "refuses": ""}
    panel.show_recording(ready, "", offers.recording(ready))
    page.wait(f"{shown('start')} && !document.body.innerText.includes('cannot start')")
    panel.show_recording(ready, "", offers.recording(None))
    page.wait(f"!{shown('start')} && document.body.innerText.includes('the recorder is silent')")


def test_keys_do_what_buttons_do(page: Page, panel: Panel, robot: Robot) -> None:
    opened(page, panel, DESK)
    told = robot.told
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


def test_a_long_reason_is_read_in_full_by_keys_and_in_two_lines_on_a_phone(
    page: Page, panel: Panel, robot: Robot
) -> None:
    robot.standing = Standing("HOLDING", LONG)
    opened(page, panel, PHONE)
    page.wait(f"{STATE}.textContent === 'HOLDING'", 30.0)
    height = "document.querySelector('#pi0-state span').offsetHeight"
    line = page.run("parseFloat(getComputedStyle(document.querySelector('#pi0-state span')).lineHeight)")
    assert 1.5 * line < page.run(height) < 2.5 * line
    page.run("document.getElementById('pi0-state').focus()")
    page.press("Enter")
    page.wait(f"{height} > {4 * line}", 10.0)
    page.press("Enter")
    page.wait(f"{height} < {2.5 * line}", 10.0)


@pytest.mark.parametrize("screen", [DESK, Screen(360, 740, phone=True)], ids=["desk", "phone"])
def test_long_texts_push_no_button_out_of_sight(page: Page, panel: Panel, robot: Robot, screen: Screen) -> None:
    opened(page, panel, screen)
    panel.show_headline(LONG, "", offers.motion({"state": "RUNNING"}, False))
    page.wait("document.body.innerText.includes('goes on and on')", 30.0)
    page.wait(in_sight(BUTTON.format("Disarm")), 10.0)
    page.wait("document.title === 'RUNNING · pi0 view'", 10.0)


def test_cameras_are_enlarged_and_closed(page: Page, panel: Panel) -> None:
    opened(page, panel, DESK)
    shown = "Math.max(...[...document.images].map(one => one.getBoundingClientRect().width))"
    small = page.run(shown)
    page.run(f"{BUTTON.format('Enlarge')}.click()")
    page.wait(f"{shown} > 1.3 * {small}")
    panel.show_images({"base": np.full((96, 96, 3), 255, np.uint8), "wrist": np.zeros((96, 96, 3), np.uint8)})
    assert len(panel._large) == 1
    page.run(f"{BUTTON.format('Close')}.click()")
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
