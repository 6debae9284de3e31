"""The `pi0` command: one table row per subcommand, and the one place where errors become lines and exit statuses.

A command's module offers `add_arguments(parser)` and `run(args) -> int`; its docstring, examples included, is the
description. A command with actions offers `ACTIONS` instead: name -> (such a module, summary). Only the chosen module
is imported, so `pi0 --help` needs neither torch nor ROS.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import re
import signal
import sys
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from pi0_ros.base.disk import expanded
from pi0_ros.base.errors import TRACEBACK, USER_ERROR, report, take_traceback
from pi0_ros.base.share import share_path

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("pi0_ros.cli.demo", "run the simulated arm with its trained policy, scored"),
    "up": ("pi0_ros.cli.up", "start, watch and stop the processes of a launch file, without `ros2 launch`"),
    "arm": ("pi0_ros.cli.arm", "let the controller follow the policy"),
    "disarm": ("pi0_ros.cli.disarm", "bring the robot to a hold and command nothing any more"),
    "estop": ("pi0_ros.cli.estop", "stop every controller in this ROS domain"),
    "reset": ("pi0_ros.cli.reset", "take back an emergency stop"),
    "takeover": ("pi0_ros.cli.takeover", "lead the robot instead of the policy, or hand back to it"),
    "prompt": ("pi0_ros.cli.prompt", "tell policy and recorder what to do"),
    "state": ("pi0_ros.cli.state", "show what policy, controller and recorder say of themselves"),
    "record": ("pi0_ros.cli.record", "record episodes by keys, with live rates, ages and losses"),
    "record-demo": ("pi0_ros.cli.record_demo", "record scripted demonstrations of the simulated arm as rosbags"),
    "convert": ("pi0_ros.cli.convert", "turn rosbags into a LeRobotDataset v3"),
    "bag": ("pi0_ros.cli.bag", "check recordings before anyone leaves the robot"),
    "dataset": ("pi0_ros.cli.dataset", "look at, check, merge and draw datasets"),
    "robot": ("pi0_ros.cli.robot", "check a robot file, or write a first one"),
    "stats": ("pi0_ros.cli.stats", "compute the normalisation statistics of a dataset"),
    "pretrain-demo": ("pi0_ros.cli.pretrain_demo", "teach the demo's small model to see"),
    "train": ("pi0_ros.cli.train", "train or fine-tune a policy on a dataset"),
    "eval": ("pi0_ros.cli.eval", "compare predicted with recorded actions on held-out bags"),
    "bench-sim": ("pi0_ros.cli.bench_sim", "score a policy in the simulator LIBERO, by openpi's protocol"),
    "checkpoint": ("pi0_ros.cli.checkpoint", "look at, convert and compare checkpoints of every public pi0 format"),
    "serve": ("pi0_ros.cli.serve", "serve a policy over ZeroMQ for robots without a GPU"),
    "keys": ("pi0_ros.cli.keys", "make keys, so that only known robots may ask a policy server"),
    "replay": (
        "pi0_ros.cli.replay",
        "play a recording through the deployed policy and measure what it would have done",
    ),
    "view": ("pi0_ros.cli.view", "look at a robot that runs, a dataset, a recording, an evaluation, a training run"),
    "latency": ("pi0_ros.cli.latency", "show where the time goes from a picture to the command, and what to do"),
    "layout": ("pi0_ros.cli.layout", "write a layout for Foxglove or PlotJuggler"),
    "doctor": ("pi0_ros.cli.doctor", "check robot file, checkpoint and topics before anything moves"),
    "completion": ("pi0_ros.cli.completion", "print the script by which bash or zsh complete `pi0`"),
}
TRACEBACK_HELP = f"`{TRACEBACK}`, with any command, shows where in the program an error arose."


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with the arguments."""

    def error(self, message: str) -> NoReturn:
        """Print it and end with status 2."""
        self.exit(USER_ERROR, f"{self.prog}: {message} (`{self.prog} --help` shows what there is)\n")


def main(argv: list[str] | None = None) -> int:
    """Parse `argv` (default: the process's arguments), run the chosen command and return its exit status."""
    argv = take_traceback(sys.argv[1:] if argv is None else argv)
    chosen = argv[0] if argv else ""
    try:
        try:
            overview = _overview()
            chosen = overview.parse_args(argv[:1]).command
            if chosen not in COMMANDS:
                near = difflib.get_close_matches(chosen, COMMANDS, 1)
                hint = f"did you mean `pi0 {near[0]}`?" if near else f"there are {', '.join(COMMANDS)}"
                overview.error(f"no command is called {chosen!r}: {hint}")
            args = _parse(chosen, argv[1:])
            args.given = argv[1:]  # as they were given, for a command that starts itself again
            return int(args.run(args))
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt as error:
        print("interrupted", file=sys.stderr)
        return 128 + getattr(error, "number", signal.SIGINT)
    except BrokenPipeError:  # the reader has seen enough: `pi0 bag check ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python says so when it ends
        return 128 + signal.SIGPIPE
    except Exception as error:
        return report(error, f"pi0 {chosen}")


def _overview() -> Parser:
    """The parser of the first word."""
    listing = "\n".join(f"  {name:14s} {summary}" for name, (_, summary) in COMMANDS.items())
    overview = Parser(
        prog="pi0",
        description=f"{sys.modules['pi0_ros'].__doc__}\n\ncommands:\n{listing}",
        epilog=f"`pi0 COMMAND --help` shows a command's options and examples. {TRACEBACK_HELP}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    overview.add_argument("--version", action="version", version=f"pi0_ros {version()}")
    overview.add_argument("command", metavar="COMMAND")
    return overview


def version() -> str:
    """The version of this package, as it is installed or, in a source tree, as package.xml says."""
    import importlib.metadata  # takes a moment, in which Ctrl-C would still show where Python was

    try:
        return importlib.metadata.version("pi0_ros")
    except importlib.metadata.PackageNotFoundError:
        found = re.search(r"<version>(.+?)</version>", share_path("package.xml").read_text(encoding="utf-8"))
        return found[1] if found else "unknown"


def _parse(chosen: str, arguments: list[str]) -> argparse.Namespace:
    parser = command_parser(chosen)
    if any(isinstance(action, argparse._SubParsersAction) for action in parser._actions):
        args = parser.parse_args(arguments)
    else:
        args = parser.parse_intermixed_args(arguments)  # options may stand between positional arguments
    for name, value in vars(args).items():
        if isinstance(value, Path):
            setattr(args, name, expanded(value))
        elif isinstance(value, list):
            setattr(args, name, [expanded(one) if isinstance(one, Path) else one for one in value])
    return args


def command_parser(chosen: str) -> argparse.ArgumentParser:
    """The parser of a command; its namespace has the function `run`."""
    module = importlib.import_module(COMMANDS[chosen][0])
    parser = Parser(
        prog=f"pi0 {chosen}",
        description=module.__doc__,
        epilog=TRACEBACK_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if hasattr(module, "ACTIONS"):
        _add_actions(parser, module.ACTIONS)
    else:
        module.add_arguments(parser)
        parser.set_defaults(run=module.run)
    return parser


def _add_actions(parser: argparse.ArgumentParser, actions: dict[str, tuple[ModuleType, str]]) -> None:
    choices = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    for name, (module, summary) in actions.items():
        action = choices.add_parser(
            name, help=summary, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.add_arguments(action)
        action.set_defaults(run=module.run)


if __name__ == "__main__":
    sys.exit(main())
