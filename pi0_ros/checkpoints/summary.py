"""What there is to say about a checkpoint, as plain values: `pi0 checkpoint info` prints them as text or as JSON."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np

from pi0_ros.checkpoints.description import Description
from pi0_ros.checkpoints.norm_stats import NORMALIZATIONS, Stats
from pi0_ros.checkpoints.settings import PolicySettings
from pi0_ros.model.config import Expert, ModelConfig, Vision

MODELS = {"pi0": "pi0", "pi05": "pi0.5", "pi0_fast": "pi0-FAST"}
_MOST_RADIANS = 10.0  # no joint turns further, so larger numbers are degrees, percentages or ticks


def summarize(description: Description) -> dict[str, Any]:
    """All facts but those of the robot file; JSON values."""
    config, settings, stats = description.config, description.settings, description.norm_stats
    counts = Counter[str]()
    for info in description.tensors.values():
        counts[info.dtype] += math.prod(info.shape)
    return {
        "path": str(description.path),
        "format": description.format,
        "model": config.model,
        "parameters": sum(counts.values()),
        "dtypes": dict(counts.most_common()),
        "bytes": sum(info.nbytes for info in description.tensors.values()),
        "bytes_on_disk": bytes_on_disk(description),
        "config": config.to_dict(),
        "assumed": assumed(description),
        "policy": settings.to_dict(),
        "state_dim": description.state_dim,
        "action_dim": description.action_dim,
        "norm_stats": stats.to_dict()["norm_stats"] if stats else None,
        "assets": {name: asset.to_dict()["norm_stats"] for name, asset in description.assets.items()},
        "tokenizer": str(description.tokenizer_path) if description.tokenizer_path else None,
        "robot": description.robot.name if description.robot else None,
        "merged": description.merged,
        "leftovers": dict(description.leftovers),
        "training": dict(description.training),
        "notes": notes(description),
    }


def bytes_on_disk(description: Description) -> int:
    """The size of the whole checkpoint."""
    path = description.path
    return sum(file.stat().st_size for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file())


def notes(description: Description) -> list[str]:
    """What a user of this very checkpoint should know, each in one sentence."""
    config, settings, stats = description.config, description.settings, description.norm_stats
    found = []
    if description.merged:
        found.append(
            f"LoRA: factors are merged into {description.merged} weights, with alpha = rank: no file states it"
        )
    if any("buffer_" in name for name in description.leftovers):
        found.append("LeRobot layout of before September 2025: names are translated, statistics read from the weights")
    if config.is_pi05 and not config.discrete_state_input:
        found.append("pi0.5 without the state in its prompt: this model does not see where the robot is")
    if description.undecided:
        found.append(description.undecided.removeprefix(f"{description.path}: "))
    if settings.pad_state_text:
        found.append(
            f"trained by LeRobot 0.4: the state is padded to {config.state_width} before it is written into the prompt"
        )
    if settings.rtc_trained_max_delay:
        found.append(f"trained for real-time chunking, delays of up to {settings.rtc_trained_max_delay} actions")
    if settings.noise_scale != 1:
        found.append(f"grows its chunks from {settings.noise_scale:g} times the usual noise")
    if stats is None and not description.assets:
        found.append("no statistics: a base model, to be fine-tuned before it can drive a robot")
    for part, values in (("state", stats.state), ("actions", stats.actions)) if stats else ():
        largest = max((float(np.abs(row).max()) for row in values.present().values() if row.size), default=0.0)
        if largest > _MOST_RADIANS:
            found.append(
                f"the {part} reach {largest:.4g}: no radians but degrees, percentages or the like, which the key "
                "`model` of a joint converts"
            )
    return found


def assumed(description: Description) -> list[str]:
    """Keys of the config that no file says; `discrete_state_input` is a question for pi0.5 alone."""
    return [key for key in description.assumed if key != "discrete_state_input" or description.config.is_pi05]


def asset_id(description: Description) -> str | None:
    """Which of the assets the statistics are; None when they are none of them."""
    return next((name for name, stats in description.assets.items() if stats is description.norm_stats), None)


def joint_name(description: Description, index: int) -> str:
    """What the checkpoint calls a dimension, else `joint_1` and so on."""
    names = description.settings.action_names or (description.robot.action_names if description.robot else ())
    return names[index].removesuffix(".pos") if index < len(names) else f"joint_{index + 1}"


def range_of(stats: Stats, dim: int, normalization: str) -> str:
    """The two numbers that normalise dimension `dim`: `mean ± std`, or `lower .. upper`; empty where there are none."""
    fields = NORMALIZATIONS.get(normalization) or next(
        (pair for pair in NORMALIZATIONS.values() if pair and set(pair) <= stats.present().keys()), ()
    )
    if dim >= stats.dim or not fields or not set(fields) <= stats.present().keys():
        return ""
    first, second = (stats.need(field)[dim] for field in fields)
    return f"{first:9.3f} {'±' if fields[0] == 'mean' else '..'} {second:.3f}"


def size_name(config: ModelConfig) -> str:
    """`the released sizes`, or the ones that differ from them in words."""
    released = ModelConfig.preset(config.model)
    if (config.vlm, config.expert, config.vision) == (released.vlm, released.expert, released.vision):
        return "the released sizes"
    parts: dict[str, Vision | Expert | None] = {
        "vision": config.vision,
        "language": config.vlm,
        "expert": config.expert,
    }
    sizes = ", ".join(f"{name} {part.width} wide {part.depth} deep" for name, part in parts.items() if part is not None)
    return f"{sizes}, {config.vocab_size} words"


def prompt_name(config: ModelConfig, settings: PolicySettings) -> str:
    """How the prompt is written."""
    if config.is_fast:
        return "with the state, as pi0-FAST's in openpi"
    if config.is_pi05:
        return "with the state in words" if config.discrete_state_input else "without the state"
    return "the text as it is and a newline (LeRobot)" if settings.prompt_format == "lerobot" else "as in openpi"
