"""What of a chunk still lies ahead."""

from __future__ import annotations

import numpy as np

from pi0_ros.control.chunk import ActionChunk


def position_at(chunk: ActionChunk, time: float) -> np.ndarray:
    """The chunk's position at `time` (s), float64 [J]: linear between actions, held before and after them."""
    return np.array([np.interp(time, chunk.times, column) for column in chunk.actions.T])


def remaining(chunk: ActionChunk, now: float) -> tuple[np.ndarray, np.ndarray]:
    """Times [N] (s) and positions [N, J] from `now` to the chunk's end, `now` itself first; empty when it is over."""
    if now >= chunk.end:
        return np.zeros(0), np.zeros((0, len(chunk.names)))
    begin = max(now, chunk.stamp)
    ahead = chunk.times > begin
    positions = np.vstack([position_at(chunk, begin), chunk.actions[ahead]])
    return np.append(begin, chunk.times[ahead]), positions
