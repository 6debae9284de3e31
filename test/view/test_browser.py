"""The pages in a real browser: clicked, scrubbed by keys, on a phone, and with texts that try to be markup."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import looked_at
import pytest

pytest.importorskip("websockets")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import browser as chromium
from browser import DESK, PHONE, Page, Screen

pytestmark = [pytest.mark.slow, pytest.mark.skipif(chromium.found() is None, reason="needs chromium")]
READY = "document.getElementById('main').getAttribute('aria-busy') === 'false'"
SHOWN = "[...document.querySelectorAll('figure img')].map(image => Number(image.dataset.frame))"
FRAME = "Number(document.getElementById('slider').value)"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hostile ones of each kind, and harmless ones."""
    place = tmp_path_factory.mktemp("browser")
    for name, hostile in (("good", False), ("bad", True)):
        looked_at.dataset(place / name / "dataset", hostile)
        looked_at.recordings(place / name / "bag", hostile)
        looked_at.evaluation(place / name / "evaluation", place / "good" / "dataset", hostile)
        looked_at.training_run(place / name / "run", hostile)
    return place


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with chromium.browser() as page:
        yield page


def opened(page: Page, address: str, screen: Screen = DESK) -> None:
    page.show(screen)
    page.open(address)
    page.wait(READY)
    page.wait("![...document.images].some(image => image.src && !image.complete)")
    assert page.run("document.getElementById('trouble').textContent") == ""


def text(page: Page) -> str:
    return str(page.run("document.body.innerText"))


def test_a_dataset_is_scrubbed_by_keys_and_clicks(page: Page, place: Path) -> None:
    with looked_at.served(place / "good" / "dataset") as server:
        opened(page, server.address)
        assert page.run("document.querySelectorAll('.trace canvas[role=img]').length") == 6
        for key, shift, frame in (
            ("ArrowRight", False, 1), ("ArrowRight", True, 21), ("ArrowLeft", False, 20), ("End", False, 59),
            ("ArrowRight", False, 59), ("ArrowLeft", True, 39), ("Home", False, 0),
        ):  # fmt: skip
            page.press(key, shift)
            assert page.run(FRAME) == frame, key
            page.wait(f"{SHOWN}.every(frame => frame === {frame})")
        page.click(".marks button")  # the label "grasp", in the middle
        assert page.run(FRAME) == 30
        assert "grasp" in page.run("document.getElementById('now').innerText")
        page.click("[data-episode='1']")
        page.wait("document.querySelector('.prompt').textContent === 'put the green cube in the tray'")
        assert "#episode=1&frame=0" in page.run("location.hash")
        page.press("PageDown")
        page.wait("location.hash.startsWith('#episode=2')")
        page.click("#play")
        page.wait(f"{FRAME} === 51 && document.getElementById('play').textContent === 'play'")  # played to its end
        page.press("Home")
        page.press(" ")  # on the button: one press, not two
        page.wait(f"{FRAME} > 0")
        page.press("Escape")
        page.run("document.activeElement.blur()")
        page.press(" ")
        page.wait("document.getElementById('play').textContent === 'play'")
        page.click("figure button")
        assert page.run("document.querySelector('figure').classList.contains('large')")
        page.press("/")
        page.type("green")
        page.wait("document.querySelectorAll('[data-episode]').length === 1")
        page.press("ArrowLeft")  # in the text: no scrub
        page.press("Escape")
        page.wait("document.querySelectorAll('[data-episode]').length === 3")
        page.press("?")
        assert "a frame back, on" in text(page)


def test_a_place_in_an_episode_has_an_address(page: Page, place: Path) -> None:
    with looked_at.served(place / "good" / "dataset") as server:
        opened(page, f"{server.address}/#episode=2&frame=17")
        page.wait(f"{SHOWN}.every(frame => frame === 17)")
        assert page.run("location.hash") == "#episode=2&frame=17"
        opened(page, f"{server.address}/#episode=0&frame=99999")
        assert page.run(FRAME) == 59


