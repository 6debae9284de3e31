"""The record of what was really sent to the robot, readable at any time: the prefix of real-time chunking."""

from __future__ import annotations

import threading

import numpy as np

from pi0_ros.robot.space import Space

CAPACITY = 4096  # commands kept: 82 s at 50 Hz, 4 s at 1000 Hz


class SentLog:
    """The newest commands on the time axis. Safe to fill in one thread and to read in another.

    The controller fills one as it commands; a policy fills its own from `pi0/command`. Times are seconds of one clock.
    """

    def __init__(self, joints: int, capacity: int = CAPACITY, space: Space | None = None) -> None:
        """`space`: of the positions; None: lines."""
        self._space = space or Space.lines(joints)
        self._times = np.zeros(capacity)
        self._positions = np.zeros((capacity, joints))
        self._lock = threading.Lock()
        self._count = 0

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._count = 0

    def push(self, t: float, position: np.ndarray) -> None:
        """Record that `position` [J] was sent for the time `t`; a `t` before the last one begins a new record."""
        with self._lock:
            capacity = len(self._times)
            if self._count and t <= self._times[(self._count - 1) % capacity]:
                self._count = 0
            self._times[self._count % capacity] = t
            self._positions[self._count % capacity] = position
            self._count += 1

    @property
    def span(self) -> tuple[float, float] | None:
        """Times of the oldest and the newest command kept; None before the first."""
        with self._lock:
            if not self._count:
                return None
            capacity = len(self._times)
            first = max(0, self._count - capacity)
            return float(self._times[first % capacity]), float(self._times[(self._count - 1) % capacity])

    def at(self, times: np.ndarray) -> np.ndarray:
        """Position at each of `times` [n], float64 [n, J]: linear between commands, for rotations slerp.

        Outside the record its first or last command is held, never zero. Raises ValueError when nothing was sent yet.
        """
        times = np.asarray(times, dtype=np.float64)
        with self._lock:
            if not self._count:
                raise ValueError("nothing was sent yet: there is no command to read")
            kept = np.arange(max(0, self._count - len(self._times)), self._count) % len(self._times)
            known, positions = self._times[kept], self._positions[kept]
        right = np.clip(np.searchsorted(known, times), 1, max(1, len(known) - 1))
        left, right = right - 1, np.minimum(right, len(known) - 1)
        gap = np.where(right > left, known[right] - known[left], 1.0)
        fraction = np.clip((times - known[left]) / gap, 0.0, 1.0)[:, None]
        if len(times) == 1:  # at every tick: of one place it is much quicker
            return self._space.partly(positions[left[0]], positions[right[0]], fraction[0])[None]
        return self._space.partly(positions[left], positions[right], fraction)
