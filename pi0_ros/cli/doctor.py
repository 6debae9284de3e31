"""Check robot file, checkpoint, machine and what the robot says, with evidence and remedy for each finding.

    pi0 doctor --robot my_robot
    pi0 doctor --robot my_robot --checkpoint runs/my_robot
    pi0 doctor --robot my_robot --live            (listens to the robot's topics for 2.5 s; commands nothing)
    pi0 doctor --robot my_robot --live --seconds 10 --checkpoint runs/my_robot
    pi0 doctor --bag bags/episode_000012 --checkpoint runs/my_robot
    pi0 doctor --robot my_robot --live --checkpoint runs/my_robot --html doctor.html
    pi0 doctor --robot my_robot --live --json | jq '.findings[] | select(.severity == "error")'

Move the arm by teleoperation while it listens, or give it a recording of that: signs, joint order, scales and which
camera is which can be seen in motion only. Exit status 0 when nothing failed, 1 otherwise. Warnings do not fail.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from pi0_ros.base.arguments import positive
from pi0_ros.base.errors import InputError
from pi0_ros.base.findings import Finding, error
from pi0_ros.base.printing import colours
from pi0_ros.doctor.examination import examine, examine_robot
from pi0_ros.doctor.heard import Session
from pi0_ros.robot import Robot

LABELS = {"ok": "ok", "note": "note", "warning": "warn", "error": "FAIL"}
COLOURS = {"ok": "\033[32m", "note": "\033[32m", "warning": "\033[33m", "error": "\033[31m"}
SECONDS = 2.5  # with what starting takes, an answer within 5
WIDTH = 17  # of the column that says what was looked at


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 doctor`."""
    parser.add_argument("--robot", help="a name in config/robots, or the path of a robot file (with --bag: the bag's)")
    parser.add_argument("--checkpoint", type=Path, help="the checkpoint that shall drive it, of any format")
    parser.add_argument("--tokenizer", default="", help="tokenizer file or folder, for a checkpoint without one")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--live", action="store_true", help="also listen to the robot's topics")
    source.add_argument("--bag", type=Path, help="a recording, looked at as if it were live")
    parser.add_argument("--seconds", type=positive, default=SECONDS, help=f"how long to listen (default {SECONDS:g})")
    parser.add_argument("--use-sim-time", action="store_true", help="ages against /clock")
    parser.add_argument("--json", action="store_true", help="everything as JSON")
    parser.add_argument("--html", type=Path, help="also write a page with every finding, and the joints drawn")


def run(args: argparse.Namespace) -> int:
    """`pi0 doctor`: 0 when no finding is an error."""
    if args.html is not None and not args.html.absolute().parent.is_dir():
        raise InputError(f"--html {args.html}: there is no folder {args.html.absolute().parent}")
    if args.html is not None and args.html.is_dir():
        raise InputError(f"--html {args.html}: that is a folder: name a file in it")
    if args.tokenizer and args.checkpoint is None:
        raise InputError(f"--tokenizer {args.tokenizer}: say with --checkpoint which checkpoint it is for")
    if not args.live and (args.use_sim_time or args.seconds != SECONDS):
        raise InputError("--seconds and --use-sim-time say how to listen: give --live, too")
    if args.robot is None and args.bag is None:
        what = f"--checkpoint {args.checkpoint}: " if args.checkpoint is not None else ""
        raise InputError(f"{what}say with --robot which robot it is about, or give --bag with a recording that tells")
    findings = []
    for finding in _findings(args):
        findings.append(finding)
        if not args.json:
            print(layout(finding, colour=colours(sys.stdout)), flush=True)
    failed = any(finding.severity == "error" for finding in findings)
    told = _verdict(findings, looked=args.live or args.bag is not None)
    if args.html is not None:
        from pi0_ros.cli.doctor_page import write_doctor_page

        about = f"{args.bag or args.robot}{f' with {args.checkpoint}' if args.checkpoint else ''}"
        write_doctor_page(args.html, f"Doctor: {about}", findings, told)
    if args.json:
        verdict = "refused" if failed else "passed"
        found = [finding.to_dict() for finding in findings]
        print(json.dumps({"verdict": verdict, "findings": found}, indent=2, ensure_ascii=False))
    else:
        print(told)
    return int(failed)


def _findings(args: argparse.Namespace) -> Iterator[Finding]:
    if args.bag is not None:
        from pi0_ros.bags.reader import BagError
        from pi0_ros.conversion.robots import robot_of_bag
        from pi0_ros.doctor.recording import hear_bag

        def hear(robot: Robot) -> Session:
            return hear_bag(args.bag, robot)

        try:
            robot = robot_of_bag(args.bag, args.robot)
            yield from examine_robot(robot, args.checkpoint, args.tokenizer, hear)
        except BagError as problem:
            yield error("recording", str(problem))
        return

    def listen(robot: Robot) -> Session:
        from pi0_ros.nodes.topic_check import listen as listen_to

        return listen_to(robot, args.seconds, args.use_sim_time)

    live = args.live and importlib.util.find_spec("rclpy") is not None
    yield from examine(args.robot, args.checkpoint, args.tokenizer, listen if live else None)


def _verdict(findings: Sequence[Finding], looked: bool) -> str:
    """The last line: never more than was looked at."""
    count = {severity: sum(finding.severity == severity for finding in findings) for severity in LABELS}
    if count["error"]:
        return f"{count['error']} must be mended first."
    warned = f"; {count['warning']} warnings" if count["warning"] else ""
    if not looked:
        return f"Nothing stands in the way so far{warned}; the robot's topics were not looked at: --live or --bag."
    return f"Nothing stands in the way{warned}."


def layout(finding: Finding, colour: bool = False) -> str:
    """A finding as table text, what to do below it."""
    label = f"{LABELS[finding.severity]:4s}"
    head = f"{COLOURS[finding.severity]}{label}\033[0m" if colour else label
    what = finding.what.replace("\n", "\n" + " " * (WIDTH + 8))
    lines = [f"{head}  {finding.check:{WIDTH}s}  {what}"]
    if finding.todo:
        indent = " " * (WIDTH + 8)
        lines += textwrap.wrap(
            finding.todo,
            initial_indent=f"{indent}-> ",
            subsequent_indent=f"{indent}   ",
            width=110,
            break_on_hyphens=False,
            break_long_words=False,
        )
    return "\n".join(lines)
