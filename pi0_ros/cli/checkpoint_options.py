"""Options that several actions share: what no file of a checkpoint says."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from pi0_ros.base.errors import InputError
from pi0_ros.checkpoints.describe import describe
from pi0_ros.checkpoints.description import Description
from pi0_ros.checkpoints.locate import locate
from pi0_ros.checkpoints.peft import ADAPTER
from pi0_ros.model.config import ModelConfig
from pi0_ros.robot import Robot

CONFIG_HELP = "JSON or YAML with sizes that nothing in the checkpoint tells, such as {action_horizon: 15}"
SOME_SIZES = "action_horizon, action_dim, max_token_len"
RELEASE_HELP = "which LeRobot trained it, where its files do not tell; 0.5 stands for 0.6, too"
BASE_HELP = "the checkpoint that a PEFT adapter changes"


def read_config(path: Path | None) -> dict[str, Any] | None:
    """Read the sizes in the file of `--config`; InputError names it."""
    if path is None:
        return None
    try:
        content = yaml.safe_load(path.read_text())  # YAML includes JSON
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: neither JSON nor YAML ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a mapping of sizes, such as {{action_horizon: 15}}")
    if unknown := [str(key) for key in content if key not in {field.name for field in fields(ModelConfig)}]:
        raise InputError(f"{path}: no size of a model: {', '.join(unknown)}; write {SOME_SIZES} ...")
    return content


def check_base(base: Path | None, *paths: Path) -> None:
    """Refuse `--base` where none of the checkpoints is an adapter, and one that does not exist."""
    if base is None:
        return
    if not any(locate(path).weights.name == ADAPTER for path in paths):
        raise InputError(
            f"--base {base}: {' and '.join(map(str, paths))} is no PEFT adapter and has no base: leave it out"
        )
    locate(base)


def check_asset(asset_id: str | None, *descriptions: Description) -> None:
    """Refuse `--asset` where none of the checkpoints has statistics of that name."""
    known = sorted({name for description in descriptions for name in description.assets})
    if asset_id is not None and asset_id not in known:
        there = f"there are {', '.join(known)}" if known else "there is no choice of statistics: leave it out"
        raise InputError(f"--asset {asset_id!r}: {there}")


def describe_for(
    path: Path,
    robot: Robot | None,
    config: dict[str, Any] | None,
    asset_id: str | None,
    base: Path | None,
    lerobot_release: str | None = None,
) -> Description:
    """Describe a checkpoint with all that the robot file knows of it, the choice of statistics included."""
    check_base(base, path)
    description = describe(path, robot, config, asset_id=asset_id, base=base, lerobot_release=lerobot_release)
    check_asset(asset_id, description)
    wanted = robot.released.asset_id if robot is not None else ""
    if description.norm_stats is None and wanted in description.assets:
        return describe(path, robot, config, asset_id=wanted, base=base, lerobot_release=lerobot_release)
    return description
