"""Random recordings: every row of every dataset is right, or the recording was rejected or cut with the true reason.

A camera draws its own true time into its pictures, joints and commands are a known function of theirs, so each row can
be held against what each stream had sent by then. Rates, jitter, delays, clocks, steps, dropouts, late starts and early
ends are drawn by hypothesis. `PI0_EXAMPLES=2000` runs more of them (`--hypothesis-seed=N` the same ones again).
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from bagmaker import START_NS, STORE, image_message, joint_message, string_message, trajectory_message
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from rosbags.rosbag2 import StoragePlugin, Writer

from pi0_ros.conversion.convert import convert
from pi0_ros.conversion.report import BagReport
from pi0_ros.datasets.dataset import Dataset, Episode
from pi0_ros.datasets.layout import DatasetError
from pi0_ros.robot import load_robot

EXAMPLES = int(os.environ.get("PI0_EXAMPLES", "50"))
ROBOT = load_robot("demo_arm")
FPS = 20
BASE, WRIST = (camera.topic for camera in ROBOT.cameras)
STATES, COMMANDS = ROBOT.state[0].topic, ROBOT.commands[0].topic
TOPICS = (BASE, WRIST, STATES, COMMANDS)
CELL = 8  # pixels of a bit of the time
SHARED = st.sampled_from([0.0, 0.0, 0.0, 0.4, -0.7, -1.7e9])  # of all clocks: a machine that is off, a simulator
ODD = st.sampled_from([0.0, 0.0, 0.0, 0.0, 0.3, -0.3, 3.0, -3.0])  # of one clock
STEP = st.sampled_from([0.0, 0.0, 0.0, -2.0, 2.0, 0.5, -0.5, 3600.0, -3600.0])
MACHINE = st.sampled_from([0.0, 0.0, 0.0, 0.0, 0.0, -0.5, -2.0, -3600.0])


@dataclass(frozen=True)
class Stream:
    """How one topic was recorded; seconds."""

    rate: float
    jitter: float  # of the true times of the samples
    delay: float  # from a sample to its arrival, at least
    delay_jitter: float
    first: float = 0.0
    last: float = 99.0
    pause: tuple[float, float] = (0.0, 0.0)
    lost: float = 0.0  # share of the messages
    offset: float = 0.0  # of its clock
    own_step: float = 0.0  # of its clock alone, in the middle


@dataclass(frozen=True)
class Case:
    """A recording to be made."""

    seed: int
    seconds: float
    streams: dict[str, Stream]
    shared: float = 0.0
    step: float = 0.0
    machine: float = 0.0  # the clock of the recorder and of all others is set back: stamps and arrivals
    stamped_commands: bool = True
    faults: frozenset[str] = field(default_factory=frozenset)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    seconds = draw(st.floats(3.0, 6.0))
    streams, faults = {}, set()
    odd = draw(st.sampled_from(TOPICS))
    stamped = draw(st.booleans())
    for topic in TOPICS:
        rates = (22.0, 40.0) if topic in (BASE, WRIST) else (30.0, 120.0)
        more: dict[str, Any] = {}
        if draw(st.integers(0, 9)) == 0:
            more["first"] = draw(st.floats(0.3, 2.5))
            faults.add("late")
        if draw(st.integers(0, 9)) == 0:
            more["last"] = seconds - draw(st.floats(0.3, 2.5))
            faults.add("early")
        if draw(st.integers(0, 7)) == 0:
            start = draw(st.floats(0.5, seconds - 0.5))
            more["pause"] = (start, start + draw(st.floats(0.1, 1.5)))
            faults.add("pause")
        if draw(st.integers(0, 5)) == 0:
            more["lost"] = draw(st.floats(0.0, 0.2))
            faults.add("pause")
        if topic == odd and (topic != COMMANDS or stamped):
            more["offset"] = draw(ODD)
            faults |= {"offset"} if more["offset"] else set()
            if draw(st.integers(0, 9)) == 0:
                more["own_step"] = draw(st.sampled_from([0.6, -0.6, 2.0]))
                faults.add("own step")
        streams[topic] = Stream(
            draw(st.floats(*rates)),
            draw(st.floats(0, 0.002)),
            draw(st.floats(0.001, 0.015)),
            draw(st.floats(0, 0.01)),
            **more,
        )
    step = draw(STEP)
    faults |= {"step"} if step else set()
    machine = draw(MACHINE) if not step else 0.0
    faults |= {"step"} if machine else set()
    return Case(draw(st.integers(0, 2**31)), seconds, streams, draw(SHARED), step, machine, stamped, frozenset(faults))


def values(t_s: float) -> np.ndarray:
    """The joints at a true time: each tells it."""
    return 0.1 + t_s * np.array([0.1, 0.05, 0.07, 0.06, 0.08, 0.04])


def picture(t_s: float) -> np.ndarray:
    """16 cells, black or white: the true time in ms, by Gray's code, so that neighbours differ in one cell."""
    number = round(t_s * 1000)
    bits = [(number ^ number >> 1) >> place & 1 for place in range(16)]
    return np.kron(np.array(bits, np.uint8).reshape(4, 4, 1) * 200 + 25, np.ones((CELL, CELL, 3), np.uint8))


def drawn_times(frames: np.ndarray) -> np.ndarray:
    """The inverse of `picture`, s [T]."""
    cells = frames.mean(axis=3).reshape(len(frames), 4, CELL, 4, CELL).mean(axis=(2, 4)).reshape(len(frames), 16)
    number = np.zeros(len(frames), int)
    for place in reversed(range(16)):
        number |= ((cells[:, place] > 125).astype(int) ^ (number >> place + 1 & 1)) << place
    return number / 1000


