"""A recorder's keys and screen in a terminal."""

from __future__ import annotations

import os
import select
import shutil
import sys
import termios
import time
import tty
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rclpy.executors import Executor

    from pi0_ros.nodes.recorder_client import RecorderClient

KEYS = "space start/stop   s success   f failure   dd discard   p prompt   q quit"
REDRAW_S = 0.25
SILENT_S = 3.0
ANSWER_S = 60.0  # a slow disk takes its time for the rest of an episode
TWICE_S = 3.0  # d lies between s and f


class Desk:
    """The keys and the screen of one recorder."""

    def __init__(self, recorder: RecorderClient, executor: Executor, prompt: str = "") -> None:
        self._recorder = recorder
        self._executor = executor
        self._prompt = prompt  # to be sent once the recorder hears us
        self._asked_s = 0.0
        self._first: tuple[str, float] = "", 0.0  # a key that must be pressed twice, and when it was
        self._drawn = 0  # lines on the screen that will be drawn anew

    def run(self) -> None:
        """Until q, or Ctrl-C."""
        redraw_at = 0.0
        with single_keys():
            while True:
                self._executor.spin_once(timeout_sec=0.05)
                self._hear_answer()
                if self._prompt and self._recorder.set_prompt(self._prompt):
                    self._prompt = ""
                for key in pressed():
                    if not self._press(key):
                        return
                    redraw_at = 0.0
                if time.monotonic() > redraw_at:
                    self._draw()
                    redraw_at = time.monotonic() + REDRAW_S

    def _press(self, key: str) -> bool:
        """False: the user quits."""
        recording = self._recorder.status.get("state") == "recording"
        twice, self._first = self._first[0] == key and time.monotonic() - self._first[1] < TWICE_S, ("", 0.0)
        if key == "q":
            if not recording or twice:
                return False
            self._once(key, "the recorder is recording: stop it first, or q again to let it go on by itself")
        elif key == "d" and recording and not twice:
            self._once(key, "d again discards this episode")
        elif key == "p":
            self._ask_prompt(recording)
        elif key in (" ", "s", "f", "d"):
            self._act({" ": "stop" if recording else "start", "s": "success", "f": "failure", "d": "discard"}[key])
        return True

    def _once(self, key: str, text: str) -> None:
        self._first = key, time.monotonic()
        self._say(text)

    def _act(self, action: str) -> None:
        if self._recorder.busy:
            self._say("the recorder has not answered yet")
        elif self._recorder.act(action):
            self._asked_s = time.monotonic()
        else:
            self._say(self._nobody())

    def _hear_answer(self) -> None:
        answer = self._recorder.answer()
        if answer is not None:
            action, success, message = answer
            self._say(f"{action}: {message.splitlines()[0] if success and message else message}")
        elif self._recorder.busy and time.monotonic() - self._asked_s > ANSWER_S:
            self._recorder.give_up()
            self._say(f"no answer within {ANSWER_S:g} s. {self._nobody()}")

    def _ask_prompt(self, recording: bool) -> None:
        self._clear()
        with whole_lines():
            try:
                self._prompt = input("prompt of the next episode: " if recording else "prompt: ").strip()
            except (EOFError, KeyboardInterrupt):
                print()

    def _nobody(self) -> str:
        domain = os.environ.get("ROS_DOMAIN_ID", "0")
        return (
            f"no recorder called {self._recorder.name!r} is heard on ROS_DOMAIN_ID {domain}: "
            "start one with `pi0 up record robot:=...`"
        )

    def _say(self, text: str) -> None:
        """A line that stays."""
        self._clear()
        print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)

    def _draw(self) -> None:
        heard = self._recorder.silent_s() < SILENT_S
        width = shutil.get_terminal_size().columns - 1
        lines = [*(screen(self._recorder.status) if heard else [self._nobody()]), KEYS]
        self._clear()
        print("\n".join(line[:width] for line in lines), flush=True)
        self._drawn = len(lines)

    def _clear(self) -> None:
        if self._drawn:
            print(f"\x1b[{self._drawn}F\x1b[J", end="")
        self._drawn = 0


def screen(status: Mapping[str, str]) -> list[str]:
    """The recorder's state in lines, from the values of its diagnostics."""
    name = status["episode"].rpartition("/")[2]
    state = f"RECORDING {name}  {status['duration_s']} s" if status["state"] == "recording" else "idle"
    lines = [
        state + (f"  marked {status['outcome']}" if status["outcome"] else ""),
        f"prompt: {status['prompt'] or 'none: press p'}",
        f"saved {status['saved']}, discarded {status['discarded']}",
        f"disk {status['free_gb']} GB free, {status['queue_mb']} MB wait for it",
    ]
    lines += [f"PROBLEM: {line}" for line in status["problem"].splitlines()]
    topics = [key.partition(" ")[2] for key in status if key.startswith("rate_hz ")]
    width = max([5, *map(len, topics)])
    lines.append(f"{'topic':{width}s}{'Hz':>8s}{'age ms':>9s}{'messages':>10s}{'lost':>9s}")
    for topic in topics:
        age = status[f"age_s {topic}"]
        cells = [f"{float(age) * 1e3:.0f}" if age else "never"]
        cells += [status.get(f"{key} {topic}", "") for key in ("messages", "lost")]
        lines.append(f"{topic:{width}s}{status[f'rate_hz {topic}']:>8s}{cells[0]:>9s}{cells[1]:>10s}{cells[2]:>9s}")
    return lines


@contextmanager
def single_keys() -> Iterator[None]:
    """The terminal gives each key at once and does not show it."""
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


@contextmanager
def whole_lines() -> Iterator[None]:
    """Within `single_keys`: lines as usual, for a while."""
    before = termios.tcgetattr(sys.stdin)
    changed = termios.tcgetattr(sys.stdin)
    changed[3] |= termios.ICANON | termios.ECHO
    termios.tcsetattr(sys.stdin, termios.TCSADRAIN, changed)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def pressed() -> str:
    """The keys pressed since the last call; never waits. OSError where the terminal is gone."""
    if not select.select([sys.stdin], [], [], 0)[0]:
        return ""
    keys = os.read(sys.stdin.fileno(), 64)
    if not keys:
        raise OSError("the terminal is gone")
    return keys.decode("utf8", "replace")
