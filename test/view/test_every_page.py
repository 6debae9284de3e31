"""Every page in every state, on a desk and on a phone, light and dark: nothing is cut off or too faint, every control
has a name and is reached by Tab, and the browser's console stays empty."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import looked_at
import motion
import numpy as np
import pytest

from pi0_ros.cli.main import main
from pi0_ros.cli.replay import write_replay_page
from pi0_ros.control.chunk import ActionChunk
from pi0_ros.monitor.replay import Played, Truth, measure

pytest.importorskip("websockets")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import browser as chromium
from browser import PHONE, Page, Screen

pytestmark = [pytest.mark.slow, pytest.mark.skipif(chromium.found() is None, reason="needs chromium")]
DESK = Screen(1400, 900)
SCREENS = [DESK, replace(DESK, dark=True), PHONE, replace(PHONE, dark=True)]
PAGES = (
    *("good dataset", "good recordings", "good evaluation", "good run"),
    *("hostile dataset", "hostile recordings", "hostile evaluation", "hostile run"),
    *("long prompt", "incident", "many joints", "no cameras", "diverged run"),
)
REPORTS = ("dataset", "hostile dataset", "explained", "replay")
READY = "document.getElementById('main').getAttribute('aria-busy') === 'false'"
LOADED = "![...document.images].some(image => image.src && !image.complete)"
CONTROLS = (
    "[...document.querySelectorAll('button, input, summary, a[href], [tabindex]')].filter(c => c.checkVisibility())"
)
SWEEP = (Path(__file__).parent / "sweep.js").read_text()
MOST_TABS = 400


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("every_page")


@pytest.fixture(scope="module")
def pages(place: Path) -> dict[str, Path]:
    return looked_at.pages(place / "pages")


@pytest.fixture(scope="module")
def reports(place: Path, pages: dict[str, Path]) -> dict[str, Path]:
    """Pages in one file: of two datasets, of a recording that was converted, of a replay."""
    for name in ("good dataset", "hostile dataset"):
        assert main(["dataset", "plot", str(pages[name]), "--html", "--out", str(place / name)]) == 0
    bag, explained = pages["good recordings"] / "a", place / "explained.html"
    assert main(["convert", "--explain", str(bag), "--page", str(explained)]) == 0
    return {
        "dataset": place / "good dataset" / "report.html",
        "hostile dataset": place / "hostile dataset" / "report.html",
        "explained": explained,
        "replay": replay_page(place / "replay.html"),
    }


def replay_page(path: Path) -> Path:
    """Of a policy that is off by a tenth of every range and holds once, of an incident."""
    robot, second = looked_at.ROBOT, 1_000_000_000
    span = robot.upper - robot.lower
    times = np.arange(0, 4 * second, second // 20)
    truth = Truth(times, np.outer(times * 1e-9, 0.05 * span))
    played = Played(6, 0, 3 * second, states=[(second, "HOLDING", "no newer chunk"), (2 * second, "RUNNING", "")])
    for begin in range(0, 3 * second, second // 2):
        actions = truth.at(begin + second // 20 * np.arange(10)) + 0.1 * span
        played.chunks.append(ActionChunk(begin, second // 20, actions, robot.joint_names))
    report = measure("towels/checkpoint", robot, truth, played)
    told = [(1.0, f"hold: {looked_at.HOSTILE[0]}")]
    write_replay_page(path, Path("episode_000012"), robot, truth, [(report, played)], [], told, ["kept: a hold"])
    return path


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with chromium.browser() as page:
        yield page


def test_every_state_is_swept(pages: dict[str, Path]) -> None:
    assert set(PAGES) == set(pages)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole_on_every_screen(page: Page, pages: dict[str, Path], name: str) -> None:
    with looked_at.served(pages[name]) as server:
        for screen in SCREENS:
            page.complaints.clear()
            page.show(screen)
            page.open(server.address)
            page.wait(f"{READY} && {LOADED}")
            page.run("document.getElementById('help').click()")
            page.run("document.querySelectorAll('details').forEach(one => { one.open = true; })")
            assert_whole(page, screen)
            expected = [each for each in page.complaints if "hostile" not in name or "422" not in each]
            assert not expected, "a picture that is elsewhere is refused; nothing else complains"


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_in_one_file_is_whole_on_every_screen(page: Page, reports: dict[str, Path], name: str) -> None:
    for screen in SCREENS:
        page.complaints.clear()
        page.show(screen)
        page.open(reports[name].as_uri())
        page.wait(LOADED)
        assert_whole(page, screen)
        assert not page.complaints


def assert_whole(page: Page, screen: Screen) -> None:
    assert page.run("document.title.length") > 5 and "PWNED" not in page.run("document.title").partition("–")[0]
    found = page.run(SWEEP)
    assert not {fault: where for fault, where in found.items() if where}, screen
    assert page.run("document.documentElement.scrollWidth") == screen.width


@pytest.mark.parametrize("name", ["good dataset", "incident", "good evaluation", "good run"])
def test_every_control_is_reached_by_tab(page: Page, pages: dict[str, Path], name: str) -> None:
    with looked_at.served(pages[name]) as server:
        page.show(DESK)
        page.open(server.address)
        page.wait(f"{READY} && {LOADED}")
        page.run(f"{CONTROLS}.forEach((one, place) => {{ one.dataset.place = place; }})")
        wanted = page.run(f"{CONTROLS}.filter(one => !one.disabled).map(one => one.dataset.place)")
        seen: set[Any] = set()
        for _ in range(MOST_TABS):
            page.press("Tab")
            seen.add(page.run("document.activeElement.dataset.place"))
            assert page.run("document.activeElement.matches(':focus-visible, body')")
            if seen >= set(wanted):
                break
        missed = set(wanted) - seen
        assert not missed, page.run(
            f"{CONTROLS}.filter(one => {sorted(missed)!r}.includes(one.dataset.place)).map(o => o.outerHTML)"
        )


def test_the_worst_is_found_by_a_click_and_by_a_key(page: Page, pages: dict[str, Path]) -> None:
    frame = "Number(document.getElementById('slider').value)"
    with looked_at.served(pages["many joints"]) as server:
        page.show(DESK)
        page.open(server.address)
        page.wait(f"{READY} && {LOADED}")
        press = "[...document.querySelectorAll('.marks button')].find(one => one.innerText.includes('{}')).click()"
        page.run(press.format("outside its limits: left_forearm_roll"))
        assert page.run(frame) == 20
        assert "10 values outside" in page.run("document.querySelector('.range .old').innerText")
        page.click(".range .old")
        assert page.run(frame) == 21, "the next one"
        page.press("Home")
        page.press("n")
        assert page.run(frame) == 20
        page.press("p")
        assert page.run(frame) == 20, "nothing is before it"
    with looked_at.served(pages["incident"]) as server:
        page.open(server.address)
        page.wait(f"{READY} && {LOADED}")
        assert page.run(frame) == 48, "opened where it happened, 2.4 s at 20 fps"
        assert looked_at.STOPPED in page.run("document.querySelector('[role=alert] .alert').innerText")
        page.press("p")
        page.press("p")
        assert "hold: picture is 0.31 s old" in page.run("document.getElementById('now').innerText")


def test_what_is_read_at_a_frame_is_what_the_file_holds(page: Page, pages: dict[str, Path]) -> None:
    from pi0_ros.datasets.folder import DatasetFolder

    folder = DatasetFolder(pages["good dataset"])
    rows = folder.rows(folder.entries[2])
    with looked_at.served(pages["good dataset"]) as server:
        page.show(DESK)
        page.open(f"{server.address}/#episode=2&frame=31")
        page.wait(f"{READY} && {LOADED}")
        told = page.run(
            "[...document.querySelectorAll('.trace .read')].map(one => one.innerText.replaceAll('\\n', ' '))"
        )
        for dim, text in enumerate(told):
            values = {
                key: float(folder.columns[column][rows][31, dim])
                for key, column in (("action", "action"), ("state", "observation.state"))
            }
            assert text == " ".join(f"{key} {value:.3f}" for key, value in values.items())
        assert page.run("document.getElementById('time').textContent") == f"{31 / motion.FPS:.2f} s · frame 31 / 51"
