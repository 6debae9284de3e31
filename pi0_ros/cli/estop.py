"""Stop every controller in this ROS domain, or the one of a namespace: it brakes and stays STOPPED.

    pi0 estop                      every controller that is found
    pi0 estop --namespace left     that one only

This is software, and no replacement for the robot's own emergency stop. The same as the service ~/estop.
"""

from __future__ import annotations

import argparse

from pi0_ros.cli.operator_options import add_operator_arguments, as_status


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 estop`."""
    add_operator_arguments(parser, timeout_s=10.0)  # rather late than not at all


def run(args: argparse.Namespace) -> int:
    """`pi0 estop`: 0 when it was done, 1 when it was refused."""
    from pi0_ros.nodes.operator import operator

    with operator(args.namespace, args.timeout) as robot:
        if args.namespace:
            return as_status(*robot.estop())
        answers = robot.estop_all()
    for name, stopped, message in answers:
        print(f"{name}: {message}" if stopped else f"{name}: NOT STOPPED: {message}")
    return 0 if all(stopped for _, stopped, _ in answers) else 1
