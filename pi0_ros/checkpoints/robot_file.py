"""What a robot file must say to use a checkpoint, and which robot files of this package already say it."""

from __future__ import annotations

from pi0_ros.base.errors import InputError
from pi0_ros.base.share import config_path
from pi0_ros.checkpoints.description import Description
from pi0_ros.checkpoints.fit import check_fit
from pi0_ros.checkpoints.spec import statistics_for
from pi0_ros.checkpoints.summary import asset_id, assumed, joint_name
from pi0_ros.inference.metadata import Metadata, check_robot
from pi0_ros.robot import Robot, load_robot


def shipped_robots() -> list[Robot]:
    """Every robot file of the package."""
    return [load_robot(path.stem) for path in sorted(config_path("robots").glob("*.yaml"))]


def fits(description: Description, robot: Robot) -> bool:
    """Whether the checkpoint drives this robot with nothing else said. Guesses are left out: numbers must be equal.

    A robot file that names an asset is for checkpoints with these statistics, and for the kinds of model it lists.
    """
    if description.robot is None and description.assets:
        if robot.released.asset_id not in description.assets:
            return False
    elif not alike(description, robot):
        return False
    models = [release.model for release in robot.released.models]
    return (not models or description.config.model in models) and misfit(description, robot) is None


def alike(description: Description, robot: Robot) -> bool:
    """Whether state and actions are as long as the checkpoint's."""
    lengths = len(robot.state_joints), len(robot.action_joints)
    return lengths == (description.state_dim, description.action_dim)


def misfit(description: Description, robot: Robot) -> str | None:
    """What stands between the checkpoint and this robot; None when nothing does."""
    config, own = description.config, description.robot
    try:
        if own is not None:
            fps = description.settings.fps or own.dataset_fps
            about = (description.path.name, config.model, own, config.action_horizon, fps, config.vision.image_size)
            check_robot(robot, Metadata(*about))
        check_fit(config, description.settings, robot, statistics_for(description, robot))
    except InputError as error:
        return str(error)
    return None


def snippet(description: Description) -> str:
    """The keys of a robot file that this checkpoint decides, as YAML to be completed."""
    config, settings, stats = description.config, description.settings, description.norm_stats
    state_dim = stats.state.used_dim if stats else description.state_dim
    action_dim = stats.actions.used_dim if stats else description.action_dim
    lines = []
    if state_dim is None or action_dim is None:
        hint = "see --asset ID" if description.assets else f"at most {config.action_dim}"
        lines += [f"joints: []  # in the order of the model's numbers; {hint}"]
    else:
        lines += [f"joints:  # {_count(state_dim, action_dim)}; each needs unit, kind and limits, too"]
        lines += [f"  - {_joint(description, i, state_dim, action_dim)}" for i in range(max(state_dim, action_dim))]
    lines += ["cameras:  # each needs name, topic, type and max_age_s, too; a slot without camera stays black"]
    lines += [f"  - {{slot: {slot}}}" for slot in config.cameras if not slot.startswith("empty_camera")]
    if settings.fps is None:
        lines += ["dataset_fps: 50  # actions per second of the data it was trained on; the checkpoint does not say it"]
    lines += _policy(description)
    return "\n".join(lines)


def _joint(description: Description, index: int, state_dim: int, action_dim: int) -> str:
    relative, name = description.settings.relative_actions, joint_name(description, index)
    if index >= action_dim:
        return f"{{name: {name}, role: state}}"
    action = "relative" if relative is not None and index < len(relative) and relative[index] else "absolute"
    role = ", role: action" if index >= state_dim else ""
    return f"{{name: {name}, action: {action}{role}}}"


def _count(state_dim: int, action_dim: int) -> str:
    if state_dim == action_dim:
        return f"{state_dim} in the order of the model's numbers"
    return f"state of {state_dim}, actions of {action_dim} (which ones share a joint is up to you)"


def _policy(description: Description) -> list[str]:
    """The key `policy`: which statistics, and sizes that were assumed."""
    config = description.config
    lines = []
    if description.assets:
        chosen = asset_id(description) or next(iter(description.assets))
        others = ", ".join(name for name in description.assets if name != chosen)
        lines.append(f"  asset_id: {chosen}" + (f"  # or {others}" if others else ""))
    keys = ("action_horizon", "max_token_len", "discrete_state_input")
    if sizes := {key: getattr(config, key) for key in keys if key in assumed(description)}:
        written = ", ".join(f"{key}: {value}".lower() for key, value in sizes.items())
        lines.append(f"  {config.model}: {{{written}}}  # assumed: write what it was trained with")
    return ["policy:", *lines] if lines else []
