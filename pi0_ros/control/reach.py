"""Whether a robot can go where it is told, and which way round."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pi0_ros.control.chunk import ActionChunk, ChunkError
from pi0_ros.control.limits import JointLimits

FAR = 1e6  # no joint without position limits goes this far


def turned(chunk: ActionChunk, limits: JointLimits, now: float, here: np.ndarray) -> ActionChunk:
    """`chunk` with its continuous joints the short way round from `here`, float64 [J], and from action to action, and
    its rotations whole. `ChunkError` where one is none."""
    space = limits.space
    if space.plain:
        return chunk
    actions = space.unwrapped(space.whole(chunk.actions))
    if (none := ~np.isfinite(actions).all(axis=0)).any():
        names = ", ".join(np.array(limits.names)[none])
        raise ChunkError(f"no rotation can be made of {names}: their numbers are zero, or say one axis twice")
    present = actions[int(np.clip(round((now - chunk.stamp) / chunk.dt), 0, len(actions) - 1))]
    return replace(chunk, actions=actions + (space.nearest(present, here) - present))


def check_reach(
    positions: np.ndarray, limits: JointLimits, perhaps: str = "wrong unit or normalisation statistics?"
) -> None:
    """Raise `ChunkError` where one of [H, J] is outside its limits by more than their range: no clamp helps."""
    lower, upper = np.maximum(limits.lower, -FAR), np.minimum(limits.upper, FAR)
    excess = np.maximum(lower - positions, positions - upper) / (upper - lower)
    i, j = np.unravel_index(int(np.argmax(excess)), excess.shape)
    if excess[i, j] > 1.0:
        raise ChunkError(
            f"{limits.names[j]} would go to {positions[i, j]:.4g}, far outside its limits "
            f"[{lower[j]:.4g}, {upper[j]:.4g}]: {perhaps}"
        )
