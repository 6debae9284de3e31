"""What of a chunk still lies ahead, and how much of that will be executed before the next chunk takes over."""

from __future__ import annotations

import numpy as np

from pi0_ros.control.chunk import ActionChunk
from pi0_ros.control.splines import chunk_spline
from pi0_ros.robot.space import Space

MARGIN = 1.25  # chunks come a little later than the ones before
STEP_S = 0.02  # between the points of a path: no corner is seen
MOST_POINTS = 100


class Cadence:
    """How often chunks come and how late, from those that came."""

    def __init__(self) -> None:
        self._stamp = -np.inf
        self._reach_s = np.inf  # from a chunk's stamp until the chunk after it arrives

    def arrived(self, stamp: float, now: float) -> None:
        """A chunk of an observation at `stamp` (s) arrived at `now` (s)."""
        if self._stamp < stamp <= now:
            reach = now - self._stamp
            # Slower chunks are believed at once, quicker ones gradually: a path that is too short says something wrong.
            slowly = 0.8 * self._reach_s + 0.2 * reach
            self._reach_s = reach if np.isinf(self._reach_s) or reach > self._reach_s else slowly
        else:  # the first, or the clock began anew
            self._reach_s = np.inf
        self._stamp = stamp

    def until(self, chunk: ActionChunk) -> float:
        """When (s) the next chunk will have taken over from `chunk`; its end where nobody knows."""
        return float(min(chunk.end, chunk.stamp + MARGIN * self._reach_s))


def smooth_positions(chunk: ActionChunk, times: np.ndarray, space: Space | None = None) -> np.ndarray:
    """The chunk's positions [N, J] at `times` [N] (s): smooth through its actions, held before and after them.

    `space`: of the actions; None: lines.
    """
    still = np.zeros(len(chunk.names), bool)
    spline = chunk_spline(chunk, "cubic", still, chunk.stamp, space)
    return spline.positions(np.clip(times, chunk.stamp, chunk.end) - chunk.stamp)


def remaining_times(chunk: ActionChunk, now: float) -> np.ndarray:
    """Times [N] (s) from `now` to the chunk's end, both included, close enough for a smooth path; empty when over."""
    if now >= chunk.end:
        return np.zeros(0)
    begin = max(now, chunk.stamp)
    count = int(np.clip(np.ceil((chunk.end - begin) / STEP_S), 1, MOST_POINTS - 1))
    return np.linspace(begin, chunk.end, count + 1)


def path_fractions(times: np.ndarray, stamp: float, until: float, end: float) -> np.ndarray:
    """Where `times` [N] lie on a planned path: 0 at its `stamp`, 1 where the next chunk takes over, 2 at its `end`."""
    places = np.array([stamp, until, end])
    distinct = np.maximum.accumulate(places + np.array([0.0, 1e-6, 2e-6]))
    return np.asarray(np.interp(times, distinct, [0.0, 1.0, 2.0]))
