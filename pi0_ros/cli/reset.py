"""Take back an emergency stop; then arm again.

    pi0 reset
    pi0 reset --namespace left

The same as the controller's service ~/reset.
"""

from __future__ import annotations

import argparse

from pi0_ros.cli.operator_options import add_operator_arguments, as_status


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 reset`."""
    add_operator_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """`pi0 reset`: 0 when it was done, 1 when it was refused."""
    from pi0_ros.nodes.operator import operator

    with operator(args.namespace, args.timeout) as robot:
        return as_status(*robot.reset())
