"""What the commands that speak to a running robot have in common."""

from __future__ import annotations

import argparse

from pi0_ros.base.arguments import positive


def add_operator_arguments(parser: argparse.ArgumentParser) -> None:
    """Which robot, and how long to wait for it."""
    parser.add_argument("--namespace", default="", help="the robot's namespace, for example left (default: none)")
    parser.add_argument("--timeout", type=positive, default=10.0, help="seconds to wait (default %(default)g)")


def as_status(done: bool, message: str) -> int:
    """Print an answer; the exit status of the command: 0, or 1 for a refusal."""
    print(message if done else f"refused: {message}")
    return 0 if done else 1
