"""`pi0 record` in a terminal of its own, beside a recorder node as users start it."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

rclpy = pytest.importorskip("rclpy")
from rclpy.node import Node  # noqa: E402
from recorder_arm import ROBOT_FILE, STATE, Driver, custom_data  # noqa: E402

from pi0_ros.monitor.recorder_desk import KEYS, screen  # noqa: E402

KEYBOARD = [sys.executable, "-m", "pi0_ros.cli.main", "record"]


class Terminal:
    """A process behind a pseudo-terminal, and the driver that keeps publishing while we wait for its words."""

    def __init__(self, argv: list[str], driver: Driver) -> None:
        self._driver = driver
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        os.close(slave)
        self._new = ""

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def press_twice(self, key: str, asked: str, done: str) -> None:
        """A key that counts when it is pressed again soon; on a busy machine "soon" may be missed."""
        self.press(key)
        self.wait_for(asked)
        for _ in range(10):
            self.press(key)
            if self.wait_for(done, or_else=asked) == done:
                return
        raise AssertionError(f"{key} was never twice in time")

    def wait_for(self, text: str, limit_s: float = 120.0, or_else: str | None = None) -> str:
        """Wait until `text` is printed, or `or_else`, after what was waited for before; which of them came first."""
        deadline = time.monotonic() + limit_s
        while text not in self._new and (or_else is None or or_else not in self._new):
            assert time.monotonic() < deadline, f"{text!r} did not come: {self._new[-1500:]}"
            assert self.process.poll() is None, self._new
            self._driver.all()
            if select.select([self._master], [], [], 0.05)[0]:
                self._new += os.read(self._master, 65536).decode("utf8", "replace")
        places = {self._new.index(word): word for word in (text, or_else) if word and word in self._new}
        first = places[min(places)]
        self._new = self._new.partition(first)[2]
        return first

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def driver(ros_context: rclpy.Context) -> Iterator[Driver]:
    node = Node("driver", context=ros_context)
    yield Driver(node)
    node.destroy_node()


@pytest.fixture
def terminal(driver: Driver) -> Iterator[Terminal]:
    terminal = Terminal([*KEYBOARD, "--prompt", "stack the cups"], driver)
    yield terminal
    terminal.close()


@pytest.mark.dds
@pytest.mark.slow
def test_keys_start_mark_discard_and_quit(processes, terminal: Terminal, tmp_path: Path) -> None:
    terminal.wait_for("no recorder called 'recorder' is heard on ROS_DOMAIN_ID")
    (tmp_path / "arm.yaml").write_text(ROBOT_FILE)
    bags = tmp_path / "bags"
    processes.node("recorder_node", robot=str(tmp_path / "arm.yaml"), out_dir=str(bags))
    terminal.wait_for("idle")
    terminal.wait_for("prompt: stack the cups")
    terminal.wait_for(STATE)
    terminal.wait_for(KEYS)
    terminal.press(" ")
    terminal.wait_for(f"start: {bags}/episode_000000")
    terminal.wait_for("RECORDING episode_000000")
    terminal.press("p")
    terminal.wait_for("prompt of the next episode: ")
    terminal.press("sort the spoons\n")
    terminal.press("s")
    terminal.wait_for(f"success: {bags}/episode_000000")
    terminal.wait_for("prompt: sort the spoons")
    assert custom_data(bags / "episode_000000")["outcome"] == "success"
    assert custom_data(bags / "episode_000000")["prompt"] == "stack the cups"

    terminal.press(" ")
    terminal.wait_for("RECORDING episode_000001")
    terminal.press_twice("d", "d again discards this episode", f"discard: {bags}/episode_000001")
    terminal.wait_for("saved 1, discarded 1")
    assert [entry.name for entry in bags.iterdir()] == ["episode_000000"]
    terminal.press("f")
    terminal.wait_for("failure: nothing is being recorded: call start first")

    terminal.press(" ")
    terminal.wait_for("RECORDING episode_000001")
    terminal.press("q")
    terminal.wait_for("stop it first, or q again")
    terminal.press(" ")
    terminal.wait_for(f"stop: {bags}/episode_000001")
    assert custom_data(bags / "episode_000001")["outcome"] == "unknown"
    assert custom_data(bags / "episode_000001")["prompt"] == "sort the spoons"
    terminal.wait_for("idle")
    terminal.press("q")
    assert terminal.process.wait(60) == 0


def test_without_a_terminal_it_says_what_to_do_instead() -> None:
    done = subprocess.run(KEYBOARD, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith("pi0 record: needs a terminal for its keys; without one call the recorder's services")
    assert len(done.stderr.splitlines()) == 1


def test_the_screen_shows_rates_ages_losses_and_problems() -> None:
    status = {"state": "recording", "episode": "/data/bags/episode_000003", "prompt": "", "outcome": "success"}
    status |= {"duration_s": "4.5", "queue_mb": "1.5", "free_gb": "0.9", "saved": "3", "discarded": "0"}
    status |= {
        "problem": "",
        "rate_hz /cam": "29.5",
        "age_s /cam": "0.034",
        "rate_hz /joints": "0",
        "age_s /joints": "",
    }
    status |= {"messages /cam": "133", "lost /cam": "2", "messages /joints": "0", "lost /joints": "unknown"}
    assert screen(status) == [
        "RECORDING episode_000003  4.5 s  marked success",
        "prompt: none: press p",
        "saved 3, discarded 0",
        "disk 0.9 GB free, 1.5 MB wait for it",
        "topic        Hz   age ms  messages     lost",
        "/cam       29.5       34       133        2",
        "/joints       0    never         0  unknown",
    ]
    assert "PROBLEM: disk is full" in screen({**status, "problem": "disk is full"})
