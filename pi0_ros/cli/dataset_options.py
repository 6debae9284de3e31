"""How commands name a dataset's robot, and what another author calls its columns, cameras and joints."""

from __future__ import annotations

import argparse
from pathlib import Path

from pi0_ros.datasets.dataset import Dataset, parse_names
from pi0_ros.robot import load_robot


def add_map_argument(parser: argparse.ArgumentParser) -> None:
    """`--map`."""
    parser.add_argument(
        "--map", action="append", default=[], metavar="THEIRS=OURS", help="a column, camera or joint of the dataset"
    )


def add_dataset_robot_arguments(parser: argparse.ArgumentParser) -> None:
    """`--robot` and `--map`."""
    parser.add_argument("--robot", help="robot file, by name or path; needed where the dataset carries none")
    add_map_argument(parser)


def open_dataset(path: Path, args: argparse.Namespace) -> Dataset:
    """The dataset at `path` by its own robot file, or by the one that `args` names."""
    return Dataset(path, load_robot(args.robot) if args.robot else None, parse_names(args.map))
