"""Our own checkpoint folder: what lies in it and how it is read. `pi0_ros.checkpoints.checkpoint` writes it.

    model.safetensors  config.json  robot.yaml  norm_stats.json  tokenizer.model (or tokenizer/)

A folder converted from another format lacks what that format does not have; one from openpi may have assets/ as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pi0_ros.base.errors import InputError
from pi0_ros.checkpoints.description import Sidecar
from pi0_ros.checkpoints.folders import read_json
from pi0_ros.checkpoints.norm_stats import load_norm_stats
from pi0_ros.checkpoints.openpi import choose, read_assets
from pi0_ros.checkpoints.safetensors_files import CheckpointError
from pi0_ros.checkpoints.settings import PolicySettings
from pi0_ros.model.config import ModelConfig
from pi0_ros.robot import load_robot
from pi0_ros.tokens.subwords import file_in

FORMAT, VERSION = "pi0_ros", 1
WEIGHTS, CONFIG, ROBOT, STATS, TOKENIZER = (
    "model.safetensors",
    "config.json",
    "robot.yaml",
    "norm_stats.json",
    "tokenizer.model",
)


def own_config(
    config: ModelConfig, settings: PolicySettings, training: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The content of config.json; `training` is stored as it is."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "model": config.to_dict(),
        "policy": settings.to_dict(),
        "training": dict(training or {}),
    }


def read_own(folder: Path, asset_id: str | None = None) -> Sidecar:
    """Read everything but the weights; CheckpointError names the file and the key that is wrong."""
    config, settings, training = _read_config(folder / CONFIG)
    assets = read_assets(folder)
    try:
        robot = load_robot(folder / ROBOT) if (folder / ROBOT).exists() else None
        own_stats = load_norm_stats(folder / STATS) if (folder / STATS).exists() else None
    except (InputError, OSError) as error:  # each names its file
        raise CheckpointError(str(error)) from error
    chosen = choose(assets, asset_id, folder) if asset_id is not None or own_stats is None else own_stats
    kept = settings.lerobot or {}
    return Sidecar(
        settings=settings,
        stated=config.to_dict(),
        norm_stats=chosen,
        assets=assets,
        robot=robot,
        tokenizer_path=file_in(folder),
        state_dim=kept.get("state_dim") or (chosen.state.dim if chosen else None),
        action_dim=kept.get("action_dim") or (chosen.actions.dim if chosen else None),
        training=training,
    )


def _read_config(path: Path) -> tuple[ModelConfig, PolicySettings, Mapping[str, Any]]:
    content = read_json(path)
    if content.get("format") != FORMAT:
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
