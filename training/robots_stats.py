"""The statistics that a training normalises by: one for each robot, whatever number of datasets is of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pi0_ros.checkpoints.norm_stats import NormStats, load_norm_stats
from pi0_ros.datasets.dataset import Dataset, Episode
from pi0_ros.robot import Robot
from pi0_ros.training.fingerprints import robot_fingerprint
from pi0_ros.training.recipe import RecipeError
from pi0_ros.training.statistics import NORM_STATS_PATH, measure


@dataclass(frozen=True)
class Together:
    """Datasets of one robot, for their statistics."""

    path: Path
    robot: Robot
    episodes: Sequence[Episode]


def robots_stats(datasets: Sequence[Dataset], horizon: int, tell: bool = True) -> list[NormStats]:
    """The statistics of each dataset: its own file's, or where several are of one robot and differ, of all these.

    RecipeError where a dataset has none, or has those of other chunks or of another robot.
    """
    stats = [read_stats(dataset.path, horizon, dataset.robot) for dataset in datasets]
    robots = [robot_fingerprint(dataset.robot) for dataset in datasets]
    for robot in dict.fromkeys(robots):
        same = [index for index, other in enumerate(robots) if other == robot]
        if any(stats[index].to_dict() != stats[same[0]].to_dict() for index in same):
            together = [datasets[index] for index in same]
            if tell:
                names = ", ".join(str(dataset.path) for dataset in together)
                print(f"statistics of '{together[0].robot.name}': of {names} together", file=sys.stderr)
            episodes = [episode for dataset in together for episode in dataset.episodes]
            robot_file = together[0].robot
            found, _ = measure(Together(together[0].path, robot_file, episodes), robot_file, horizon)
            for index in same:
                stats[index] = found
    return stats


def distinct(names: Sequence[str]) -> list[str]:
    """The same names, with a number behind each that came before."""
    found: list[str] = []
    for name in names:
        number, free = 1, name
        while free in found:
            number += 1
            free = f"{name}_{number}"
        found.append(free)
    return found


def read_stats(dataset: Path, horizon: int, robot: Robot) -> NormStats:
    """The dataset's statistics; RecipeError where there are none, or they are of other chunks or of another robot."""
    path = dataset / NORM_STATS_PATH
    if not path.is_file():
        raise RecipeError(f"{path}: no statistics; make them with `pi0 stats {dataset} --horizon {horizon}`")
    content = json.loads(path.read_text())
    made_for = content.get("horizon", horizon)
    if made_for != horizon:
        raise RecipeError(
            f"{path}: statistics of chunks of {made_for} actions, the model predicts {horizon}; make them again with "
            f"`pi0 stats {dataset} --horizon {horizon}`"
        )
    if content.get("robot_fingerprint", robot_fingerprint(robot)) != robot_fingerprint(robot):
        raise RecipeError(
            f"{path}: statistics of another robot file (joints, units or the meaning of actions differ from "
            f"'{robot.name}'); make them again with `pi0 stats {dataset} --horizon {horizon}`"
        )
    return load_norm_stats(path)
