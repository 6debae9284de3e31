"""Check robot file, checkpoint, machine and topics, and say what to do about each finding.

    pi0 doctor --robot my_robot
    pi0 doctor --robot my_robot --checkpoint runs/my_robot
    pi0 doctor --robot my_robot --live            (listens to the robot's topics; sends nothing)

Exit status 0 when nothing failed, 1 otherwise. Warnings do not fail.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import textwrap
from pathlib import Path

from pi0_ros.base.arguments import positive
from pi0_ros.base.errors import InputError
from pi0_ros.base.findings import Finding
from pi0_ros.base.printing import colours
from pi0_ros.doctor.examination import Heard, examine
from pi0_ros.robot import Robot

LABELS = {"ok": "ok", "note": "note", "warning": "warn", "error": "FAIL"}
COLOURS = {"ok": "\033[32m", "note": "\033[32m", "warning": "\033[33m", "error": "\033[31m"}
WIDTH = 17  # of the column that says what was looked at


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 doctor`."""
    parser.add_argument("--robot", required=True, help="a name in config/robots, or the path of a robot file")
    parser.add_argument("--checkpoint", type=Path, help="the checkpoint that shall drive it, of any format")
    parser.add_argument("--tokenizer", default="", help="tokenizer file or folder, for a checkpoint without one")
    parser.add_argument("--live", action="store_true", help="also listen to the robot's topics")
    parser.add_argument("--seconds", type=positive, default=3.0, help="how long to listen (default 3)")
    parser.add_argument("--use-sim-time", action="store_true", help="ages against /clock")


def run(args: argparse.Namespace) -> int:
    """`pi0 doctor`: 0 when no finding is an error."""
    if args.tokenizer and args.checkpoint is None:
        raise InputError(f"--tokenizer {args.tokenizer}: say with --checkpoint which checkpoint it is for")

    def listen(robot: Robot) -> Heard:
        from pi0_ros.nodes.topic_check import listen as listen_to

        return listen_to(robot, args.seconds, args.use_sim_time)

    live = args.live and importlib.util.find_spec("rclpy") is not None
    failed = False
    for finding in examine(args.robot, args.checkpoint, args.tokenizer, listen if live else None):
        failed |= finding.severity == "error"
        print(layout(finding, colour=colours(sys.stdout)), flush=True)
    print("Something must be mended first." if failed else "Nothing stands in the way.")
    return int(failed)


def layout(finding: Finding, colour: bool = False) -> str:
    """A finding as table text, what to do below it."""
    label = f"{LABELS[finding.severity]:4s}"
    head = f"{COLOURS[finding.severity]}{label}\033[0m" if colour else label
    lines = [f"{head}  {finding.check:{WIDTH}s}  {finding.what}"]
    if finding.todo:
        indent = " " * (WIDTH + 8)
        lines += textwrap.wrap(
            finding.todo,
            initial_indent=f"{indent}-> ",
            subsequent_indent=f"{indent}   ",
            width=110,
            break_on_hyphens=False,
            break_long_words=False,
        )
    return "\n".join(lines)
