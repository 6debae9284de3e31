"""Look at, convert and compare checkpoints: of this package, of LeRobot and of openpi.

    pi0 checkpoint info ~/pi05_droid                 what it is, and what a robot file must say to use it
    pi0 checkpoint convert ~/pi05_droid ~/droid --to pi0_ros --robot franka_droid
    pi0 checkpoint verify ~/pi05_droid ~/droid       do both give the same actions?

`pi0 checkpoint ACTION --help` shows the options of each; docs/checkpoints.md lists the public checkpoints.
"""

from __future__ import annotations

import argparse

from pi0_ros.checkpoint_cli import convert, info, verify

ACTIONS = {
    "info": (info, "say what a checkpoint is and what a robot file needs to use it"),
    "convert": (convert, "write a checkpoint in another format"),
    "verify": (verify, "compare the actions, weights, statistics and settings of two checkpoints"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 checkpoint`."""
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    for name, (module, summary) in ACTIONS.items():
        action = actions.add_parser(
            name, help=summary, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.add_arguments(action)
        action.set_defaults(action=module.run)


def run(args: argparse.Namespace) -> int:
    """`pi0 checkpoint`: the chosen action's exit status."""
    return int(args.action(args))
