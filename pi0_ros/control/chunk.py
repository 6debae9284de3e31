"""One predicted chunk of actions on the time axis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pi0_ros.base.errors import InputError


class ChunkError(InputError):
    """A chunk that must not be executed; the message says why."""


@dataclass(frozen=True)
class ActionChunk:
    """`H` future positions of `J` joints, predicted from one observation.

    Action `i` belongs to the time `stamp + i * dt`, so that actions which are already past are simply past. A chunk
    is always whole: building one from NaN, infinite or misshapen actions raises `ChunkError`.
    """

    stamp: float  # s, capture time of the observation
    dt: float  # s between two actions
    actions: np.ndarray  # float64 [H, J], absolute positions in the robot's units and joint order
    names: tuple[str, ...]  # the J joints

    def __post_init__(self) -> None:
        actions = np.array(self.actions, dtype=np.float64)
        names = tuple(self.names)
        if actions.ndim != 2 or len(actions) == 0 or actions.shape[1] != len(names):
            raise ChunkError(f"actions have shape {list(actions.shape)}, expected [steps >= 1, {len(names)} joints]")
        if not (np.isfinite(self.stamp) and np.isfinite(self.dt) and self.dt > 0):
            raise ChunkError(f"stamp {self.stamp} and dt {self.dt} must be finite and dt positive")
        bad = ~np.isfinite(actions).all(axis=0)
        if bad.any():
            raise ChunkError("actions hold NaN or infinity for " + ", ".join(np.array(names)[bad]))
        actions.flags.writeable = False
        object.__setattr__(self, "actions", actions)
        object.__setattr__(self, "names", names)

    @property
    def end(self) -> float:
        """Time of the last action, s."""
        return self.stamp + (len(self.actions) - 1) * self.dt

    @property
    def times(self) -> np.ndarray:
        """Time of every action, float64 [H], s."""
        return self.stamp + self.dt * np.arange(len(self.actions))
