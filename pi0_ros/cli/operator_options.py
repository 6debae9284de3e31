"""What the commands that speak to a running robot have in common."""

from __future__ import annotations

import argparse

from pi0_ros.base.arguments import namespace, positive

LOOK_S = 3.0  # nodes that run are found within one


def add_operator_arguments(parser: argparse.ArgumentParser, timeout_s: float = LOOK_S) -> None:
    """Which robot, and how long to look for it."""
    parser.add_argument(
        "--namespace", type=namespace, default="", help="the robot's namespace, for example left (default: none)"
    )
    parser.add_argument(
        "--timeout", type=positive, default=timeout_s, help="seconds to look for it (default %(default)g)"
    )


def as_status(done: bool, message: str) -> int:
    """Print an answer; the exit status of the command: 0, or 1 for a refusal."""
    print(message if done else f"refused: {message}")
    return 0 if done else 1
