"""How commands name a dataset's robot, and what another author calls its columns, cameras and joints."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from pi0_ros.base.errors import InputError
from pi0_ros.datasets.dataset import Dataset, parse_names
from pi0_ros.robot import load_robot

OWN = "own"  # in place of a robot file's name: the dataset's own


def add_map_argument(parser: argparse.ArgumentParser) -> None:
    """`--map`."""
    parser.add_argument(
        "--map", action="append", default=[], metavar="THEIRS=OURS", help="a column, camera or joint of the dataset"
    )


def add_dataset_robot_arguments(parser: argparse.ArgumentParser) -> None:
    """`--robot` and `--map`."""
    parser.add_argument("--robot", help="robot file, by name or path; needed where the dataset carries none")
    add_map_argument(parser)


def open_datasets(paths: Sequence[Path], args: argparse.Namespace) -> list[Dataset]:
    """Each dataset by its own robot file, or by the one in the same place of `args.robot`, where `own` stands for none.

    One `--robot` is for one dataset only, and so is `--map`.
    """
    robots = args.robot or [OWN] * len(paths)
    if len(robots) != len(paths):
        raise InputError(
            f"--robot: given {len(robots)} times for {len(paths)} datasets: once for each, in their order; `{OWN}` for "
            "one that carries its robot file"
        )
    if args.map and len(paths) > 1:
        raise InputError("--map: for one dataset only; a mixture takes datasets that have the robot file's names")
    names = parse_names(args.map)
    return [
        Dataset(path, None if robot == OWN else load_robot(robot), names)
        for path, robot in zip(paths, robots, strict=True)
    ]


def open_dataset(path: Path, args: argparse.Namespace) -> Dataset:
    """The dataset at `path` by its own robot file, or by the one that `args` names."""
    return Dataset(path, load_robot(args.robot) if args.robot else None, parse_names(args.map))
