"""A first robot file from a dataset of another author: what the dataset says, what is measured, and what nobody knows.

Names, dimensions, cameras and rates are the dataset's own; limits and speeds are measured; units are judged by the
values' size. Topics, the kind of each joint and the true limits no dataset says: they are guessed, and each guess is
told.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from pi0_ros.datasets.folder import DatasetFolder
from pi0_ros.datasets.layout import ACTION, IMAGE_PREFIX, STATE, DatasetError, image_key
from pi0_ros.robot import Camera, CommandGroup, Joint, Robot, StateTopic
from pi0_ros.robot.dataset_names import DatasetNames

FULL_TURN = 2 * np.pi + 0.2  # rad; larger values are degrees
DEGREES = 57.29578  # of one rad
GRIPPERS = ("gripper", "finger", "claw", "suction", "jaw")
MARGIN = 0.05  # of the measured range, on both sides
EPISODES_STATS = "meta/episodes_stats.jsonl"
SLOTS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")


@dataclass(frozen=True)
class DerivedRobot:
    """A robot, and in sentences what of it the dataset does not say."""

    robot: Robot
    unknown: tuple[str, ...]


def derive_robot(folder: DatasetFolder) -> DerivedRobot:
    """The robot that the dataset is of, as far as it can be told. Raises `DatasetError` where it says too little."""
    rows = _has_rows(folder)
    for key in (STATE, ACTION):
        if key not in (folder.columns if rows else folder.features):
            raise DatasetError(
                f"{folder.path}: no column {key} (there are {', '.join(folder.features)}), so nothing says which "
                "joints the robot has: write its robot file, with the names in `dataset: {names: ...}`"
            )
    measured = "positions and velocities are measured" if rows else "positions are of the statistics, velocities usual"
    unknown = [
        "the topics and their message types: they are placeholders; `ros2 topic list -t` knows them",
        f"the joints' true limits: {measured}, accelerations ten times the velocity",
        "the maximum ages of the streams, the control rate and the policy rate: usual values",
        "whether the model shall see actions relative to the state (here: all but grippers, as pi0 was trained)",
    ]
    state_names, action_names = _names(folder, STATE, unknown), _names(folder, ACTION, unknown)
    joints, scales = [], {}
    for name in dict.fromkeys([*state_names, *action_names]):
        role = "both" if name in state_names and name in action_names else "state" if name in state_names else "action"
        joint, scale = _joint(folder, name, role, state_names, action_names, unknown)
        joints.append(joint)
        if scale != 1.0:
            scales[name] = scale
    cameras = _cameras(folder, unknown)
    state = StateTopic("/joint_states", "sensor_msgs/msg/JointState", tuple(state_names), 0.2)
    command = CommandGroup("arm", "/arm/command", "trajectory_msgs/msg/JointTrajectory", tuple(action_names))
    column = {image_key(camera.name): camera.name for camera in cameras}
    names = [(key, column.get(key) or _short(key)) for key in folder.camera_keys if key not in column]
    for key, called in ((STATE, state_names), (ACTION, action_names)):
        theirs = folder.names(key)
        names += [(a, b) for a, b in zip(theirs, called) if a != b and not a.isdigit()]
    tasks: list[str] = []
    with suppress(DatasetError):  # the prompt may be written in
        tasks = folder.tasks
    kept = {camera.name for camera in cameras} | {joint.name for joint in joints}
    robot = Robot(
        name=str(folder.info.get("robot_type") or folder.path.resolve().name),
        description=f"derived from the dataset {folder.path.resolve().name}",
        joints=tuple(joints),
        cameras=cameras,
        state=(state,),
        commands=(command,),
        action_source="command",
        action_max_age_s=0.2,
        control_rate_hz=min(1000.0, max(50.0, folder.fps)),
        policy_rate_hz=2.0,
        dataset_fps=folder.fps,
        prompt=tasks[0] if tasks else "",
        urdf=None,
        dataset=DatasetNames(tuple((a, b) for a, b in dict(names).items() if b in kept), tuple(scales.items())),
    )
    return DerivedRobot(robot, tuple(unknown))


def _names(folder: DatasetFolder, key: str, unknown: list[str]) -> list[str]:
    """What the dimensions are called here."""
    found = folder.names(key)
    if all(name.isdigit() for name in found):
        unknown.append(f"the joints' names: {key} has {len(found)} dimensions without any, so they are numbered")
        return [f"joint_{int(name):02d}" for name in found]
    if len(set(found)) < len(found):
        raise DatasetError(f"{folder.path}: two dimensions of {key} have one name ({', '.join(found)})")
    return [name.replace("/", "_") for name in found]


def _joint(
    folder: DatasetFolder,
    name: str,
    role: str,
    state_names: Sequence[str],
    action_names: Sequence[str],
    unknown: list[str],
) -> tuple[Joint, float]:
    """A joint, and by how much its values in the dataset are to be divided."""
    low, high, speed = _range(folder, name, ((STATE, state_names), (ACTION, action_names)))
    largest = max(abs(low), abs(high))
    kind, unit, scale = "revolute", "rad", 1.0
    if any(word in name.lower() for word in GRIPPERS):
        kind, unit = "gripper", "normalized"
        if high > 2.0:
            scale = 100.0
            unknown.append(f"the unit of {name} ({low:.4g} to {high:.4g}): taken for per cent")
        elif high <= 0.15:
            unit = "m"
            unknown.append(f"the unit of {name} ({low:.4g} to {high:.4g}): taken for m")
        else:
            unknown.append(f"the unit of {name} ({low:.4g} to {high:.4g}): taken for 0 to 1; and which end is open")
    elif largest > FULL_TURN:
        scale = DEGREES
        unknown.append(f"the unit of {name} ({low:.4g} to {high:.4g}): taken for degrees")
    speed = max(1.2 * speed / scale, 0.1) if speed is not None else min(1.0, max((high - low) / scale, 0.1))
    low, high = low / scale, high / scale
    slack = max(MARGIN * (high - low), 0.01)
    relative = role == "both" and kind != "gripper"
    action = "" if role == "state" else "relative" if relative else "absolute"
    numbers = (_rounded(low - slack), _rounded(high + slack), _rounded(speed), _rounded(10 * speed))
    return Joint(name, unit, kind, *numbers, None, action, role), scale


def _has_rows(folder: DatasetFolder) -> bool:
    """Whether more than the folder `meta` is there."""
    return (folder.path / "data").is_dir()


def _range(
    folder: DatasetFolder, name: str, sides: Sequence[tuple[str, Sequence[str]]]
) -> tuple[float, float, float | None]:
    """The least and greatest value of a dimension in the columns that have it, and all but its greatest change in a
    second; None where there are statistics only."""
    present = [(key, list(names).index(name), len(names)) for key, names in sides if name in names]
    if not _has_rows(folder):
        lows = [_statistic(folder, key, "min").min(axis=0)[at] for key, at, _ in present]
        highs = [_statistic(folder, key, "max").max(axis=0)[at] for key, at, _ in present]
        return float(min(lows)), float(max(highs)), None
    series = [folder.columns[key].reshape(-1, width)[:, at].astype(np.float64) for key, at, width in present]
    values = np.concatenate(series)
    if not np.isfinite(values).all():
        raise DatasetError(f"{folder.path}: {name} is not finite in some rows; `pi0 dataset check` says in which")
    steps = np.concatenate([np.abs(np.diff(column)) for column in series]) * folder.fps
    return float(values.min()), float(values.max()), float(np.quantile(steps, 0.999)) if len(steps) else 0.0


def _statistic(folder: DatasetFolder, key: str, name: str) -> np.ndarray:
    """One statistic of a column, float64 [E, D]: of the whole dataset, or in v2.1 of each episode."""
    rows = [folder.stats] if folder.stats else []
    if not rows and (folder.path / EPISODES_STATS).is_file():
        rows = [row["stats"] for row in folder.lines(EPISODES_STATS)]
    width = int(np.prod(folder.features[key]["shape"]))
    try:
        found = np.array([np.asarray(row[key][name], np.float64).reshape(width) for row in rows], np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{folder.path}: the statistics say no {name} of the {width} dimensions of {key}") from error
    if not len(found) or not np.isfinite(found).all():
        raise DatasetError(f"{folder.path}: neither rows nor meta/stats.json tell how far {key} goes: get one of them")
    return found


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _short(key: str) -> str:
    return key.removeprefix(IMAGE_PREFIX).removeprefix("observation.").replace(".", "_").replace("/", "_")


def _cameras(folder: DatasetFolder, unknown: list[str]) -> tuple[Camera, ...]:
    free = list(SLOTS)
    found: list[Camera] = []
    depth = [key for key in folder.camera_keys if folder.is_depth(key)]
    keys = [key for key in folder.camera_keys if key not in depth]
    if depth:
        unknown.append(f"what to do with depth, which pi0 does not see: {', '.join(depth)} is left out")
    if not keys:
        unknown.append("its cameras: the dataset has none in colour, so the policy would see the state alone")
        return ()
    for key in keys:
        name = _short(key)
        low = name.lower()
        wrist = any(word in low for word in ("wrist", "hand", "gripper"))
        liked = "right_wrist_0_rgb" if wrist and "right" in low else "left_wrist_0_rgb" if wrist else "base_0_rgb"
        slot = liked if liked in free else free[0] if free else f"extra_{len(found)}_rgb"
        free = [other for other in free if other != slot]
        found.append(Camera(name, f"/{low.replace('-', '_')}/image_raw", "sensor_msgs/msg/Image", slot, 0.25))
    slots = ", ".join(f"{camera.name}: {camera.slot}" for camera in found)
    unknown.append(f"which image slot of the model each camera fills ({slots})")
    return tuple(found)
