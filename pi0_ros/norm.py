"""Normalisation statistics and the two normalisations of pi0 (z-score) and pi0.5 (quantile). numpy only.

The formulas and the file layout are openpi's (`transforms.py`, `shared/normalize.py`), so statistics made there can be
used here and the other way round.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

EPSILON = 1e-6
NORMALIZATIONS = ("mean_std", "quantile")
FIELDS = ("mean", "std", "q01", "q99")


@dataclass(frozen=True)
class Stats:
    """Statistics of one vector: float64 arrays [D], in robot units."""

    mean: np.ndarray
    std: np.ndarray
    q01: np.ndarray
    q99: np.ndarray

    def __post_init__(self) -> None:
        for field in FIELDS:
            array = np.asarray(getattr(self, field), dtype=np.float64)
            if array.shape != np.shape(self.mean) or array.ndim != 1 or not np.isfinite(array).all():
                raise ValueError(f"'{field}' must be a list of finite numbers as long as 'mean', got {array!r}")
            object.__setattr__(self, field, array)
        if (self.std < 0).any() or (self.q99 < self.q01).any():
            raise ValueError("'std' must not be negative and 'q99' not below 'q01'")

    @property
    def dim(self) -> int:
        return len(self.mean)


@dataclass(frozen=True)
class NormStats:
    """Statistics of the state and of the actions (after the relative transform, over all steps of all chunks)."""

    state: Stats
    actions: Stats

    def to_dict(self) -> dict[str, Any]:
        """The content of an openpi `norm_stats.json`."""
        return {
            "norm_stats": {
                key: {field: getattr(stats, field).tolist() for field in FIELDS}
                for key, stats in (("state", self.state), ("actions", self.actions))
            }
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], origin: str) -> NormStats:
        """Read what `to_dict` wrote; `origin` (a file name) stands in every error message."""
        parsed: dict[str, Stats] = {}
        for key in ("state", "actions"):
            try:
                entry = content["norm_stats"][key]
                parsed[key] = Stats(*(np.asarray(entry[field], dtype=np.float64) for field in FIELDS))
            except (KeyError, TypeError) as error:
                raise ValueError(
                    f"{origin}: expected norm_stats.{key} with lists {', '.join(FIELDS)} (problem: {error!r}); "
                    "make the file with `pi0 stats`"
                ) from None
            except ValueError as error:
                raise ValueError(f"{origin}: norm_stats.{key}: {error}") from None
        return cls(**parsed)


def save_norm_stats(stats: NormStats, path: Path | str) -> None:
    Path(path).write_text(json.dumps(stats.to_dict(), indent=2) + "\n")


def load_norm_stats(path: Path | str) -> NormStats:
    """Read a `norm_stats.json`; ValueError names the file and the key, OSError a missing file."""
    path = Path(path)
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    return NormStats.from_dict(content, str(path))


def normalize(x: np.ndarray, stats: Stats, normalization: str) -> np.ndarray:
    """Robot units [..., D] -> model units, float64; statistics are cut to D. Nothing is clipped.

    mean_std: (x - mean) / (std + 1e-6); quantile: (x - q01) / (q99 - q01 + 1e-6) * 2 - 1.
    """
    _check(normalization)
    x = np.asarray(x, dtype=np.float64)
    dim = x.shape[-1]
    if dim > stats.dim:
        raise ValueError(f"statistics of {stats.dim} dimensions for data of {dim}: compute them again with `pi0 stats`")
    if normalization == "mean_std":
        return (x - stats.mean[:dim]) / (stats.std[:dim] + EPSILON)
    q01, q99 = stats.q01[:dim], stats.q99[:dim]
    return (x - q01) / (q99 - q01 + EPSILON) * 2.0 - 1.0


def unnormalize(x: np.ndarray, stats: Stats, normalization: str) -> np.ndarray:
    """The inverse of `normalize`, float64 [..., D]; D may exceed the statistics.

    Dimensions beyond them pass through (quantile) or count as mean 0, std 1 (mean_std), as in openpi.
    """
    _check(normalization)
    x = np.asarray(x, dtype=np.float64)
    known, dim = min(stats.dim, x.shape[-1]), x.shape[-1]
    if normalization == "mean_std":
        mean, std = np.zeros(dim), np.ones(dim)
        mean[:known], std[:known] = stats.mean[:known], stats.std[:known]
        return x * (std + EPSILON) + mean
    y = x.copy()
    q01, q99 = stats.q01[:known], stats.q99[:known]
    y[..., :known] = (x[..., :known] + 1.0) / 2.0 * (q99 - q01 + EPSILON) + q01
    return y


def _check(normalization: str) -> None:
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"normalization is '{normalization}', expected one of {', '.join(NORMALIZATIONS)}")
