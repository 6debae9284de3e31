"""Action chunks with their times in seconds, as tests write them."""

from __future__ import annotations

import numpy as np

from pi0_ros.control.chunk import ActionChunk


def chunk_of(stamp: float, dt: float, actions: np.ndarray, names: tuple[str, ...]) -> ActionChunk:
    """The chunk of an observation at `stamp` (s) with `actions` [H, J] every `dt` (s)."""
    return ActionChunk(round(stamp * 1e9), round(dt * 1e9), actions, names)