def make(path: Path, case: Case) -> dict[str, np.ndarray]:
    """Write the recording; return the true times of every topic's samples in it."""
    random = np.random.default_rng(case.seed)
    found: list[tuple[float, str, Any]] = []
    times: dict[str, list[float]] = {topic: [] for topic in TOPICS}
    middle = case.seconds / 2
    for topic, stream in case.streams.items():
        arrived = 0.0
        for number in range(int(case.seconds * stream.rate)):
            t_s = max(0.0, number / stream.rate + random.uniform(-1, 1) * stream.jitter)
            arrived = max(arrived, t_s + stream.delay + random.uniform(0, 1) * stream.delay_jitter)
            gone = stream.pause[0] <= t_s < stream.pause[1] or random.uniform() < stream.lost
            if gone or not stream.first <= t_s <= stream.last:
                continue
            clock = case.shared + stream.offset + (case.step + case.machine if t_s >= middle else 0.0)
            clock += stream.own_step if t_s >= middle else 0.0
            ns = START_NS + round(t_s * 1e9) + round(clock * 1e9)
            if topic in (BASE, WRIST):
                message = image_message(ns, picture(t_s))
            elif topic == STATES:
                message = joint_message(ns, ROBOT.joint_names, values(t_s))
            else:
                message = trajectory_message(ns if case.stamped_commands else 0, ROBOT.joint_names, values(t_s))
            found.append((arrived, topic, message))
            times[topic].append(t_s)
    kinds = {**ROBOT.topics, "/pi0/prompt": "std_msgs/msg/String"}
    found.append((0.0, "/pi0/prompt", string_message("do it")))
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {topic: writer.add_connection(topic, kind, typestore=STORE) for topic, kind in kinds.items()}
        for arrived, topic, message in sorted(found, key=lambda item: item[0]):
            by = case.machine if arrived >= middle else 0.0
            ns = START_NS + round((arrived + by) * 1e9)
            writer.write(connections[topic], ns, STORE.serialize_cdr(message, kinds[topic]))
    return {topic: np.sort(np.array(known)) for topic, known in times.items()}


REASONS = {  # what a rejection or cut may say -> faults of which one must have been made
    "begins only": {"late", "pause"},
    "ends ": {"early", "pause"},
    "its begin is missing": {"late", "pause"},
    "its end is missing": {"early", "pause"},
    "its clock is another one": {"offset", "own step", "step"},
    "its clock was set": {"own step", "offset", "step"},
    "the clock was set": {"step", "own step"},
    "no message on": {"late", "early", "pause"},
    "old, limit": {"late", "early", "pause"},
    "too short": {"late", "early", "pause", "step"},
    "in the future": {"late", "pause"},
}


def check_reason(text: str, case: Case) -> None:
    allowed = [faults for words, faults in REASONS.items() if words in text]
    assert allowed and any(faults & case.faults for faults in allowed), (text, case.faults)


def check_rows(report: BagReport, episodes: list[Episode], times: dict[str, np.ndarray], case: Case) -> None:
    """Every value of every row is the newest that its stream had at the row's true time, to one sample period."""
    for about, episode in zip(report.episodes, episodes, strict=True):
        true = (about.start_ns - START_NS - round(case.shared * 1e9)) * 1e-9 + np.arange(episode.length) / FPS
        slope = values(1.0) - values(0.0)
        shown = {
            BASE: drawn_times(episode.frames("base")),
            WRIST: drawn_times(episode.frames("wrist")),
            STATES: ((episode.state - values(0.0)) / slope).mean(axis=1),
            COMMANDS: ((episode.action - values(0.0)) / slope).mean(axis=1),
        }
        for topic, seen in shown.items():
            stream = case.streams[topic]
            # a time taken from arrivals, or a step told by them, is right to the arrivals' delay and jitter
            slack = max(s.delay + s.delay_jitter for s in case.streams.values()) + 0.002
            slack += max(1 / s.rate for s in case.streams.values()) if case.machine else 0.0  # when the next was due
            period = 1 / stream.rate + 2 * stream.jitter
            newest = times[topic][np.searchsorted(times[topic], true + slack, side="right") - 1]
            oldest = times[topic][np.maximum(np.searchsorted(times[topic], true - slack, side="right") - 1, 0)]
            late = seen - newest
            early = oldest - period - seen
            assert late.max() < 0.002, (topic, late.max(), "from the future")
            assert early.max() < 0.002, (topic, early.max(), "older than it must be")


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(cases())
def test_every_row_is_right_or_the_reason_is_true(case: Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        times = make(Path(folder) / "bag", case)
        try:
            report = convert([Path(folder) / "bag"], Path(folder) / "out", ROBOT).bags[0]
        except DatasetError as error:
            event("rejected")
            check_reason(str(error), case)
            return
        event(f"{len(report.episodes)} episodes")
        for gap in (*report.gaps, *report.left_out):
            check_reason(gap.why, case)
        dataset = Dataset(Path(folder) / "out")
        check_rows(report, dataset.episodes, times, case)
        if not case.faults:
            assert len(report.episodes) == 1 and report.frames > (case.seconds - 0.3) * FPS
        offsets = [stream.offset for stream in case.streams.values()]
        own = [stream.own_step for stream in case.streams.values()]
        assert not any(offsets) and not any(own), "a stream by another clock was taken"
