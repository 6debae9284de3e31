"""Whether a checkpoint and a robot file fit together, told without weights or tokenizer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pi0_ros.base.errors import InputError
from pi0_ros.checkpoints.norm_stats import NormStats, Stats, check_stats
from pi0_ros.checkpoints.settings import PolicySettings
from pi0_ros.model.config import ModelConfig
from pi0_ros.robot import Robot

STILL = 1e-6  # a smaller spread is that of a dimension that nothing moved


def check_fit(config: ModelConfig, settings: PolicySettings, robot: Robot, norm_stats: NormStats) -> None:
    """ValueError, naming what to correct, unless a model of this config with these statistics can drive `robot`."""
    _check_sizes(config, robot)
    if robot.has_places:
        _check_places(config, settings, robot, norm_stats)
    else:
        _check_part(robot, "state", robot.state_names, norm_stats.state, settings.state_normalization)
        _check_part(robot, "actions", robot.action_names, norm_stats.actions, settings.action_normalization)
    _check_meaning(settings, robot)


def _check_sizes(config: ModelConfig, robot: Robot) -> None:
    """The model is wide enough and has the cameras' slots; else one error with all that must change, and where."""
    problems, overrides = [], []
    parts = [("actions", "action_dim", config.action_dim, len(robot.action_names))]
    if not config.is_pi05:  # there the state is written as text, of any length
        parts.append(
            ("state", "state_dim" if config.state_dim else "action_dim", config.state_width, len(robot.state_names))
        )
    needed: dict[str, int] = {}
    for part, key, width, joints in () if robot.has_places else parts:
        if joints > max(width, needed.get(key, 0)):
            problems.append(f"robot '{robot.name}' has {joints} joints of {part}, the model's {key} is only {width}")
            needed[key] = joints
    overrides += [f"{key}: {joints}" for key, joints in needed.items()]
    slots, known = [camera.slot for camera in robot.cameras], ", ".join(config.cameras)
    if strange := [camera for camera in robot.cameras if camera.slot not in config.cameras]:
        which = " and ".join(f"camera '{camera.name}' fills slot '{camera.slot}'" for camera in strange)
        remedy = "write one of these as its slot in the robot file"
        problems.append(f"{which} of robot '{robot.name}', the model has {known}: {remedy}")
        overrides.append(f"cameras: [{', '.join(slots)}]")
    if problems:
        sizes = f"model_overrides: {{{', '.join(overrides)}}}"
        raise InputError(
            f"{'; '.join(problems)}. A model that you train may have the robot's sizes: in its config {sizes}"
        )


def _check_part(robot: Robot, part: str, joints: Sequence[str], stats: Stats, normalization: str) -> None:
    """The statistics have all that is needed; they may be wider than the robot."""
    if normalization != "identity" and stats.dim < len(joints):
        raise InputError(
            f"norm_stats.{part} has {stats.dim} dimensions, robot '{robot.name}' has {len(joints)} joints: "
            "compute the statistics with this robot file (`pi0 stats`)"
        )
    try:
        check_stats(stats, normalization, len(joints))
    except InputError as error:
        raise InputError(f"norm_stats.{part}: {error}") from None


def _check_places(config: ModelConfig, settings: PolicySettings, robot: Robot, norm_stats: NormStats) -> None:
    """Every joint's place (`model_index`) is one of the model's, and its statistics are those of a joint that moved."""
    if config.is_fast:
        raise InputError(f"robot '{robot.name}' has model_index, pi0-FAST writes actions as text: remove it")
    for part, joints, stats, normalization in (
        ("state", robot.state_joints, norm_stats.state, settings.state_normalization),
        ("actions", robot.action_joints, norm_stats.actions, settings.action_normalization),
    ):
        width = config.action_dim if part == "actions" else config.state_width
        for joint in joints:
            place = joint.model_index or 0
            what = f"joint '{joint.name}' of robot '{robot.name}' has model_index {place}"
            if place >= width and not (part == "state" and config.is_pi05):
                raise InputError(f"{what}, the model has {width} dimensions of {part}, 0 to {width - 1}: correct it")
            if normalization == "identity":
                continue
            if place >= stats.dim:
                raise InputError(f"{what}, norm_stats.{part} has {stats.dim} dimensions: correct it, or take others")
            check_stats(stats.at(np.array([place])), normalization, 1)
            spread = stats.at(np.array([place])).spread
            if spread is not None and spread[0] <= STILL:
                raise InputError(
                    f"{what}, where norm_stats.{part} never varies: no robot of the checkpoint's data moved that "
                    "dimension; correct it, choose other statistics (policy.asset_id), or train on your own"
                )


def _check_meaning(settings: PolicySettings, robot: Robot) -> None:
    """What the checkpoint says about its actions does not contradict the robot file."""
    relative, names, joints = settings.relative_actions, settings.action_names, robot.action_names
    if (known := relative or names) is not None and len(known) != len(joints):
        raise InputError(f"the checkpoint has {len(known)} actions, robot '{robot.name}' has {len(joints)}")
    if relative is not None and relative != tuple(robot.relative_mask.tolist()):
        here, there = (
            ", ".join(name for name, chosen in zip(joints, mask) if chosen) or "none"
            for mask in (robot.relative_mask, relative)
        )
        raise InputError(
            f"robot '{robot.name}' says that the actions of {here} are relative, the checkpoint those of {there}: "
            "correct `action` in the robot file"
        )
    plain = [name.removesuffix(".pos") for name in names or ()]
    if set(plain) == set(joints) and tuple(plain) != joints:
        raise InputError(
            f"the checkpoint has its actions in the order {', '.join(plain)}, robot '{robot.name}' has "
            f"{', '.join(joints)}: put the joints of the robot file into the checkpoint's order"
        )
