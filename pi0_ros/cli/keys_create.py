"""Write the keys of a policy server, once, and of robots that may ask it.

pi0 keys create keys/ left_arm               keys/server for the GPU machine, keys/left_arm for the robot
pi0 keys create keys/ right_arm              one robot more; a running server knows it at once
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pi0_ros.inference.keys import create


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 keys create`."""
    parser.add_argument("folder", type=Path, help="where all keys lie; back it up, show it to nobody")
    parser.add_argument("names", nargs="+", metavar="NAME", help="a robot that may ask")


def run(args: argparse.Namespace) -> int:
    """`pi0 keys create`."""
    for folder in create(args.folder, args.names):
        if folder.name == "server":
            print(f"{folder}: stays here: pi0 serve --bind tcp://0.0.0.0:5555 --keys {folder}")
        else:
            print(f"{folder}: copy it to the robot, then: keys:=/path/to/{folder.name}")
    return 0
