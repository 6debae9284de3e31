"""Normalisation statistics of a dataset.

State statistics run over every frame. Action statistics run over every step of every chunk, with the last action
repeated at an episode's end, as in training. Both are of values as the model counts them (the robot file's `model` and
`action`: relative actions are less the state at the chunk's first frame). Quantiles are exact. A joint that hardly
moves would be blown up by normalisation: its range is widened to a floor and reported.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from pi0_ros.base.errors import InputError
from pi0_ros.checkpoints.norm_stats import NormStats, Stats
from pi0_ros.datasets.dataset import Episode
from pi0_ros.robot import Joint, Robot, rotations
from pi0_ros.robot.types import Pose
from pi0_ros.robot.units import SAME, Scale, actions_to_model
from pi0_ros.training.fingerprints import robot_fingerprint

NORM_STATS_PATH = "meta/pi0_norm_stats.json"
DEFAULT_HORIZON = 24
FLOOR = 0.01  # of the joint's position range: the least distance between q01 and q99
NOT_MOVED = (0.0, 1.0, -1.0, 1.0)  # mean, std, q01, q99 of the model's dimensions that no joint takes
GAUSSIAN_WIDTH = 4.652695748081682  # distance between the 1 % and the 99 % quantile of a Gaussian with std 1


@dataclass(frozen=True)
class Widened:
    """A dimension whose spread was below the floor."""

    kind: str  # state | actions
    joint: str
    width: float  # q99 - q01 as measured
    floor: float


class Recorded(Protocol):
    """What statistics are made of: a dataset, or several of one robot together."""

    @property
    def path(self) -> Path: ...

    @property
    def robot(self) -> Robot: ...

    @property
    def episodes(self) -> Sequence[Episode]: ...


def compute_norm_stats(dataset: Recorded, robot: Robot, horizon: int = DEFAULT_HORIZON) -> NormStats:
    """Statistics of states and of actions in chunks of `horizon` steps, floors applied."""
    return measure(dataset, robot, horizon)[0]


def measure(dataset: Recorded, robot: Robot, horizon: int) -> tuple[NormStats, list[Widened]]:
    """`compute_norm_stats` and the dimensions that had to be widened.

    Raises `ValueError` when `horizon` is not positive or the dataset's joints are not the robot's.
    """
    if horizon < 1:
        raise InputError(f"horizon is {horizon}, it must be at least 1")
    if dataset.robot.joint_names != robot.joint_names:
        raise InputError(
            f"{dataset.path} has joints {dataset.robot.joint_names}, robot {robot.name} has {robot.joint_names}"
        )
    widened: list[Widened] = []
    states = np.concatenate([episode.state for episode in dataset.episodes])
    if not robot.state_space.plain:
        states = robot.state_space.nearest(states.astype(np.float64), _middle(dataset, robot))
    stats = {}
    for kind, joints in (("state", robot.state_joints), ("actions", robot.action_joints)):
        found = []
        posed: tuple[Pose | None, np.ndarray] = None, np.empty(0)  # a pose's chunks, made together
        for place, joint in enumerate(joints):  # one at a time: the chunks of all would need A times the memory
            if kind == "state":
                counts = joint.state_scale.to_model(states[:, place])
                counts = np.full_like(counts, joint.at_origin) if robot.seen_from_start[place] else counts
                measured = _spread(counts)
                floor = FLOOR * _range(joint, joint.state_scale)
            else:
                if joint.pose is None or posed[0] != joint.pose:
                    posed = joint.pose, _chunks(dataset, joint, robot, horizon)
                chunks = posed[1][..., 0 if joint.pose is None else joint.pose.entries.index(joint.name)]
                measured, floor = _spread(chunks), FLOOR * _range(joint, joint.action_scale) / joint.step
            if measured[3] - measured[2] < floor:
                widened.append(Widened(kind, joint.name, measured[3] - measured[2], floor))
            found.append(_widen(measured, floor))
        places = robot.state_places if kind == "state" else robot.action_places
        whole = np.tile(NOT_MOVED, (int(places.max()) + 1, 1))
        whole[places] = found
        stats[kind] = Stats(*whole.T)
    return NormStats(stats["state"], stats["actions"]), widened


def _middle(dataset: Recorded, robot: Robot) -> np.ndarray:
    """Around where the states that have several names lie, float64 [S]: an angle's direction of the mean on the circle,
    and a pose's middle rotation; NaN for all others."""
    states = np.concatenate([episode.state for episode in dataset.episodes]).astype(np.float64)
    space, middle = robot.state_space, np.full(states.shape[1], np.nan)
    angles = states[:, space.turning]
    middle[space.turning] = np.arctan2(np.sin(angles).mean(axis=0), np.cos(angles).mean(axis=0))
    for pose in space.poses:
        middle[pose.written] = pose.writing.encode(rotations.mean(pose.writing.decode(states[:, pose.written])))
    return middle


