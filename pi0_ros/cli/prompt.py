"""Tell policy and recorder what to do, in words.

    pi0 prompt put the red cube in the tray
    pi0 prompt "fold the towel" --namespace left

The same as a message on policy/prompt and recorder/prompt.
"""

from __future__ import annotations

import argparse

from pi0_ros.cli.operator_options import add_operator_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 prompt`."""
    parser.add_argument("text", nargs="+", help="what to do")
    add_operator_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """`pi0 prompt`: 0 when somebody listened."""
    from pi0_ros.nodes.operator import operator

    with operator(args.namespace, args.timeout) as robot:
        heard = robot.prompt(" ".join(args.text))
    print(f"said to {' and '.join(heard)}")
    return 0
