"""Checkpoints as the policy uses them: a network and everything between it and the robot.

    model.safetensors  config.json  robot.yaml  norm_stats.json  tokenizer.model

is this package's own folder, whole in itself. Checkpoints of LeRobot and openpi are read as they are; they lack the
robot file, which is then given, and perhaps the tokenizer. Four layers, each on the one before:

    describe.describe   what its files say, no weights        `Description`
    describe.load_spec  that, fitted to one robot             `PolicySpec`
    load.load_model     what its files say, and the network   `LoadedModel`
    load_checkpoint     both                                  `Checkpoint`
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from pi0_ros.checkpoints.describe import describe
from pi0_ros.checkpoints.folders import new_folder, write_json
from pi0_ros.checkpoints.load import load_model
from pi0_ros.checkpoints.norm_stats import NormStats, save_norm_stats
from pi0_ros.checkpoints.own import CONFIG, ROBOT, STATS, TOKENIZER, WEIGHTS, own_config
from pi0_ros.checkpoints.safetensors_files import CheckpointError
from pi0_ros.checkpoints.settings import PolicySettings
from pi0_ros.checkpoints.spec import PolicySpec, policy_spec
from pi0_ros.checkpoints.weights import save_model
from pi0_ros.model.config import DTYPES, ModelConfig
from pi0_ros.model.fast import Pi0Fast
from pi0_ros.model.pi0 import Pi0
from pi0_ros.robot import Robot, robot_to_yaml
from pi0_ros.tokens.action_tokens import ActionCodec, ActionTokens
from pi0_ros.tokens.subwords import HUGGING_FACE, file_of

AUTO = "auto"  # the dtype of the file


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint: the network (in evaluation mode, on its device) and what surrounds it."""

    folder: Path
    spec: PolicySpec
    model: Pi0 | Pi0Fast
    training: Mapping[str, Any]  # free notes of the trainer: step, dataset, seeds, ...


def save_checkpoint(
    folder: Path | str,
    model: Pi0 | Pi0Fast | Callable[[Path], None],
    config: ModelConfig,
    policy_settings: PolicySettings,
    robot: Robot,
    norm_stats: NormStats,
    tokenizer_path: Path | str,
    training: Mapping[str, Any] | None = None,
    write_more: Callable[[Path], None] | None = None,
) -> Path:
    """Write a checkpoint folder, replacing an older one at the same place; returns the folder.

    `model` is the network, or a function that writes its weights to a file. `training` is stored in config.json as it
    is (JSON); `write_more(path)` may put further files (such as the optimiser's state) into the folder before it is
    renamed into place. `tokenizer_path` is a .model, a tokenizer.json or the folder of one.
    """
    folder, tokenizer = Path(folder).absolute(), file_of(Path(tokenizer_path))
    with new_folder(folder) as partial:
        if isinstance(model, (Pi0, Pi0Fast)):
            save_model(model, partial / WEIGHTS)
        else:
            model(partial / WEIGHTS)
        write_json(partial / CONFIG, own_config(config, policy_settings, training))
        (partial / ROBOT).write_text(robot_to_yaml(robot))
        save_norm_stats(norm_stats, partial / STATS)
        shutil.copyfile(tokenizer, partial / (HUGGING_FACE if tokenizer.suffix == ".json" else TOKENIZER))
        if write_more is not None:
            write_more(partial)
    return folder


def load_checkpoint(
    folder: Path | str,
    *,
    device: torch.device | str = "cpu",
    robot: Robot | None = None,
    tokenizer: Path | str = "",
    dtype: str = AUTO,
    config: Mapping[str, Any] | None = None,
) -> Checkpoint:
    """Read a checkpoint of any format; CheckpointError names the file and the key that is wrong.

    `robot` is the robot of a checkpoint that carries no robot file, `tokenizer` a file or folder for one without
    tokenizer, `config` says sizes that neither its files nor its tensors do. `dtype` auto: that of the file.
    """
    if dtype not in (AUTO, *DTYPES):
        raise CheckpointError(f"dtype is {dtype!r}, expected one of {', '.join((AUTO, *DTYPES))}")
    description = describe(folder, robot, config)
    spec = policy_spec(description, robot, tokenizer)
    codec = None
    if description.config.is_fast:  # a robot holds rather than follow an answer without actions
        codec = ActionCodec(spec.tokenizer, ActionTokens.find(description.path), strict=True)
    wanted = description.config.dtype if dtype == AUTO else dtype
    loaded = load_model(folder, config=description.config, device=device, dtype=wanted)
    if isinstance(loaded.model, Pi0Fast):
        loaded.model.codec = codec
    return Checkpoint(loaded.path, replace(spec, config=loaded.config), loaded.model, loaded.training)
