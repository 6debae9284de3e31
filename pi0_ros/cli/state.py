"""Show what policy, controller and recorder say of themselves.

    pi0 state
    pi0 state --namespace left -v       with all values

The exit status is 1 when one of them reports an error, or when nobody is heard.
"""

from __future__ import annotations

import argparse
import os

from pi0_ros.cli.operator_options import add_operator_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 state`."""
    parser.add_argument("-v", "--verbose", action="store_true", help="all values too")
    add_operator_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """`pi0 state`: 0, 1 when one of them has an error or nobody is heard."""
    from pi0_ros.base.middleware import domain_of
    from pi0_ros.nodes.operator import operator

    with operator(args.namespace, args.timeout) as robot:
        heard = robot.statuses(1.2)  # they speak twice a second
    if not heard:
        where = f"in ROS_DOMAIN_ID {domain_of(os.environ)}"
        where += f" and namespace {args.namespace}" if args.namespace else ""
        print(f"nobody is heard on /diagnostics: is a robot running, {where}?")
        return 1
    for name, level, message, values in heard:
        who = f" (in charge: {values['in_charge']})" if "in_charge" in values else ""
        print(f"{name:<12s} {level:<8s} {message}{who}")
        if args.verbose:
            print("\n".join(f"    {key}: {value}" for key, value in values.items()))
    return 1 if any(level in ("error", "stale") for _, level, _, _ in heard) else 0