def test_a_recording_says_what_holds_where(page: Page, place: Path) -> None:
    with looked_at.served(place / "good" / "bag") as server:
        opened(page, f"{server.address}/#frame=24")
        page.wait(f"{SHOWN}.every(frame => frame === 24)")
        now = "document.getElementById('now').innerText"
        assert "takeover: a person led" in page.run(now)
        page.press("ArrowRight", shift=True)
        assert "gap: /demo_arm/joint_states: nothing for" in page.run(now)
        assert "ms old" in text(page)
        page.press("Home")
        page.wait("document.querySelector('figure .why').textContent === 'no picture yet'")
        page.click("[data-episode='1']")
        page.wait("location.hash.startsWith('#episode=1')")
        assert "none: --robot would say joints and limits" in text(page)


def test_an_evaluation_leads_to_its_worst_moments(page: Page, place: Path) -> None:
    with looked_at.served(place / "good" / "evaluation") as server:
        opened(page, server.address)
        assert "episode 1, frame 20" in page.run("document.getElementById('moment').innerText")
        page.wait("[...document.querySelectorAll('#moment img')].every(image => image.naturalWidth === 32)")
        page.press("ArrowRight")
        assert page.run("location.hash") == "#moment=1"
        page.click("[data-moment='0']")
        assert page.run("location.hash") == "#moment=0"
        assert page.run("document.querySelectorAll('tbody tr').length") == 7


def test_a_run_is_followed_while_it_runs(page: Page, place: Path) -> None:
    run = place / "good" / "run"
    with looked_at.served(run) as server:
        opened(page, server.address)
        assert "600" in page.run("document.querySelector('dl').innerText")
        assert page.run("document.querySelector('img.sheet').naturalWidth") == 4
        page.click("input[type=checkbox]")
        with (run / "progress.csv").open("a") as file:
            file.write('"last",610,61,800,1e-4,0.03,0.01,0.1,1,111,\n')
        page.wait("document.querySelector('dl').innerText.includes('610')")
        assert not page.run("document.querySelector('input[type=checkbox]').checked")  # stays as it was set


@pytest.mark.parametrize("kind", ["dataset", "bag", "evaluation", "run"])
def test_no_text_becomes_markup_and_nothing_is_wider_than_a_phone(page: Page, place: Path, kind: str) -> None:
    with looked_at.served(place / "bad" / kind) as server:
        opened(page, server.address, PHONE)
        assert looked_at.HOSTILE[0] in page.run("document.body.textContent")  # it is there, as a text
        assert page.run("document.querySelectorAll('main svg, main script, main img[onerror]').length") == 0
        assert page.run("document.title").endswith("– pi0 view")
        assert page.run("document.documentElement.scrollWidth") == PHONE.width
        small = (
            "[...document.querySelectorAll('main button')].filter(b => b.offsetParent && b.offsetHeight < 36).length"
        )
        assert page.run(small) == 0


def test_what_is_gone_is_said(page: Page, tmp_path: Path) -> None:
    data = looked_at.dataset(tmp_path / "set")
    with looked_at.served(data) as server:
        opened(page, server.address)
        for file in (data / "videos").rglob("*.mp4"):
            file.unlink()
        page.press("End")
        page.wait(
            "[...document.querySelectorAll('figure .why')].every(why => why.textContent.includes('can\\'t be read'))"
        )
        for file in (data / "data").rglob("*.parquet"):
            file.write_bytes(b"broken")
        page.press("PageDown")
        page.wait("document.getElementById('trouble').textContent.includes(\"can't be read\")")
        offline = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        page.call("Network.emulateNetworkConditions", offline=True, **offline)
        try:
            page.press("PageUp")
            page.wait("document.getElementById('trouble').textContent.includes('start `pi0 view` again')")
        finally:
            page.call("Network.emulateNetworkConditions", offline=False, **offline)
