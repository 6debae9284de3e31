"""Check a robot file and say in words what it means, or all that is wrong with it.

    pi0 robot check my_robot.yaml
    pi0 robot check so101

Looks at the file alone. `pi0 doctor --robot my_robot.yaml --live` compares it with the topics.
"""

from __future__ import annotations

import argparse

from pi0_ros.robot import load_robot
from pi0_ros.robot.words import explain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 robot check`."""
    parser.add_argument("file", help="a robot file, or the name of a shipped one")


def run(args: argparse.Namespace) -> int:
    """`pi0 robot check`."""
    for line in explain(load_robot(args.file)):
        print(line)
    return 0
