"""A recording is discarded by clicks in a real browser, of a real recorder: by the second press, never by the first."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

rclpy = pytest.importorskip("rclpy")
pytest.importorskip("viser")
from conftest import Processes, wait_until  # noqa: E402
from rclpy.node import Node  # noqa: E402
from recorder_arm import Driver, arm_robot  # noqa: E402

from pi0_ros.monitor.panel import AGAIN, LABELS, TWICE_S  # noqa: E402
from pi0_ros.robot import robot_to_yaml  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import browser as chromium  # noqa: E402
from browser import Page  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.dds,
    pytest.mark.skipif(chromium.found() is None, reason="needs chromium"),
]
BUTTON = "[...document.querySelectorAll('button')].find(one => one.textContent === {!r})"
LIMIT_S = 60.0


@pytest.fixture
def driver(ros_context: Any) -> Iterator[Driver]:
    """Publishes what the arm's cameras and joints would, while the test runs."""
    driver, done = Driver(Node("driver", context=ros_context)), threading.Event()

    def publish() -> None:
        while not done.wait(0.1):
            driver.all()

    thread = threading.Thread(target=publish)
    thread.start()
    yield driver
    done.set()
    thread.join()
    driver.node.destroy_node()


def click(page: Page, label: str) -> None:
    found = f"(() => {{ const one = {BUTTON.format(label)}; if (one) one.dataset.press = ''; return !!one; }})()"
    page.wait(found, LIMIT_S)
    page.click("[data-press]")
    page.run("delete document.querySelector('[data-press]')?.dataset.press")


def says(page: Page, text: str) -> None:
    page.wait(f"document.body.innerText.includes({text!r})", LIMIT_S)


def test_the_second_press_discards_and_the_first_alone_loses_nothing(
    driver: Driver, processes: Processes, tmp_path: Path
) -> None:
    robot, bags = tmp_path / "arm.yaml", tmp_path / "bags"
    robot.write_text(robot_to_yaml(arm_robot()))
    processes.node("recorder_node", robot=str(robot), out_dir=str(bags), prompt="fold it")
    processes.node("viewer_node", robot=str(robot), port=18380)
    said = processes.wait_for_output("viewer_node", "http://")
    address = said[said.index("http://") :].split()[0]
    with chromium.browser() as page:
        page.open(address)
        click(page, LABELS["start"])
        says(page, "episode_000000")
        wait_until(lambda: list(bags.glob("episode_000000*")), LIMIT_S, "the recording on disk")

        click(page, LABELS["discard"])
        page.wait(f"!!({BUTTON.format(AGAIN)})", LIMIT_S)
        page.wait(f"!!({BUTTON.format(LABELS['discard'])})", TWICE_S + LIMIT_S)  # nobody pressed again
        assert list(bags.glob("episode_000000*")), "one press lost the recording"
        says(page, "episode_000000")
        assert "1 discarded" not in page.run("document.body.innerText")

        click(page, LABELS["discard"])
        click(page, AGAIN)
        says(page, "0 saved, 1 discarded")
        says(page, "discard: done")
        wait_until(lambda: not list(bags.glob("episode_*")), LIMIT_S, lambda: f"gone, there is {list(bags.iterdir())}")
        says(page, "not recording")
        page.wait(f"!!({BUTTON.format(LABELS['start'])}) && !({BUTTON.format(LABELS['discard'])})", LIMIT_S)

        click(page, LABELS["start"])  # and the next one is kept
        says(page, "episode_000000")
        time.sleep(0.5)
        click(page, LABELS["success"])
        says(page, "1 saved, 1 discarded")
        assert [path.name for path in bags.iterdir()] == ["episode_000000"]
