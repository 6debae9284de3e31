"""Compute the normalisation statistics of a dataset.

    pi0 stats dataset/                     writes dataset/meta/pi0_norm_stats.json and prints a table
    pi0 stats dataset/ --horizon 50        for a policy with chunks of 50 actions

State statistics run over every frame. Action statistics run over every step of every chunk, after the relative
transform (minus the state at the chunk's first frame, for joints whose action is relative) and with the last action
repeated at an episode's end, as in training. Quantiles are exact. A joint that hardly moves would be blown up by
normalisation: its range is widened to a floor and reported.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pi0_ros.norm import NormStats, Stats
from pi0_ros.robot import Robot
from pi0_ros.training.lerobot import Dataset

NORM_STATS_PATH = "meta/pi0_norm_stats.json"
DEFAULT_HORIZON = 24
FLOOR = 0.01  # of the joint's position range: the least distance between q01 and q99
GAUSSIAN_WIDTH = 4.652695748081682  # distance between the 1 % and the 99 % quantile of a Gaussian with std 1


@dataclass(frozen=True)
class Widened:
    """A dimension whose spread was below the floor."""

    kind: str  # state | actions
    joint: str
    width: float  # q99 - q01 as measured, robot units
    floor: float


def compute_norm_stats(dataset: Dataset, robot: Robot, horizon: int = DEFAULT_HORIZON) -> NormStats:
    """Statistics of states and of actions in chunks of `horizon` steps, floors applied."""
    return measure(dataset, robot, horizon)[0]


def measure(dataset: Dataset, robot: Robot, horizon: int) -> tuple[NormStats, list[Widened]]:
    """`compute_norm_stats` and the dimensions that had to be widened.

    Raises `ValueError` when `horizon` is not positive or the dataset's joints are not the robot's.
    """
    if horizon < 1:
        raise ValueError(f"horizon is {horizon}, it must be at least 1")
    if dataset.robot.joint_names != robot.joint_names:
        raise ValueError(
            f"{dataset.path} has joints {dataset.robot.joint_names}, robot {robot.name} has {robot.joint_names}"
        )
    episodes = dataset.episodes
    states: list[tuple[float, ...]] = []
    actions: list[tuple[float, ...]] = []
    for index, joint in enumerate(robot.joints):  # one at a time: the chunks of all would need J times the memory
        state = [episode.state[:, index] for episode in episodes]
        origins = state if joint.action == "relative" else [np.zeros_like(values) for values in state]
        action = [episode.action[:, index] for episode in episodes]
        chunks = [chunk_steps(values, horizon) - origin[:, None] for values, origin in zip(action, origins)]
        states.append(_spread(np.concatenate(state)))
        actions.append(_spread(np.concatenate(chunks)))
    widened: list[Widened] = []
    stats = {}
    for kind, measured in (("state", states), ("actions", actions)):
        floored = []
        for joint, values in zip(robot.joints, measured, strict=True):
            floor = FLOOR * (joint.upper - joint.lower)
            if values[3] - values[2] < floor:
                widened.append(Widened(kind, joint.name, values[3] - values[2], floor))
            floored.append(_widen(values, floor))
        stats[kind] = Stats(*np.array(floored, np.float64).T)
    return NormStats(stats["state"], stats["actions"]), widened


def chunk_steps(action: np.ndarray, horizon: int) -> np.ndarray:
    """The chunks [T, horizon] that start at each row of one joint's `action` [T]; its last value repeats at the end."""
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
        lines.append(f"{kind:{width + 17}s}      mean       std       q01       q99")
        for index, joint in enumerate(robot.joints):
            meaning = f"{joint.unit}{', relative' if kind == 'actions' and joint.action == 'relative' else ''}"
            numbers = (values.need(field)[index] for field in ("mean", "std", "q01", "q99"))
            lines.append(f"  {joint.name:{width}s} {meaning:14s}" + "".join(f" {number:9.4f}" for number in numbers))
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `pi0 stats`."""
    parser.add_argument("dataset", type=Path, metavar="DATASET", help="a dataset made by `pi0 convert`")
    parser.add_argument("--horizon", type=int, default=DEFAULT_HORIZON, help="actions per chunk (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Compute, print and write the statistics."""
    dataset = Dataset(args.dataset)
    stats, widened = measure(dataset, dataset.robot, args.horizon)
    path = args.dataset / NORM_STATS_PATH
    path.write_text(json.dumps({**stats.to_dict(), "horizon": args.horizon}, indent=2) + "\n")
    print(table(stats, dataset.robot))
    for item in widened:
        print(f"widened: {item.kind} of {item.joint}: q99 - q01 is {item.width:.2g}, floor {item.floor:.2g}")
    print(f"{len(dataset.episodes)} episodes, {len(dataset)} frames, chunks of {args.horizon}: {path}")
    return 0
