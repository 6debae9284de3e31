"""Normalisation statistics, and the formulas by which openpi and LeRobot bring robot units to model units. numpy only.

Formulas and file layout are openpi's (`transforms.py`, `shared/normalize.py`), so statistics made there can be used
here and the other way round; the kinds called lerobot_* are LeRobot's (`processor/normalize_processor.py`), whose
epsilons differ.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from pi0_ros.base.errors import InputError

OPENPI_EPSILON, LEROBOT_EPSILON = 1e-6, 1e-8
NORMALIZATIONS: Mapping[str, tuple[str, ...]] = {  # kind -> the fields it needs
    "mean_std": ("mean", "std"),
    "quantile": ("q01", "q99"),
    "lerobot_mean_std": ("mean", "std"),
    "lerobot_quantile": ("q01", "q99"),
    "lerobot_quantile10": ("q10", "q90"),
    "lerobot_min_max": ("min", "max"),
    "identity": (),
}


@dataclass(frozen=True)
class Stats:
    """Statistics of one vector in robot units: float64 arrays [D]; None is what the file does not have."""

    mean: np.ndarray | None = None
    std: np.ndarray | None = None
    q01: np.ndarray | None = None
    q99: np.ndarray | None = None
    q10: np.ndarray | None = None
    q90: np.ndarray | None = None
    min: np.ndarray | None = None
    max: np.ndarray | None = None

    def __post_init__(self) -> None:
        dim = None
        for field, value in self.present().items():
            array = np.asarray(value, dtype=np.float64)
            dim = array.size if dim is None else dim
            if array.shape != (dim,) or not np.isfinite(array).all():
                raise InputError(f"'{field}' must be a list of finite numbers, as long as the others, got {array!r}")
            object.__setattr__(self, field, array)
        if self.std is not None and (self.std < 0).any():
            raise InputError("'std' must not be negative")
        for low, high in (("q01", "q99"), ("q10", "q90"), ("min", "max")):
            if {low, high} <= self.present().keys() and (self.need(high) < self.need(low)).any():
                raise InputError(f"'{high}' must not be below '{low}'")

    @property
    def dim(self) -> int:
        """D; 0 where there are no statistics at all (which only "identity" can use)."""
        return next((len(value) for value in self.present().values()), 0)

    @property
    def used_dim(self) -> int:
        """The dimensions that really move: openpi's base models pad their statistics with numbers that never vary."""
        spread = self.std if self.std is not None else self.q99 if self.q99 is not None else self.max
        if spread is None or not spread.any():
            return self.dim
        return int(np.flatnonzero(spread)[-1]) + 1

    def at(self, places: np.ndarray) -> Stats:
        """The statistics of the dimensions `places` (intp [K]), in that order."""
        return Stats(**{field: values[places] for field, values in self.present().items()})

    def middle(self, dim: int) -> np.ndarray:
        """The middle of the values of the first `dim` dimensions, float64; 0 where there are no statistics."""
        if self.mean is not None:
            return self.mean[:dim]
        for low, high in (("q01", "q99"), ("q10", "q90"), ("min", "max")):
            if {low, high} <= self.present().keys():
                return ((self.need(low) + self.need(high)) / 2)[:dim]
        return np.zeros(dim)

    @property
    def spread(self) -> np.ndarray | None:
        """How far the values lie apart, float64 [D]; None where the file does not say."""
        if self.std is not None:
            return self.std
        for low, high in (("q01", "q99"), ("q10", "q90"), ("min", "max")):
            if {low, high} <= self.present().keys():
                return self.need(high) - self.need(low)
        return None

    def present(self) -> dict[str, np.ndarray]:
        """The fields that are there."""
        return {field: value for field in FIELDS if (value := getattr(self, field)) is not None}

    def need(self, field: str) -> np.ndarray:
        """The field, float64 [D]; ValueError where it is absent."""
        value = getattr(self, field)
        if value is None:
            known = ", ".join(self.present()) or "nothing"
            raise InputError(f"the statistics have no '{field}' (but {known}): compute them again with `pi0 stats`")
        return value


FIELDS = tuple(field.name for field in fields(Stats))


