"""Disarm the controller: it comes to a hold and commands nothing any more.

    pi0 disarm
    pi0 disarm --namespace left

The same as its service ~/arm with false.
"""

from __future__ import annotations

import argparse

from pi0_ros.cli.operator_options import add_operator_arguments, as_status


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 disarm`."""
    add_operator_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """`pi0 disarm`: 0 when it was done, 1 when it was refused."""
    from pi0_ros.nodes.operator import operator

    with operator(args.namespace, args.timeout) as robot:
        return as_status(*robot.arm(False))
