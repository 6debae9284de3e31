"""Start, watch and stop the processes of a launch file where `ros2 launch` is not installed.

    pi0 up policy robot:=my_robot checkpoint:=runs/my_robot
    pi0 up launch/record.launch.py robot:=my_robot prompt:="fold the towel"
    pi0 up policy --show-args

The processes, arguments and parameters are those of `ros2 launch pi0_ros FILE`: one table, `launches.py`, says both.
Nothing is restarted. When a required process ends, the others are stopped and its last lines are shown.
Ctrl-C stops everything: SIGINT, after 5 s SIGTERM, after 5 s more SIGKILL.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from pi0_ros.launching import launches
from pi0_ros.launching.processes import ProcessGroup


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 up`."""
    listing = ", ".join(launches.LAUNCHES)
    parser.add_argument("file", help=f"a launch file or its name: {listing}")
    parser.add_argument("arguments", nargs="*", metavar="name:=value", help="launch arguments, as for `ros2 launch`")
    parser.add_argument("-s", "--show-args", action="store_true", help="show the file's arguments and end")
    parser.add_argument("-d", "--dry-run", action="store_true", help="print the commands and end")
    parser.add_argument("--log-dir", type=Path, help="folder for the processes' logs (default: a new temporary one)")


def run(args: argparse.Namespace) -> int:
    """`pi0 up`: 0 when it was stopped by the user, 1 when a required process ended by itself."""
    launch = launches.find(args.file)
    if args.show_args:
        print(launches.describe(launch))
        return 0
    commands = launches.resolve(launch, launches.parse_arguments(args.arguments))
    foreign = [command for command in commands if command.package != "pi0_ros"]
    for command in foreign:
        print(f"pi0 up: left out {command.executable}: only `ros2 launch` can start it", file=sys.stderr)
    commands = [command for command in commands if command not in foreign]
    if args.dry_run:
        print("\n".join(" ".join(map(repr, command.argv())) for command in commands))
        return 0
    stop: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.append(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    with ProcessGroup(args.log_dir) as group:
        print(f"pi0 up: logs in {group.log_dir}; Ctrl-C stops everything", flush=True)
        for command in commands:
            pid = group.start(command.name, command.argv(), required=command.required)
            print(f"pi0 up: {command.name} started, pid {pid}", flush=True)
        status = watch(group, stop)
        print("pi0 up: stopping", flush=True)
        stopped = group.stop()
        show(group)
        for ended in stopped:
            print(f"pi0 up: {ended}", flush=True)
    return status


def watch(group: ProcessGroup, stop: Sequence[int]) -> int:
    """Show the group's output until a signal lies in `stop`, a required process ends (status 1) or none is left."""
    while not stop:
        show(group)
        for ended in group.poll():
            print(f"pi0 up: {ended}" + ("" if ended.required else "; the others go on"), flush=True)
            if ended.required:
                print(f"pi0 up: {ended.name} is required. Its last lines:\n{group.tail(ended.name)}", flush=True)
                return 1
        if not any(group.is_running(name) for name in group.names()):
            print("pi0 up: every process has ended", flush=True)
            return 1
        time.sleep(0.1)
    return 0


def show(group: ProcessGroup) -> None:
    """Print what the processes have printed meanwhile, each line with its process's name."""
    for name, line in group.new_lines():
        print(f"[{name}] {line}", flush=True)