def _chunks(dataset: Recorded, joint: Joint, robot: Robot, horizon: int) -> np.ndarray:
    """The actions of one joint, or of all entries of its pose, as the model counts them, in chunks from every frame on:
    float64 [T, horizon, 1 or entries]."""
    together = [one for one in robot.joints if one == joint or (joint.pose is not None and one.pose == joint.pose)]
    alone = replace(robot, joints=tuple(together))
    moved = [robot.action_names.index(name) for name in alone.action_names]
    observed = [robot.state_names.index(name) for name in alone.state_names]
    middle = _middle(dataset, robot)[observed] if observed and not alone.state_space.plain else None
    found = []
    for episode in dataset.episodes:
        state = episode.state[:, observed]
        if middle is not None:
            state = alone.state_space.nearest(state.astype(np.float64), middle)
        found.append(actions_to_model(alone, chunk_steps(episode.action[:, moved], horizon), state))
    return np.concatenate(found)


def _range(joint: Joint, scale: Scale) -> float:
    """The joint's whole way as the model counts it."""
    ends = [0.0, joint.span] if joint.continuous else [joint.lower, joint.upper]
    lower, upper = scale.to_model(np.array(ends))
    return abs(float(upper - lower))


def chunk_steps(action: np.ndarray, horizon: int) -> np.ndarray:
    """The chunks [T, horizon, ...] that start at each row of an `action` [T, ...]; its last row repeats at the end."""
    return action[np.minimum(np.arange(len(action))[:, None] + np.arange(horizon), len(action) - 1)]


def _spread(values: np.ndarray) -> tuple[float, float, float, float]:
    """Mean, std, q01, q99 of all `values`."""
    wide = values.reshape(-1).astype(np.float64)  # numpy rounds the quantiles' places to the type of the values
    q01, q99 = np.quantile(wide, [0.01, 0.99])
    return float(wide.mean()), float(wide.std()), float(q01), float(q99)


def _widen(values: tuple[float, ...], floor: float) -> tuple[float, float, float, float]:
    """`values` (mean, std, q01, q99) with q99 - q01 at least `floor` around their middle, and a std to match.

    That is at least the std of a Gaussian of that width.
    """
    mean, std, q01, q99 = values
    if q99 - q01 < floor:
        middle = (q01 + q99) / 2
        q01, q99 = middle - floor / 2, middle + floor / 2
    return mean, max(std, floor / GAUSSIAN_WIDTH), q01, q99


def table(stats: NormStats, robot: Robot) -> str:
    """The statistics, a line per joint."""
    width = max(len(name) for name in robot.joint_names)
    lines = []
    for kind, values in (("state", stats.state), ("actions", stats.actions)):
        lines.append(f"{kind:{width + 21}s}      mean       std       q01       q99")
        places = robot.state_places if kind == "state" else robot.action_places
        for index, joint in zip(places, robot.state_joints if kind == "state" else robot.action_joints):
            scale = joint.state_scale if kind == "state" else joint.action_scale
            how = f", {joint.action}" if kind == "actions" and joint.action != "absolute" else ""
            meaning = f"{joint.unit if scale == SAME else 'as model'}{how}"
            numbers = (values.need(field)[index] for field in ("mean", "std", "q01", "q99"))
            lines.append(f"  {joint.name:{width}s} {meaning:18s}" + "".join(f" {number:9.4f}" for number in numbers))
    return "\n".join(lines)


def write_stats(dataset: Path, stats: NormStats, robot: Robot, horizon: int) -> Path:
    """Write the statistics where training looks for them, with what they are of; returns the file."""
    path = dataset / NORM_STATS_PATH
    content = {**stats.to_dict(), "horizon": horizon, "robot_fingerprint": robot_fingerprint(robot)}
    path.write_text(json.dumps(content, indent=2) + "\n")
    return path
