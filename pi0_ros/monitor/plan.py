"""What of a chunk still lies ahead, and how much of that will be executed before the next chunk takes over."""

from __future__ import annotations

import numpy as np

from pi0_ros.control.chunk import ActionChunk

MARGIN = 1.25  # chunks come a little later than the ones before


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


def position_at(chunk: ActionChunk, time: float) -> np.ndarray:
    """The chunk's position at `time` (s), float64 [J]: linear between actions, held before and after them."""
    return np.array([np.interp(time, chunk.times, column) for column in chunk.actions.T])


def remaining(chunk: ActionChunk, now: float, until: float = np.inf) -> tuple[np.ndarray, np.ndarray]:
    """Times [N] (s) and positions [N, J] from `now` to `until` or the chunk's end, both included; empty when over."""
    until = min(until, chunk.end)
    if now >= until:
        return np.zeros(0), np.zeros((0, len(chunk.names)))
    begin = max(now, chunk.stamp)
    inside = chunk.times[(chunk.times > begin) & (chunk.times < until)]
    times = np.concatenate([[begin], inside, [until]])
    return times, np.stack([np.interp(times, chunk.times, column) for column in chunk.actions.T], axis=1)
