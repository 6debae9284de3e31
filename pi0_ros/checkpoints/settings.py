"""How robot data become model data: what a checkpoint's files say about it beside the network's sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from pi0_ros.base.choices import IMAGE_RESIZES
from pi0_ros.base.errors import InputError
from pi0_ros.checkpoints.norm_stats import check_normalization

PROMPT_FORMATS = ("openpi", "lerobot")


@dataclass(frozen=True)
class PolicySettings:
    """What the transforms and the sampler need beside the network's sizes; the `policy` part of config.json."""

    state_normalization: str  # one of norm.NORMALIZATIONS: "mean_std" (pi0) | "quantile" (pi0.5, pi0-FAST) | ...
    action_normalization: str
    fps: float | None = None  # actions per second: the step of a chunk is 1 / fps; None: the robot file's dataset_fps
    num_steps: int = 10  # Euler steps from noise to actions
    noise_scale: float = 1.0  # of the noise that a chunk is grown from; 0: always the same, calmest chunk
    prompt_format: str = "openpi"  # openpi | lerobot (pi0: the text as it is and a newline)
    image_resize: str = "pillow"  # pillow (antialiased, on uint8) | torch (bilinear without antialias, on floats)
    # | torch_0.4 (bars of -3, as LeRobot 0.4) | torch_0.3 (bars at the top and left only, as LeRobot 0.3)
    times_summed: bool = False  # LeRobot 0.3 to 0.4.2: flow times are added up, as in openpi, not multiplied
    pad_state_text: bool = False  # pi0.5 of LeRobot 0.4: the state is padded before it becomes text
    relative_actions: tuple[bool, ...] | None = None  # per action dimension, where the files say it; else the robot's
    action_names: tuple[str, ...] | None = None  # per action dimension, where the files say it
    lerobot: Mapping[str, Any] | None = None  # what LeRobot alone reads, kept for the way back: see `lerobot.KEPT`
    rtc_trained_max_delay: int = 0  # trained to continue prefixes of up to so many actions; 0: not trained for that

    def __post_init__(self) -> None:
        check_normalization(self.state_normalization)
        check_normalization(self.action_normalization)
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise InputError(f"fps is {self.fps!r}, expected 0 < fps <= 1000")
        if not 1 <= self.num_steps <= 1000:
            raise InputError(f"num_steps is {self.num_steps!r}, expected 1 .. 1000")
        if not 0 <= self.noise_scale <= 1:
            raise InputError(f"noise_scale is {self.noise_scale!r}, expected 0 .. 1")
        if self.rtc_trained_max_delay < 0:
            raise InputError(f"rtc_trained_max_delay is {self.rtc_trained_max_delay!r}, expected 0 or more")
        for key, choices in (("prompt_format", PROMPT_FORMATS), ("image_resize", IMAGE_RESIZES)):
            if getattr(self, key) not in choices:
                raise InputError(f"{key} is {getattr(self, key)!r}, expected one of {', '.join(choices)}")

    def to_dict(self) -> dict[str, Any]:
        """What stands in config.json: the settings that say anything."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> PolicySettings:
        """Read what `to_dict` wrote; `normalization`, the key of older files, means both normalisations."""
        values = dict(content)
        if "normalization" in values:
            both = values.pop("normalization")
            values = {"state_normalization": both, "action_normalization": both, **values}
        known = {field.name for field in fields(cls)}
        if unknown := set(values) - known:
            raise InputError(f"unknown key(s) {', '.join(sorted(unknown))}; known: {', '.join(sorted(known))}")
        if missing := {"state_normalization", "action_normalization"} - set(values):
            raise InputError(f"missing key(s) {', '.join(sorted(missing))}")
        for key in ("relative_actions", "action_names"):
            if values.get(key) is not None:
                values[key] = tuple(values[key])
        return cls(**values)
