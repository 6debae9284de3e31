"""Lead the robot instead of the policy, by the poses on the robot file's `takeover` topics; and hand back.

    pi0 takeover              from now on the person leads, as long as their poses come
    pi0 takeover --end        the policy leads again, from what it sees then

The same as the controller's service ~/takeover. It answers why where it refuses.
"""

from __future__ import annotations

import argparse

from pi0_ros.cli.operator_options import add_operator_arguments, as_status


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 takeover`."""
    parser.add_argument("--end", action="store_true", help="hand back to the policy")
    add_operator_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """`pi0 takeover`: 0 when it was done, 1 when it was refused."""
    from pi0_ros.nodes.operator import operator

    with operator(args.namespace, args.timeout) as robot:
        return as_status(*robot.takeover(not args.end))
