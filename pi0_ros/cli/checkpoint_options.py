"""Options that several actions share: what no file of a checkpoint says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from pi0_ros.base.errors import InputError
from pi0_ros.checkpoints.checkpoint import describe
from pi0_ros.checkpoints.description import Description
from pi0_ros.robot import Robot

CONFIG_HELP = "JSON or YAML with sizes that nothing in the checkpoint tells, such as {action_horizon: 15}"
BASE_HELP = "the checkpoint that a PEFT adapter changes"


def read_config(path: Path | None) -> dict[str, Any] | None:
    """Read the file of `--config`; ValueError names it."""
    if path is None:
        return None
    try:
        content = yaml.safe_load(path.read_text())  # YAML includes JSON
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: neither JSON nor YAML ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a mapping of sizes, such as {{action_horizon: 15}}")
    return content


def describe_for(
    path: Path, robot: Robot | None, config: dict[str, Any] | None, asset_id: str | None, base: Path | None
) -> Description:
    """Describe a checkpoint with all that the robot file knows of it, the choice of statistics included."""
    description = describe(path, robot, config, asset_id=asset_id, base=base)
    wanted = robot.released.asset_id if robot is not None else ""
    if description.norm_stats is None and wanted in description.assets:
        return describe(path, robot, config, asset_id=wanted, base=base)
    return description
