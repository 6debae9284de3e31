"""Write a layout for Foxglove or PlotJuggler: cameras, state and every joint as it was sent and measured.

    pi0 layout foxglove --robot my_robot.yaml --out my_robot.foxglove.json       Foxglove: Layouts, Import from file
    pi0 layout plotjuggler --robot my_robot.yaml --out my_robot.plotjuggler.xml  plotjuggler --layout FILE
    pi0 layout foxglove --robot my_robot.yaml --namespace left

Both read live topics (`rosbridge` or `foxglove_bridge` for Foxglove) and recordings. What was measured comes from the
monitor, `pi0/joint_states`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from pi0_ros.base.arguments import namespace
from pi0_ros.base.errors import InputError
from pi0_ros.monitor.layouts import foxglove, plotjuggler
from pi0_ros.robot import load_robot


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 layout`."""
    parser.add_argument("viewer", choices=("foxglove", "plotjuggler"), help="the program that shall read it")
    parser.add_argument("--robot", required=True, help="robot file, by name or path")
    parser.add_argument(
        "--namespace", type=namespace, default="", help="where the robot's nodes are (default: nowhere)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to (default: printed)")


def run(args: argparse.Namespace) -> int:
    """`pi0 layout`."""
    robot = load_robot(args.robot)
    if args.viewer == "foxglove":
        text = json.dumps(foxglove(robot, args.namespace), indent=1) + "\n"
    else:
        text = plotjuggler(robot, args.namespace)
    if args.out is None:
        print(text, end="")
        return 0
    if args.out.exists():
        raise InputError(f"{args.out} exists: choose another name or remove it")
    args.out.write_text(text, encoding="utf-8")
    print(f"written: {args.out}")
    return 0
