"""A checkpoint is one self-contained folder: weights, sizes, robot file, statistics and tokenizer.

    model.safetensors  config.json  robot.yaml  norm_stats.json  tokenizer.model

It is written beside its place and renamed into it, so a killed writer leaves the previous checkpoint whole.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pi0_ros.model.config import ModelConfig
from pi0_ros.model.pi0 import Pi0
from pi0_ros.model.tokenizer import Tokenizer
from pi0_ros.model.weights import load_model, save_model
from pi0_ros.norm import NormStats, load_norm_stats, save_norm_stats
from pi0_ros.policy.transforms import PolicySpec
from pi0_ros.robot import Robot, robot_from_yaml, robot_to_yaml
from pi0_ros.settings import PolicySettings

FORMAT, VERSION = "pi0_ros", 1
WEIGHTS, CONFIG, ROBOT, STATS, TOKENIZER = (
    "model.safetensors",
    "config.json",
    "robot.yaml",
    "norm_stats.json",
    "tokenizer.model",
)


class CheckpointError(ValueError):
    """A checkpoint folder that cannot be used; the message names the file, the key and what to do."""


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint: the network (in evaluation mode, on its device) and what surrounds it."""

    folder: Path
    spec: PolicySpec
    model: Pi0
    training: Mapping[str, Any]  # free notes of the trainer: step, dataset, seeds, ...


def save_checkpoint(
    folder: Path | str,
    model: Pi0,
    config: ModelConfig,
    policy_settings: PolicySettings,
    robot: Robot,
    norm_stats: NormStats,
    tokenizer_path: Path | str,
    training: Mapping[str, Any] | None = None,
    write_more: Callable[[Path], None] | None = None,
) -> Path:
    """Write a checkpoint folder, replacing an older one at the same place; returns the folder.

    `training` is stored in config.json as it is (JSON); `write_more(path)` may put further files (such as the
    optimiser's state) into the folder before it is renamed into place.
    """
    folder = Path(folder).absolute()
    _recover(folder)
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        save_model(model, partial / WEIGHTS)
        settings = {
            "format": FORMAT,
            "version": VERSION,
            "model": config.to_dict(),
            "policy": policy_settings.to_dict(),
            "training": dict(training or {}),
        }
        (partial / CONFIG).write_text(json.dumps(settings, indent=2) + "\n")
        (partial / ROBOT).write_text(robot_to_yaml(robot))
        save_norm_stats(norm_stats, partial / STATS)
        shutil.copyfile(tokenizer_path, partial / TOKENIZER)
        if write_more is not None:
            write_more(partial)
        _sync(partial)
        if folder.exists():
            folder.rename(_previous(folder))
        partial.rename(folder)
        shutil.rmtree(_previous(folder), ignore_errors=True)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        _recover(folder)
        raise
    return folder


def load_checkpoint(folder: Path | str, device: torch.device | str = "cpu") -> Checkpoint:
    """Read a checkpoint folder; CheckpointError names the file and the key that is wrong."""
    spec, training, folder = _load_spec(folder)
    try:
        model = load_model(spec.config, folder / WEIGHTS, device)
    except (ValueError, OSError) as error:  # names the file
        raise CheckpointError(str(error)) from error
    if not isinstance(model, Pi0):
        raise CheckpointError(f"{folder}: a {spec.config.model} model cannot be run as a policy")
    return Checkpoint(folder, spec, model, training)


def load_spec(folder: Path | str) -> PolicySpec:
    """Everything of a checkpoint but the weights; cheap."""
    return _load_spec(folder)[0]


def _load_spec(folder: Path | str) -> tuple[PolicySpec, Mapping[str, Any], Path]:
    folder = Path(folder).expanduser().absolute()
    if not folder.exists() and _previous(folder).exists():
        folder = _previous(folder)  # a writer was killed between its two renames
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such checkpoint folder")
    if missing := [name for name in (CONFIG, ROBOT, STATS, TOKENIZER, WEIGHTS) if not (folder / name).is_file()]:
        raise CheckpointError(f"{folder}: not a complete checkpoint, missing {', '.join(missing)}")
    config, settings, training = _read_config(folder / CONFIG)
    try:
        robot = robot_from_yaml((folder / ROBOT).read_text(), str(folder / ROBOT))
        norm_stats = load_norm_stats(folder / STATS)
    except ValueError as error:  # each names its file
        raise CheckpointError(str(error)) from error
    try:
        tokenizer = Tokenizer.load(folder / TOKENIZER)
    except (ValueError, OSError) as error:
        raise CheckpointError(str(error)) from error
    try:
        return PolicySpec(config, settings, robot, norm_stats, tokenizer), training, folder
    except ValueError as error:
        raise CheckpointError(f"{folder}: {error}") from error


def _read_config(path: Path) -> tuple[ModelConfig, PolicySettings, Mapping[str, Any]]:
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise CheckpointError(f"{path}: not JSON ({error})") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path}: 'format' is not '{FORMAT}': not a checkpoint of this package")
    if content.get("version") != VERSION:
        raise CheckpointError(f"{path}: 'version' is {content.get('version')!r}, this package reads version {VERSION}")
    if unknown := set(content) - {"format", "version", "model", "policy", "training"}:
        raise CheckpointError(f"{path}: unknown key(s) {', '.join(sorted(unknown))}")
    parsed: list[Any] = []
    for key, parse in (("model", ModelConfig.from_dict), ("policy", PolicySettings.from_dict)):
        if not isinstance(content.get(key), dict):
            raise CheckpointError(f"{path}: '{key}' must be a mapping")
        try:
            parsed.append(parse(content[key]))
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path}: '{key}': {error}") from error
    return parsed[0], parsed[1], content.get("training", {})


def _previous(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.previous")


def _recover(folder: Path) -> None:
    """Undo what a killed writer may have left: put the previous folder back, or drop it when its successor is there."""
    if _previous(folder).exists():
        if folder.exists():
            shutil.rmtree(_previous(folder), ignore_errors=True)
        else:
            _previous(folder).rename(folder)


def _sync(folder: Path) -> None:
    """Have the files on disk before the rename makes them official."""
    for path in [*folder.rglob("*"), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
