"""Joints that go where commands send them, no faster than joints go."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np


class Follower:
    """Joints `names`, at `position` [J], on their way to the newest command; `velocity` in units/s, [J] or one for all.

    Commands that a busy machine delivers at once make them no jump. Of a longer pause only `longest_s` counts.
    """

    def __init__(
        self, names: Sequence[str], position: np.ndarray, velocity: np.ndarray | float, longest_s: float = math.inf
    ) -> None:
        self.position = np.array(position, np.float64)
        self._goal = self.position.copy()
        self._names, self._velocity, self._longest_s = list(names), velocity, longest_s
        self._moved = time.monotonic()

    def send(self, names: Sequence[str], goal: Sequence[float]) -> None:
        """Take a command for some of the joints."""
        self._goal[[self._names.index(name) for name in names]] = goal

    def move(self) -> dict[str, float]:
        """Where each joint is now."""
        now = time.monotonic()
        most = self._velocity * min(now - self._moved, self._longest_s)
        self._moved = now
        self.position = self.position + np.clip(self._goal - self.position, -most, most)
        return dict(zip(self._names, self.position.tolist()))
