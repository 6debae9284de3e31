"""How much later a camera shows a motion than the joints report it, estimated from a recording alone.

What moves in the picture (mean change between images) is compared with how fast the joints are, shifted against each
other; the shift with the best correlation is the lag. It holds the camera's exposure and transfer as far as its stamps
do not know of them. An estimate needs some seconds of motion that starts and stops, seen by the camera; without a clear
best there is none.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from pi0_ros.observation.stream_buffer import SECOND
from pi0_ros.observation.streams import Observation
from pi0_ros.robot import Robot
from pi0_ros.robot.space import Space

SEARCH_S = 0.5  # lags from minus to plus this are compared
GRID_S = 0.01
LEAST_S = 3.0  # of rows without a gap
LEAST_CORRELATION = 0.4
CLEAR = 0.98  # lags whose correlation reaches this fraction of the best can't be told from it
PIXELS = (24, 32)  # of an image are compared with the one before


@dataclass(frozen=True)
class LagReport:
    """Camera-to-joint lag: positive where the picture is late. `lag_s` is None where the recording does not tell."""

    camera: str
    lag_s: float | None
    plus_minus_s: float | None
    correlation: float  # the best, 1 at most


@dataclass
class _Changes:
    """How fast one stream's values change: of neighbouring samples the time halfway (ns), and the rate per second.

    Only these numbers are kept, so that hours of images fit into memory.
    """

    times: array[int] = field(default_factory=lambda: array("q"))
    rates: array[float] = field(default_factory=lambda: array("d"))
    last: tuple[int, np.ndarray] | None = None

    def add(self, stamp_ns: int, value: np.ndarray, size: Callable[[np.ndarray, np.ndarray], float]) -> None:
        """Take a sample, if it is a new one; `size` says how far two samples are apart."""
        if self.last is not None and stamp_ns <= self.last[0]:
            return
        if self.last is not None and self.last[1].shape == value.shape:  # pictures may change their size
            before_ns, before = self.last
            self.times.append((before_ns + stamp_ns) // 2)
            self.rates.append(size(value, before) * SECOND / (stamp_ns - before_ns))
        self.last = stamp_ns, value


def _pixel_size(value: np.ndarray, before: np.ndarray) -> float:
    return float(np.abs(value - before).mean())


def _joint_size(value: np.ndarray, before: np.ndarray, space: Space, scale: np.ndarray) -> float:
    """Of joints in spans; a continuous one's is a turn."""
    return float(np.sqrt(((space.short_way(value, before) * scale) ** 2).sum()))


class LagMeter:
    """Takes the observations of a recording one by one and estimates the lag of each camera."""

    def __init__(self, robot: Robot) -> None:
        self._robot = robot
        self._topics = {camera.name: camera.topic for camera in robot.cameras}
        self._groups = [
            (item.topic, [robot.state_names.index(joint) for joint in item.joints])
            for item in robot.state
            if item.is_position
        ]
        self._scale = 1 / np.array([joint.span for joint in robot.state_joints], np.float64)
        self._space = robot.state_space
        self._changes: dict[str, _Changes] = {}
        self._runs: list[tuple[np.ndarray, dict[str, np.ndarray]]] = []  # speed and change of each camera on a grid

    def add(self, observation: Observation) -> None:
        """Take the next tick's observation."""
        stamps = {topic: observation.stamp_ns - round(age * SECOND) for topic, age in observation.ages_s.items()}
        for camera, topic in self._topics.items():
            image = observation.images[camera]
            small = image[:: max(1, image.shape[0] // PIXELS[0]), :: max(1, image.shape[1] // PIXELS[1])]
            self._changes.setdefault(topic, _Changes()).add(stamps[topic], small.astype(np.float32), _pixel_size)
        for topic, places in self._groups:
            value = observation.state[places]
            size = partial(_joint_size, space=self._space.at(np.array(places)), scale=self._scale[places])
            self._changes.setdefault(topic, _Changes()).add(stamps[topic], value, size)

    def gap(self) -> None:
        """What comes next does not follow what came last."""
        changes, self._changes = self._changes, {}
        if not changes or any(len(stream.times) < 2 for stream in changes.values()):
            return
        origin = min(stream.times[0] for stream in changes.values())
        times = {topic: (np.array(stream.times) - origin) / SECOND for topic, stream in changes.items()}
        grid = np.arange(max(at[0] for at in times.values()), min(at[-1] for at in times.values()), GRID_S)
        if len(grid) * GRID_S < LEAST_S:
            return
        rates = {topic: np.interp(grid, times[topic], np.array(stream.rates)) for topic, stream in changes.items()}
        speed = np.sqrt(np.sum([rates[topic] ** 2 for topic, _ in self._groups], axis=0))
        self._runs.append((speed, {camera: rates[topic] for camera, topic in self._topics.items()}))

    def reports(self) -> tuple[LagReport, ...]:
        """The estimates, a camera each; empty where no stretch was long enough."""
        if not self._runs or not self._groups:
            return ()
        return tuple(self._report(camera) for camera in self._topics)

    def _report(self, camera: str) -> LagReport:
        shifts = np.arange(-round(SEARCH_S / GRID_S), round(SEARCH_S / GRID_S) + 1)
        sums = np.zeros((len(shifts), 3))  # products of picture and joints, squares of each
        for speed, energies in self._runs:
            edge = shifts[-1]
            picture = _centred(energies[camera][edge:-edge])
            for row, shift in enumerate(shifts):
                joints = _centred(speed[edge - shift : len(speed) - edge - shift])
                sums[row] += (picture @ joints, picture @ picture, joints @ joints)
        correlation = sums[:, 0] / np.sqrt(sums[:, 1] * sums[:, 2] + 1e-30)
        best = int(np.argmax(correlation))
        peak = float(correlation[best])
        alike = shifts[correlation >= CLEAR * peak] * GRID_S if peak > 0 else shifts * GRID_S
        unclear = peak < LEAST_CORRELATION or alike[0] <= -SEARCH_S + GRID_S or alike[-1] >= SEARCH_S - GRID_S
        if unclear:
            return LagReport(camera, None, None, round(peak, 3))
        left, middle, right = correlation[best - 1 : best + 2]
        vertex = 0.5 * (left - right) / (left - 2 * middle + right)  # of the parabola through the three
        lag = (shifts[best] + vertex) * GRID_S
        return LagReport(camera, round(float(lag), 3), round(float(np.ptp(alike) / 2), 3), round(peak, 3))


def _centred(values: np.ndarray) -> np.ndarray:
    """Without its mean, and with high peaks lowered: pictures change less than twofold at double speed."""
    lowered = np.sqrt(values)
    return np.asarray(lowered - lowered.mean())
