"""How robot data become model data: what a checkpoint's files say about it beside the network's sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from pi0_ros.norm import NORMALIZATIONS


@dataclass(frozen=True)
class PolicySettings:
    """What the transforms and the sampler need beside the network's sizes; the `policy` part of config.json."""

    normalization: str  # "mean_std" (pi0) | "quantile" (pi0.5)
    fps: float  # actions per second: the step of a chunk is 1 / fps
    num_steps: int = 10  # Euler steps from noise to actions

    def __post_init__(self) -> None:
        if self.normalization not in NORMALIZATIONS:
            raise ValueError(f"normalization is {self.normalization!r}, expected one of {', '.join(NORMALIZATIONS)}")
        if not 0 < self.fps <= 1000:
            raise ValueError(f"fps is {self.fps!r}, expected 0 < fps <= 1000")
        if not 1 <= self.num_steps <= 1000:
            raise ValueError(f"num_steps is {self.num_steps!r}, expected 1 .. 1000")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> PolicySettings:
        known = {field.name for field in fields(cls)}
        if unknown := set(content) - known:
            raise ValueError(f"unknown key(s) {', '.join(sorted(unknown))}; known: {', '.join(sorted(known))}")
        if missing := {"normalization", "fps"} - set(content):
            raise ValueError(f"missing key(s) {', '.join(sorted(missing))}")
        return cls(str(content["normalization"]), float(content["fps"]), int(content.get("num_steps", 10)))
