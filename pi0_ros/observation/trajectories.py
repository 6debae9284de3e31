"""A JointTrajectory of several points is a plan: what it commands at a time lies on it, until its last point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_SECOND = 1_000_000_000  # ns


@dataclass(frozen=True, eq=False)
class Trajectory:
    """P points of J joints: `times` float64 [P] in s after its start, rising; `positions` [P, J]; `velocities` [P, J]
    in units per s, or None."""

    times: np.ndarray
    positions: np.ndarray
    velocities: np.ndarray | None = None

    def at(self, seconds: float) -> np.ndarray:
        """The position [J] so long after its start: the first point before it, the last one after its end.

        Between two points as a trajectory controller goes: a cubic where both say their velocities, else a line.
        """
        if seconds >= self.times[-1]:
            return np.array(self.positions[-1])
        after = int(np.searchsorted(self.times, seconds, side="right"))
        if after == 0:
            return np.array(self.positions[0])
        start, end = self.positions[after - 1], self.positions[after]
        length = self.times[after] - self.times[after - 1]
        u = (seconds - self.times[after - 1]) / length
        if self.velocities is None:
            return np.asarray(start + u * (end - start))
        first, last = self.velocities[after - 1] * length, self.velocities[after] * length
        h = u * u * (3 - 2 * u)
        return np.asarray(start + h * (end - start) + u * (1 - u) ** 2 * first - u * u * (1 - u) * last)


def seconds_of(duration: Any) -> float:
    """A builtin_interfaces/Duration in s."""
    return float(duration.sec + duration.nanosec / _SECOND)


def lasts_ns(msg: Any) -> int:
    """How long (ns) a command message holds what to do: 0 but for a trajectory of several points."""
    points: Sequence[Any] = getattr(msg, "points", ())
    return max(0, round(seconds_of(points[-1].time_from_start) * _SECOND)) if len(points) > 1 else 0
