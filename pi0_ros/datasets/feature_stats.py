"""Exact statistics of dataset features, in the layout of LeRobot's `stats.json`.

LeRobot merges quantiles of episodes by averaging them (or by an envelope), which is wrong by large factors wherever
episodes visit different places; pi0.5 normalises by quantiles. So quantiles are computed here over all values at
once: numbers by `np.quantile`, 8-bit images through a histogram of their 256 levels, which loses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
IMAGE_SIDE = 150  # larger images are thinned to about this side before counting, as LeRobot does


def describe(values: np.ndarray) -> dict[str, np.ndarray]:
    """Statistics over the rows of `values` [N] or [N, D]: min, max, mean, std, count and five quantiles, each [D]
    (count [1]).

    min and max keep integer types; all else is float64.
    """
    rows = values.reshape(len(values), -1)
    wide = rows.astype(np.float64)
    quantiles = np.quantile(wide, list(QUANTILES.values()), axis=0)
    return {
        "min": rows.min(axis=0),
        "max": rows.max(axis=0),
        "mean": wide.mean(axis=0),
        "std": wide.std(axis=0),
        "count": np.array([len(rows)], np.int64),
        **dict(zip(QUANTILES, quantiles, strict=True)),
    }


def image_histogram(image: np.ndarray) -> np.ndarray:
    """Counts [3, 256] of the levels per channel of a uint8 image [H, W, 3], thinned to about 150 pixels a side."""
    step = max(1, max(image.shape[:2]) // IMAGE_SIDE)
    small = image[::step, ::step].reshape(-1, 3)
    return np.stack([np.bincount(small[:, channel], minlength=256) for channel in range(3)])


def describe_histogram(histogram: np.ndarray, frames: int) -> dict[str, np.ndarray]:
    """Statistics of the pixels counted in `histogram` [3, 256]: in [0, 1], each [3, 1, 1]; `count` is the frames'."""
    levels = np.arange(256) / 255.0
    total = histogram.sum(axis=1, keepdims=True)
    mean = (histogram * levels).sum(axis=1, keepdims=True) / total
    std = np.sqrt((histogram * (levels - mean) ** 2).sum(axis=1, keepdims=True) / total)
    cumulated = histogram.cumsum(axis=1)

    def level_at(fraction: float) -> np.ndarray:
        return levels[(cumulated >= fraction * total).argmax(axis=1)]

    stats = {
        "min": levels[(histogram > 0).argmax(axis=1)],
        "max": levels[255 - (histogram[:, ::-1] > 0).argmax(axis=1)],
        "mean": mean[:, 0],
        "std": std[:, 0],
        **{name: level_at(fraction) for name, fraction in QUANTILES.items()},
    }
    return {
        **{name: value.reshape(3, 1, 1) for name, value in stats.items()},
        "count": np.array([frames], np.int64),
    }


def to_json(stats: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, Any]:
    """`stats` (feature -> statistic -> array) as nested lists."""
    return {feature: {name: value.tolist() for name, value in values.items()} for feature, values in stats.items()}
