"""How regularly a stream's messages were stamped, and the frame rate that suits a recording's cameras."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pi0_ros.bags.reader import Bag, BagError, header_stamp_ns
from pi0_ros.robot import Robot

LONG = 1.5  # usual intervals; after a longer one messages are missing
SHORTEST_S = 5e-5  # no stream is faster: shorter intervals are those of messages stamped alike
PAUSE_S = 60.0  # longer ones are pauses or set clocks, no lost messages
UNEVEN = 4.0  # the intervals' upper quartile over the lower one, from which on they have no usual length
BAGS_FOR_FPS = 8  # are looked at, evenly spread


def interval_s(stamps: np.ndarray) -> float:
    """The usual (median) time between neighbours of the sorted `stamps` (ns); 0 where there are not two."""
    return float(np.median(np.diff(stamps))) * 1e-9 if len(stamps) > 1 else 0.0


def missing(stamps: np.ndarray) -> int:
    """How many messages fell out between the sorted `stamps` (ns), judged by the usual interval.

    0 where there is no usual one (commands that come when something happens).
    """
    usual = interval_s(stamps)
    if usual < SHORTEST_S:
        return 0
    steps = np.diff(stamps) * 1e-9
    lower, upper = np.quantile(steps, [0.25, 0.75])
    if upper > UNEVEN * lower:
        return 0
    lost = steps[(steps > LONG * usual) & (steps <= PAUSE_S)] / usual
    return int((np.round(lost) - 1).sum())


def hertz(rate_hz: float) -> str:
    """`29.9 Hz`; slow ones by their interval."""
    if rate_hz <= 0:
        return "a single message"
    return f"{rate_hz:.1f} Hz" if rate_hz >= 0.95 else f"a message every {1 / rate_hz:.3g} s"


def jitter_s(stamps: np.ndarray) -> float:
    """How far 95 % of the intervals stay from the usual one at most, where no message is missing."""
    usual = interval_s(stamps)
    steps = np.diff(stamps) * 1e-9
    steps = steps[steps <= LONG * usual]
    return float(np.quantile(np.abs(steps - usual), 0.95)) if len(steps) else 0.0


def camera_fps(bags: Sequence[Path], robot: Robot) -> int:
    """The rate of the slowest camera, usual over some of the `bags`, as a whole number.

    A faster grid would only repeat its images. Raises `BagError` where no bag has two images of every camera.
    """
    if not robot.cameras:
        raise BagError(f"robot {robot.name!r} has no camera, from which the frame rate could be taken: give --fps")
    places = np.unique(np.linspace(0, len(bags) - 1, min(len(bags), BAGS_FOR_FPS)).round().astype(int))
    found, why = [], ""
    for place in places:
        try:
            with Bag(bags[place]) as bag:
                found.append(_slowest(bag, robot))
        except BagError as error:
            why = str(error)
    if not found:
        raise BagError(f"the frame rate can't be taken from the cameras ({why}): give --fps")
    return max(1, round(float(np.median(found))))


def _slowest(bag: Bag, robot: Robot) -> float:
    topics = [camera.topic for camera in robot.cameras]
    stamps: dict[str, list[int]] = {topic: [] for topic in topics}
    for topic, receive_ns, data in bag.raw(topics):
        stamps[topic].append(header_stamp_ns(data) or receive_ns)
    intervals = {topic: interval_s(np.sort(np.array(values, np.int64))) for topic, values in stamps.items()}
    for topic, value in intervals.items():
        if value <= 0:
            raise BagError(f"{bag.path}: fewer than two images on {topic}")
    return 1 / max(intervals.values())