@dataclass(frozen=True)
class NormStats:
    """Statistics of the state and of the actions (after the relative transform, over all steps of all chunks)."""

    state: Stats
    actions: Stats

    def to_dict(self) -> dict[str, Any]:
        """The content of an openpi `norm_stats.json`."""
        return {
            "norm_stats": {
                key: {field: value.tolist() for field, value in stats.present().items()}
                for key, stats in (("state", self.state), ("actions", self.actions))
            }
        }

    def digest(self) -> str:
        """16 hexadecimal digits that differ where any number does."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], origin: str) -> NormStats:
        """Read what `to_dict` or openpi wrote; `origin` (a file name) stands in every error message."""
        parsed: dict[str, Stats] = {}
        for key in ("state", "actions"):
            try:
                entry = content["norm_stats"][key]
                found = {field: entry[field] for field in FIELDS if entry.get(field) is not None}
                parsed[key] = Stats(**{field: np.asarray(value, np.float64) for field, value in found.items()})
            except (KeyError, TypeError, AttributeError) as error:
                raise InputError(
                    f"{origin}: expected norm_stats.{key} with lists {', '.join(FIELDS[:4])} (problem: {error!r}); "
                    "make the file with `pi0 stats`"
                ) from None
            except ValueError as error:
                raise InputError(f"{origin}: norm_stats.{key}: {error}") from None
        return cls(**parsed)


def save_norm_stats(stats: NormStats, path: Path | str) -> None:
    Path(path).write_text(json.dumps(stats.to_dict(), indent=2) + "\n")


def load_norm_stats(path: Path | str) -> NormStats:
    """Read a `norm_stats.json`; ValueError names the file and the key, OSError a missing file."""
    path = Path(path)
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error})") from None
    return NormStats.from_dict(content, str(path))


def normalize(x: np.ndarray, stats: Stats, normalization: str) -> np.ndarray:
    """Robot units [..., D] -> model units, float64; statistics are cut to D. Nothing is clipped.

    mean_std: (x - mean) / (std + e); the others, with span = upper - lower: (x - lower) / (span + e) * 2 - 1.
    openpi: e = 1e-6. LeRobot: e = 1e-8, for spans only where they are 0.
    ValueError when a field is absent or when there are fewer than D statistics.
    """
    x = np.asarray(x, dtype=np.float64)
    if normalization == "identity":
        return x
    lower, span = _scale(stats, normalization)
    if (dim := x.shape[-1]) > stats.dim:
        raise InputError(f"statistics of {stats.dim} dimensions for data of {dim}: compute them again with `pi0 stats`")
    scaled = (x - lower[:dim]) / span[:dim]
    return scaled if "mean_std" in normalization else scaled * 2.0 - 1.0


def unnormalize(x: np.ndarray, stats: Stats, normalization: str) -> np.ndarray:
    """The inverse of `normalize`, float64 [..., D]; D may exceed the statistics.

    Dimensions beyond them count as mean 0, std 1 (mean_std of openpi) or pass through.
    lerobot_mean_std adds no epsilon on the way back.
    """
    x = np.asarray(x, dtype=np.float64)
    if normalization == "identity":
        return x
    lower, span = _scale(stats, normalization)
    if normalization == "lerobot_mean_std":
        span = stats.need("std")
    known = min(stats.dim, x.shape[-1])
    inner, beyond = x[..., :known], x[..., known:]
    if "mean_std" not in normalization:
        inner = (inner + 1.0) / 2.0
    if normalization == "mean_std":
        beyond = beyond * (1.0 + OPENPI_EPSILON)
    return np.concatenate([inner * span[:known] + lower[:known], beyond], axis=-1)


def check_stats(stats: Stats, normalization: str, dim: int) -> None:
    """ValueError unless `normalization` of `dim` dimensions finds all that it needs in `stats`."""
    normalize(np.zeros(dim), stats, normalization)


def check_normalization(normalization: str) -> None:
    """ValueError for a kind that is not known."""
    if normalization not in NORMALIZATIONS:
        raise InputError(f"normalization is {normalization!r}, expected one of {', '.join(NORMALIZATIONS)}")


def _scale(stats: Stats, normalization: str) -> tuple[np.ndarray, np.ndarray]:
    """What becomes 0 (mean_std) or -1, and what is divided by; float64 [stats.dim] each."""
    check_normalization(normalization)
    lower, upper = (stats.need(field) for field in NORMALIZATIONS[normalization])
    span = upper if "mean_std" in normalization else upper - lower
    if normalization == "lerobot_mean_std":
        return lower, span + LEROBOT_EPSILON
    if normalization.startswith("lerobot"):
        return lower, np.where(span == 0, LEROBOT_EPSILON, span)
    return lower, span + OPENPI_EPSILON
