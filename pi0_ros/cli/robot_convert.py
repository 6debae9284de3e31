"""Write a first robot file from a LeRobot dataset of another author, and say what it could not know.

    pi0 robot convert datasets/svla_so101 > so101.yaml
    pi0 robot convert datasets/svla_so101 --out so101.yaml
    pi0 robot convert svla_so101/meta/info.json --out so101.yaml
    pi0 stats datasets/svla_so101 --robot so101.yaml

Names, cameras and rates come from meta/info.json, limits and speeds from the rows; where only the folder `meta` is
there, limits from its statistics. Enough for `pi0 stats`, `pi0 train` and `pi0 eval`. Before a robot moves by it, put
in what the comments at its top list: topics, limits, units.
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

from pi0_ros.base.errors import InputError
from pi0_ros.datasets.derive_robot import DerivedRobot, derive_robot
from pi0_ros.datasets.folder import DatasetFolder
from pi0_ros.datasets.layout import DatasetError
from pi0_ros.robot import robot_from_yaml, robot_to_yaml


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 robot convert`."""
    parser.add_argument("path", type=Path, help="a dataset's folder, or its meta/info.json")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to (default: printed)")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE where it exists")


def run(args: argparse.Namespace) -> int:
    """`pi0 robot convert`."""
    if args.overwrite and args.out is None:
        raise InputError("--overwrite replaces the file of --out: give that, too")
    path: Path = args.path
    if path.is_file() and (path.name != "info.json" or path.resolve().parent.name != "meta"):
        raise DatasetError(f"{path}: expected a dataset's folder, or the file meta/info.json in it")
    text = robot_text(derive_robot(DatasetFolder(path.resolve().parent.parent if path.is_file() else path)))
    robot_from_yaml(text, str(args.out or "the derived robot file"))  # what it cannot read it must not write
    if args.out is None:
        print(text, end="")
        return 0
    if args.out.exists() and not args.overwrite:
        raise DatasetError(f"{args.out} exists: give --overwrite, or another name")
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
