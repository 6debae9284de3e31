"""Write a first robot file from a dataset of another author, and say what it could not know.

    pi0 robot from-dataset datasets/svla_so101 > so101.yaml
    pi0 robot from-dataset datasets/svla_so101 --out so101.yaml
    pi0 stats datasets/svla_so101 --robot so101.yaml

Enough for `pi0 stats`, `pi0 train` and `pi0 eval`. Before a robot moves by it, put in what the comments at its top
list: topics, limits, units.
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

from pi0_ros.datasets.derive_robot import DerivedRobot, derive_robot
from pi0_ros.datasets.folder import DatasetFolder
from pi0_ros.datasets.layout import DatasetError
from pi0_ros.robot import robot_from_yaml, robot_to_yaml


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 robot from-dataset`."""
    parser.add_argument("path", type=Path, help="a dataset's folder")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to (default: printed)")


def run(args: argparse.Namespace) -> int:
    """`pi0 robot from-dataset`."""
    text = robot_text(derive_robot(DatasetFolder(args.path)))
    robot_from_yaml(text, str(args.out or "the derived robot file"))  # what it cannot read it must not write
    if args.out is None:
        print(text, end="")
        return 0
    if args.out.exists():
        raise DatasetError(f"{args.out} exists: choose another name or remove it")
    args.out.write_text(text, encoding="utf-8")
    print("\n".join(line.removeprefix("# ") for line in text.splitlines() if line.startswith("#")))
    print(f"written: {args.out}")
    return 0


def robot_text(found: DerivedRobot) -> str:
    """The robot file, with what is not known as comments at its top."""
    head = [f"# {found.robot.description}. Not known from it, and to be put in before the robot moves:"]
    for sentence in found.unknown:
        head += textwrap.wrap(sentence, 112, initial_indent="# - ", subsequent_indent="#   ")
    return "\n".join(head) + "\n" + robot_to_yaml(found.robot)
