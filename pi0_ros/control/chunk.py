"""One predicted chunk of actions on the time axis."""

from __future__ import annotations

import operator
from dataclasses import dataclass

import numpy as np

from pi0_ros.base.errors import InputError

LATEST_NS = 2**31 * 1_000_000_000  # a ROS message's stamp reaches no further


class ChunkError(InputError):
    """A chunk that must not be executed; the message says why."""


@dataclass(frozen=True)
class ActionChunk:
    """`H` future positions of `J` joints, predicted from one observation.

    Action `i` belongs to the time `stamp_ns + i * dt_ns`, so that actions which are already past are simply past. Both
    are whole nanoseconds: a chunk has the very same stamp wherever it goes. It is always whole: building one from NaN,
    infinite or misshapen actions raises `ChunkError`.
    """

    stamp_ns: int  # capture time of the observation
    dt_ns: int  # between two actions
    actions: np.ndarray  # float64 [H, J], absolute positions in the robot's units and joint order
    names: tuple[str, ...]  # the J joints

    def __post_init__(self) -> None:
        object.__setattr__(self, "stamp_ns", operator.index(self.stamp_ns))
        object.__setattr__(self, "dt_ns", operator.index(self.dt_ns))
        actions = np.array(self.actions, dtype=np.float64)
        names = tuple(self.names)
        if actions.ndim != 2 or len(actions) == 0 or actions.shape[1] != len(names):
            raise ChunkError(f"actions have shape {list(actions.shape)}, expected [steps >= 1, {len(names)} joints]")
        if not (abs(self.stamp_ns) < LATEST_NS and 0 < self.dt_ns < LATEST_NS):
            raise ChunkError(f"stamp_ns {self.stamp_ns} and dt_ns {self.dt_ns} must be a ROS time and a positive step")
        bad = ~np.isfinite(actions).all(axis=0)
        if bad.any():
            raise ChunkError("actions hold NaN or infinity for " + ", ".join(np.array(names)[bad]))
        actions.flags.writeable = False
        object.__setattr__(self, "actions", actions)
        object.__setattr__(self, "names", names)

    @property
    def times_ns(self) -> np.ndarray:
        """Time of every action, int64 [H]."""
        return self.stamp_ns + self.dt_ns * np.arange(len(self.actions), dtype=np.int64)

    @property
    def end_ns(self) -> int:
        """Time of the last action."""
        return self.stamp_ns + (len(self.actions) - 1) * self.dt_ns

    @property
    def stamp(self) -> float:
        """Capture time of the observation, s."""
        return self.stamp_ns * 1e-9

    @property
    def dt(self) -> float:
        """Between two actions, s."""
        return self.dt_ns * 1e-9

    @property
    def end(self) -> float:
        """Time of the last action, s."""
        return self.end_ns * 1e-9

    @property
    def times(self) -> np.ndarray:
        """Time of every action, float64 [H], s."""
        return self.times_ns * 1e-9
