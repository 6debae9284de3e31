"""Angles of joints that turn without end (`kind: continuous`): the same place again after each whole turn. numpy only.

Drivers count such a joint from -pi to pi, from 0 to 2 pi, or on and on. A difference is therefore taken the short way
round, and a sequence is unwrapped: each value is the one of its many names that is nearest to the value before.
"""

from __future__ import annotations

import numpy as np

TURN = 2.0 * np.pi  # rad; continuous joints are measured in rad


def short_way(way: np.ndarray, turning: np.ndarray) -> np.ndarray:
    """Differences [..., J] the short way round where `turning` (bool [J]) is set; the others as they are."""
    return way - whole_turns(way, turning)


def whole_turns(way: np.ndarray, turning: np.ndarray) -> np.ndarray:
    """The whole turns in differences [..., J]: multiples of `TURN`, 0 where `turning` (bool [J]) is not set."""
    return np.where(turning, TURN * np.round(np.nan_to_num(way) / TURN), 0.0)


def unwrapped(values: np.ndarray, turning: np.ndarray, origin: np.ndarray | None = None) -> np.ndarray:
    """Sequences [..., H, J] without jumps by whole turns, from `origin` [..., J] on (None: from the first value).

    Float64. What is NaN stays so, and what follows goes on from the last value that is known.
    """
    values = np.asarray(values, np.float64)
    if not turning.any():
        return values
    first = values[..., :1, :] if origin is None else np.asarray(origin, np.float64)[..., None, :]
    rows = np.concatenate([np.broadcast_to(first, (*values.shape[:-2], 1, values.shape[-1])), values], axis=-2)
    numbers = np.arange(rows.shape[-2])[:, None]
    known = np.maximum.accumulate(np.where(np.isfinite(rows), numbers, 0), axis=-2)
    steps = np.diff(np.take_along_axis(rows, known, axis=-2), axis=-2)
    return values - np.cumsum(whole_turns(steps, turning), axis=-2)
