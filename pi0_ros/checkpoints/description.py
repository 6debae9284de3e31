"""What is known of a checkpoint without its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pi0_ros.checkpoints.norm_stats import NormStats
from pi0_ros.checkpoints.safetensors_files import TensorInfo
from pi0_ros.checkpoints.settings import PolicySettings
from pi0_ros.model.config import ModelConfig
from pi0_ros.robot import Robot


@dataclass(frozen=True)
class Sidecar:
    """What lies around the weights in a checkpoint; None or empty is what its files do not say."""

    settings: PolicySettings
    stated: Mapping[str, Any] = field(default_factory=dict)  # sizes that files say, with the keys of ModelConfig
    norm_stats: NormStats | None = None  # the only statistics, or those of the asset asked for
    assets: Mapping[str, NormStats] = field(default_factory=dict)  # openpi: asset id, such as "trossen" -> statistics
    robot: Robot | None = None
    tokenizer_path: Path | None = None
    state_dim: int | None = None  # dimensions of the robot's state, before padding
    action_dim: int | None = None
    training: Mapping[str, Any] = field(default_factory=dict)  # free notes of our trainer
    undecided: str = ""  # what no file decides though robots would move differently, and how to say it


@dataclass(frozen=True)
class Description:
    """A checkpoint but for its weights, which were compared with the model by name, shape and dtype."""

    path: Path  # the folder or file itself, below what was asked for if need be
    format: str  # a key of FORMATS in checkpoints/formats.py
    config: ModelConfig
    settings: PolicySettings
    norm_stats: NormStats | None
    assets: Mapping[str, NormStats]
    robot: Robot | None
    tokenizer_path: Path | None
    state_dim: int | None
    action_dim: int | None
    training: Mapping[str, Any]
    tensors: Mapping[str, TensorInfo]  # under openpi torch names
    leftovers: Mapping[str, str]  # tensors that no model needs -> why
    merged: int  # tensors into which low-rank factors (LoRA) are merged when they are read
    assumed: tuple[str, ...]  # keys of the config that nothing in the checkpoint tells: the released models' values
    undecided: str  # what no file decides though robots would move differently, and how to say it; else empty
