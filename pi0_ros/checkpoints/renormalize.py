"""The same normalisation said with other statistics: every kind is `x = y * scale + offset` in the end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pi0_ros.checkpoints.norm_stats import OPENPI_EPSILON, Stats, unnormalize

_BOUNDS = {"quantile": ("q01", "q99"), "lerobot_quantile": ("q01", "q99"), "lerobot_quantile10": ("q10", "q90")}


def renormalize(stats: Stats, kind: str, wanted: str, dim: int) -> Stats:
    """Return statistics that mean under the normalisation `wanted` what `stats` mean under `kind`.

    Kinds of openpi and LeRobot differ by an epsilon, which goes into the numbers: model units become robot units
    exactly as before, and the other way to 1e-8. Fields that `wanted` does not read stay as they are. `dim` is the
    size of a vector that has no statistics at all ("identity").
    """
    if kind == wanted:
        return stats
    dim = stats.dim or dim
    offset = unnormalize(np.zeros(dim), stats, kind)
    scale = unnormalize(np.ones(dim), stats, kind) - offset
    epsilon = 0.0 if wanted.startswith("lerobot_") else OPENPI_EPSILON
    if wanted.endswith("mean_std"):
        return replace(stats, mean=offset, std=np.maximum(scale - epsilon, 0.0))
    lower, upper = _BOUNDS.get(wanted, ("min", "max"))
    bottom = offset - scale
    return replace(stats, **{lower: bottom, upper: np.maximum(bottom + 2 * scale - epsilon, bottom)})
