"""Start, watch and stop the processes of a launch file where `ros2 launch` is not installed.

    pi0 up policy robot:=my_robot checkpoint:=runs/my_robot
    pi0 up launch/record.launch.py robot:=my_robot prompt:="fold the towel"
    pi0 up policy --show-args

The processes, arguments and parameters are those of `ros2 launch pi0_ros FILE`: one table, `launches.py`, says both.
    pi0 up policy --only policy robot:=my_robot checkpoint:=runs/my_robot      # start the policy again, alone

Everything is looked up before the first process starts, and nothing is restarted. When a required process ends, or any
refuses to start, the others are stopped and its last lines are shown. Ctrl-C, Ctrl-Z, SIGTERM, a closed terminal stop
everything: SIGINT, after 5 s SIGTERM, after 5 s more SIGKILL. When this process is killed, its nodes end by themselves.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import FrameType

from pi0_ros.base.errors import InputError
from pi0_ros.launching import launches
from pi0_ros.launching.lookups import look_up
from pi0_ros.launching.processes import ENDINGS_OF_ROBOTS, REFUSED, ProcessGroup
from pi0_ros.launching.surroundings import check_names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 up`."""
    listing = ", ".join(launches.LAUNCHES)
    parser.add_argument("file", help=f"a launch file or its name: {listing}")
    parser.add_argument("arguments", nargs="*", metavar="name:=value", help="launch arguments, as for `ros2 launch`")
    parser.add_argument("--only", metavar="NAMES", help="only these processes, separated by commas: policy,monitor")
    parser.add_argument("-s", "--show-args", action="store_true", help="show the file's arguments and end")
    parser.add_argument("-d", "--dry-run", action="store_true", help="print the commands and end")
    parser.add_argument("--log-dir", type=Path, help="folder for the processes' logs (default: a new temporary one)")


def run(args: argparse.Namespace) -> int:
    """`pi0 up`: 0 when it was stopped by a signal, 1 when a process ended that must not."""
    launch = launches.find(args.file)
    if args.show_args:
        print(launches.describe(launch))
        return 0
    given = launches.parse_arguments(args.arguments)
    commands = _chosen(launches.resolve(launch, given), args.only)
    for text in _unread(launch, given, commands):
        print(f"pi0 up: {text}", file=sys.stderr)
    foreign = [command for command in commands if command.package != "pi0_ros"]
    for command in foreign:
        print(f"pi0 up: left out {command.executable}: only `ros2 launch` can start it", file=sys.stderr)
    commands = [command for command in commands if command not in foreign]
    if args.dry_run:
        print("\n".join(" ".join(map(repr, command.argv())) for command in commands))
        return 0
    look_up(commands)
    from pi0_ros.nodes.look_around import look_around

    for text in check_names(commands, look_around(commands[0].namespace, [command.name for command in commands])):
        print(f"pi0 up: {text}", file=sys.stderr)
    stop = stop_signals()
    with ProcessGroup(args.log_dir) as group:
        say(f"pi0 up: logs in {group.log_dir}; Ctrl-C stops everything")
        for command in commands:
            if not stop:
                pid = group.start(command.name, command.argv(), required=command.required)
                say(f"pi0 up: {command.name} started, pid {pid}")
        status = watch(group, stop)
        say("pi0 up: stopping")
        stopped = group.stop()
        show(group)
        for ended in stopped:
            say(f"pi0 up: {ended}")
    for number in ENDINGS_OF_ROBOTS:  # one more Ctrl-C shall not turn this end into a death by a signal
        signal.signal(number, signal.SIG_IGN)
    return status


def _chosen(commands: list[launches.Command], only: str | None) -> list[launches.Command]:
    if only is None:
        return commands
    names, known = [name.strip() for name in only.split(",")], [command.name for command in commands]
    for name in names:
        if name not in known:
            raise InputError(f"--only {name}: with these arguments the launch file starts {', '.join(known)}")
    return [command for command in commands if command.name in names]


def _unread(launch: launches.Launch, given: Iterable[str], commands: list[launches.Command]) -> list[str]:
    """What was given for processes that are left out."""
    names = [command.name for command in commands]
    read = {name for process in launch.processes if process.name in names for name in process.passes}
    others = {name for process in launch.processes if process.name not in names for name in process.passes}
    return [f"{name}:= says nothing to {', '.join(names)}" for name in given if name in others - read]


def stop_signals() -> list[int]:
    """The signals to stop that came, from now on. `nohup`'s ignored SIGHUP stays ignored."""
    stop: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.append(number)

    for number in ENDINGS_OF_ROBOTS:
        if not (number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN):
            signal.signal(number, on_signal)
    return stop


def say(text: str) -> None:
    """Print, and go on where nobody can read it any more: with the terminal closed, there is still a robot to stop."""
    try:
        print(text, flush=True)
    except (OSError, ValueError):
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115


def watch(group: ProcessGroup, stop: Sequence[int]) -> int:
    """Show the group's output until a signal lies in `stop` (status 0), or a process ends that must not (1), or all."""
    while not stop:
        show(group)
        for ended in group.poll():
            fatal = ended.required or ended.returncode == REFUSED
            say(f"pi0 up: {ended}" + ("" if fatal else "; the others go on"))
            if fatal:
                why = "is required" if ended.required else "did not start"
                say(f"pi0 up: {ended.name} {why}. Its last lines:\n{group.tail(ended.name)}")
                return 1
        if not any(group.is_running(name) for name in group.names()):
            say("pi0 up: every process has ended")
            return 1
        time.sleep(0.1)
    return 0


def show(group: ProcessGroup) -> None:
    """Print what the processes have printed meanwhile, each line with its process's name."""
    for name, line in group.new_lines():
        say(f"[{name}] {line}")
