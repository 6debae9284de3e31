"""Arm the controller: from now on it follows the policy's chunks.

    pi0 arm
    pi0 arm --namespace left

It answers why where it refuses. The same as its service ~/arm with true.
"""

from __future__ import annotations

import argparse

from pi0_ros.cli.operator_options import add_operator_arguments, as_status


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 arm`."""
    add_operator_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """`pi0 arm`: 0 when it was done, 1 when it was refused."""
    from pi0_ros.nodes.operator import operator

    with operator(args.namespace, args.timeout) as robot:
        return as_status(*robot.arm(True))
