"""Jerk limits: the mean over a few control periods of commands that keep their other limits already."""

from __future__ import annotations

import math

import numpy as np

from pi0_ros.control.limits import JointLimits

LONGEST_S = 0.1  # of the window; where a jerk limit asks for more, acceleration is limited lower instead


class Smoother:
    """Running mean of the last `n` commands.

    A mean of positions within limits is within them, and so are its velocity and its acceleration. Its jerk is the
    difference of two accelerations `n` periods apart, over those periods: at most `2 * acceleration / (n * period)`,
    which is what chooses `n` for the joints with a jerk limit. The mean belongs to the middle of its window, so whoever
    feeds it runs `ahead` seconds ahead of the clock, and the motion keeps its time.
    """

    def __init__(self, limits: JointLimits, period: float) -> None:
        ratio = float(np.max(2.0 * limits.acceleration / (limits.jerk * period), initial=0.0))
        self.window = max(1, min(math.ceil(ratio - 1e-9), math.ceil(LONGEST_S / period)))
        self.ahead = (self.window - 1) * period / 2.0
        # What a window this long makes of the jerk limits.
        self.acceleration = np.minimum(limits.acceleration, limits.jerk * self.window * period / 2.0)
        self._ring = np.zeros((self.window, len(limits.names)))
        self._differences = np.zeros_like(self._ring)
        self._next = 0

    def start(self, position: np.ndarray) -> None:
        """Begin at rest at `position` [J]."""
        self._ring[:] = position

    def push(self, position: np.ndarray, out: np.ndarray) -> None:
        """Take the newest command [J] and write the mean of the window to `out`."""
        self._ring[self._next] = position
        self._next = (self._next + 1) % self.window
        np.mean(np.subtract(self._ring, position, out=self._differences), axis=0, out=out)  # exactly 0 at rest
        out += position

    def push_all(self, positions: np.ndarray) -> np.ndarray:
        """Take these commands [n, J] one after the other and return the mean after each, [n, J]."""
        kept = np.roll(self._ring, -self._next, axis=0)  # the oldest first
        all_of_them = np.concatenate([kept[1:], positions])
        windows = np.lib.stride_tricks.sliding_window_view(all_of_them, self.window, axis=0)  # [n, J, window]
        self._ring[:], self._next = all_of_them[-self.window :], 0
        return np.asarray(np.mean(windows - positions[..., None], axis=-1) + positions)

    @property
    def settled(self) -> bool:
        """Whether all commands of the window are the same."""
        return bool((self._ring == self._ring[0]).all())
