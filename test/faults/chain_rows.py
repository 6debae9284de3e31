"""Rows of the fault table around the policy: its cameras, its server, the connection between them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import fuzz
import numpy as np
from liar import HARMLESS, LIES, REFUSED
from rows import Inject, rows_of
from sensor_msgs.msg import Image
from stage import SIZE, Stage

from pi0_ros.inference.protocol import encode, infer_message
from pi0_ros.nodes.messages import seconds_to_stamp
from pi0_ros.observation.streams import Observation

HELD = "no newer chunk"
FUZZED = 5000  # frames per trial: twenty of them are 10^5


def until_held(spoil: Callable[[Stage], None], *words: str) -> Inject:
    """Spoil something that the policy needs, until the robot holds and the words were said."""

    def row(stage: Stage, trial: int) -> tuple[str, ...]:
        spoil(stage)
        for word in (HELD, *words):
            stage.told(word)
        return HELD, *words

    return row


def camera(change: Callable[[Image], Image], *words: str) -> Inject:
    def spoil(stage: Stage) -> None:
        stage.body.lie_of_camera = change

    return until_held(spoil, *words)


def _silent(stage: Stage) -> None:
    stage.body.looks = False


def _frozen(stage: Stage) -> None:
    stage.body.frozen = True


def _with(**changes: object) -> Callable[[Image], Image]:
    def change(image: Image) -> Image:
        for name, value in changes.items():
            setattr(image, name, value)
        return image

    return change


def _stamped(by_s: float) -> Callable[[Image], Image]:
    def change(image: Image) -> Image:
        image.header.stamp = seconds_to_stamp(time.time() + by_s)
        return image

    return change


def _cut(image: Image) -> Image:
    image.data = image.data[: len(image.data) // 2]
    return image


def _nothing(image: Image) -> Image:
    return Image(header=image.header)


PICTURES: dict[str, Inject] = {
    "camera silent": until_held(_silent, "/arm/image"),
    "camera frozen": until_held(_frozen, "one and the same picture"),
    "camera stamped 3 s ago": camera(_stamped(-3.0), "/arm/image"),
    "camera stamped 3 s ahead": camera(_stamped(3.0), "/arm/image"),
    "camera: unknown encoding": camera(_with(encoding="banana"), "/arm/image"),
    "camera: no encoding": camera(_with(encoding=""), "/arm/image"),
    "camera: rgba8 said, rgb8 sent": camera(_with(encoding="rgba8"), "/arm/image"),
    "camera: half of the picture": camera(_cut, "/arm/image"),
    "camera: a step of 0": camera(_with(step=0), "/arm/image"),
    "camera: 4 billion rows": camera(_with(height=2**32 - 1), "/arm/image"),
    "camera: no pixels": camera(_nothing, "/arm/image"),
}


def grey(stage: Stage, trial: int) -> str:
    """Another encoding that can be read changes nothing."""
    stage.body.lie_of_camera = lambda image: Image(
        header=image.header, height=SIZE, width=SIZE, step=SIZE, encoding="mono8", data=image.data[: SIZE * SIZE]
    )
    time.sleep(1.0)
    return ""


def lie(name: str) -> Inject:
    def row(stage: Stage, trial: int) -> str:
        stage.lie(name)
        if name in HARMLESS:
            time.sleep(1.0)
            return ""
        word = "chunk trouble" if name in REFUSED else HELD  # also where it held before, for another reason
        stage.told(word)
        return word

    return row


def killed(name: str) -> Inject:
    def row(stage: Stage, trial: int) -> str:
        stage.processes.signal(name, signal.SIGKILL)
        stage.told(HELD)
        return HELD

    return row


def stopped(name: str, seconds: float) -> Inject:
    def row(stage: Stage, trial: int) -> str:
        stage.processes.signal(name, signal.SIGSTOP)
        time.sleep(seconds)
        stage.processes.signal(name, signal.SIGCONT)
        return HELD if seconds > 2.5 else ""

    return row


def stood_in_for(number: int, after_s: float = 4.0) -> Inject:
    """The preferred one of two servers goes in mid-motion: the other answers, and the robot never holds."""

    def row(stage: Stage, trial: int) -> str:
        stage.at_speed()
        stage.processes.signal("server", number)
        assert stage.told(f"server ipc://{stage.folder}/server"), "nobody said that the server does not answer"
        time.sleep(after_s)
        stage.processes.signal("server", signal.SIGCONT)
        stage.wire.pump()
        held = [text for at, node, _, text in stage.wire.texts if at > stage.began and HELD in text]
        assert not held, f"the robot held: {held[0][:120]}"
        return ""

    return row


def fuzzed(stage: Stage, trial: int) -> str:
    """Mutated questions at the server beside the robot's own."""
    pid, frames = stage.processes.pid("server"), _question()
    before = _resident(pid)
    answers = fuzz.flood(f"ipc://{stage.folder}/server", frames, FUZZED, np.random.default_rng(trial))
    assert stage.processes.is_running("server") and stage.processes.pid("server") == pid, "the server ended"
    assert answers > FUZZED // 10, f"{answers} answers to {FUZZED} frames"
    assert _resident(pid) - before < 200e6, f"the server grew by {(_resident(pid) - before) / 1e6:.0f} MB"
    return ""


def _question() -> list[bytes]:
    """A question of the protocol for this stage's policy, of a session that is over."""
    seen = Observation(5, {"base": np.zeros((48, 48, 3), np.uint8)}, np.zeros(3), "swing", {"/arm/image": 0.1})
    return [bytes(frame) for frame in encode(infer_message(seen, "session", "fuzz", 1, None))]


def _resident(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * float(os.sysconf("SC_PAGE_SIZE"))


ROWS = rows_of(
    "chain",
    {
        **PICTURES,
        "camera: grey pictures": grey,
        "policy node killed": killed("chunks"),
        "policy node stopped for 0.5 s": stopped("chunks", 0.5),
        "policy node stopped for 3 s": stopped("chunks", 3.0),
        "server killed": killed("server"),
        "server stopped for 0.5 s": stopped("server", 0.5),
        "server stopped for 3 s": stopped("server", 3.0),
        "server stopped for 20 s": stopped("server", 20.0),
        "the way to the server cut (its relay killed)": killed("liar"),
        **{f"server answers: {name}": lie(name) for name in LIES},
        f"{FUZZED} fuzzed frames at the server": fuzzed,
    },
)
ROWS += rows_of(
    "pair",
    {
        "first of two servers killed": stood_in_for(signal.SIGKILL),
        "first of two servers stopped for 4 s": stood_in_for(signal.SIGSTOP),
    },
)
