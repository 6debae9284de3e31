"""What stands between a network and a robot: a checkpoint's description, fitted to one robot."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pi0_ros.base.errors import InputError
from pi0_ros.checkpoints.description import Description
from pi0_ros.checkpoints.fit import check_fit
from pi0_ros.checkpoints.norm_stats import NormStats, Stats
from pi0_ros.checkpoints.safetensors_files import CheckpointError
from pi0_ros.checkpoints.settings import PolicySettings
from pi0_ros.model.config import ModelConfig
from pi0_ros.robot import Robot
from pi0_ros.tokens.tokenizer import Tokenizer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PolicySpec:
    """Everything that turns robot data into model data. ValueError when the parts do not fit together."""

    config: ModelConfig
    settings: PolicySettings
    robot: Robot
    norm_stats: NormStats
    tokenizer: Tokenizer

    def __post_init__(self) -> None:
        check_fit(self.config, self.settings, self.robot, self.norm_stats)
        pieces, rows = self.tokenizer.vocab_size, self.config.vocab_size
        if pieces > rows:
            raise InputError(f"the tokenizer has {pieces} pieces, the model's vocab_size is only {rows}")

    @cached_property
    def state_stats(self) -> Stats:
        """Statistics of the robot's state, in its joints' order."""
        stats, robot = self.norm_stats.state, self.robot
        return stats.at(robot.state_places) if robot.has_places else stats

    @cached_property
    def action_stats(self) -> Stats:
        """Statistics of the robot's actions, in its joints' order."""
        stats, robot = self.norm_stats.actions, self.robot
        return stats.at(robot.action_places) if robot.has_places else stats

    @property
    def fps(self) -> float:
        """Actions per second: what the checkpoint says, else the rate of the robot's data."""
        return self.settings.fps or self.robot.dataset_fps


def policy_spec(description: Description, robot: Robot | None = None, tokenizer: Path | str = "") -> PolicySpec:
    """Fit a checkpoint to the robot that it carries, else to `robot`; `tokenizer` is for one without, or instead.

    CheckpointError where there is no robot, no statistics, no tokenizer, or where they do not fit together.
    """
    driven = description.robot or robot
    if driven is None:
        raise CheckpointError(
            f"{description.path}: there is no robot file in it: say which robot it drives, with robot:=NAME for a node "
            "or --robot NAME for a command"
        )
    if description.undecided:
        raise CheckpointError(description.undecided)
    if description.config.is_fast and description.settings.prompt_format == "lerobot":
        raise CheckpointError(
            f"{description.path}: LeRobot's pi0_fast writes prompt and actions otherwise than openpi's, which runs "
            "here: use an openpi checkpoint"
        )
    wanted, only = driven.released.asset_id, next(iter(description.assets), "")
    if description.robot is None and description.norm_stats is not None and wanted and only not in ("", wanted):
        logger.warning(
            "%s: its only statistics are those of %s, robot '%s' asks for %s: are they this robot's?",
            description.path, only, driven.name, wanted,
        )  # fmt: skip
    path = tokenizer or description.tokenizer_path
    try:
        words = Tokenizer.load(path) if path else Tokenizer.installed()
        return PolicySpec(description.config, description.settings, driven, statistics_for(description, driven), words)
    except (InputError, OSError) as error:
        raise CheckpointError(f"{description.path}: {error}") from error


def statistics_for(description: Description, robot: Robot) -> NormStats:
    """The only statistics of the checkpoint, or those that the robot file chooses."""
    known, wanted = ", ".join(description.assets), robot.released.asset_id
    if description.norm_stats is not None:
        return description.norm_stats
    if wanted in description.assets:
        return description.assets[wanted]
    if known:
        has = f"has {wanted!r}, which is not among them" if wanted else "does not choose"
        raise CheckpointError(f"it has statistics of {known}; robot '{robot.name}' {has}: write policy.asset_id there")
    raise CheckpointError(
        "it has no statistics of states and actions: a base model must be fine-tuned first (`pi0 train`), or put "
        "openpi's norm_stats.json into its folder assets/NAME/"
    )
