"""Everything that a launch needs, looked up before its first process starts: one error instead of half a robot."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from pi0_ros.base.disk import check_folder, expanded
from pi0_ros.base.errors import InputError
from pi0_ros.inference.options import OPTIONS, PolicyOptions
from pi0_ros.launching.launches import Command
from pi0_ros.launching.libraries import missing
from pi0_ros.launching.parameters import table
from pi0_ros.robot import load_robot


def look_up(commands: Iterable[Command]) -> None:
    """Robot files, checkpoint and Python libraries of our nodes; ValueError or RobotFileError with all that lacks."""
    problems: list[str] = []
    for command in commands:
        if not command.node:
            continue
        known = table(command.node)
        value = {name: command.parameters.get(name, parameter.default) for name, parameter in known.items()}
        for name, given in command.parameters.items():
            if name in known:
                known[name].check(given)
        if "robot" in value:
            load_robot(str(value["robot"]))
        local = value.get("backend") == "local"
        problems += missing(command.node, local)
        if command.node == "policy" and local:
            problems += _checkpoint(str(value["checkpoint"]))
        if command.node == "policy":
            problems += [
                f"{name}:={value[name]}: there is no such {kind}"
                for name, kind in (("tokenizer", "file or folder"), ("keys", "folder"), ("token_file", "file"))
                if value[name] and not expanded(str(value[name])).exists()
            ]
        if command.node == "recorder":
            check_folder(expanded(str(value["out_dir"])).resolve())
        if command.node == "policy" and not problems:
            PolicyOptions(**{name: value[name] for name in OPTIONS})  # whether they agree with each other
    if problems:
        raise InputError("\n".join(dict.fromkeys(problems)))


def _checkpoint(path: str) -> list[str]:
    if not path:
        return ["no checkpoint is given: write checkpoint:=FOLDER, or backend:=zmq server:=tcp://HOST:5555"]
    if not expanded(path).exists():
        return [f"checkpoint:={path}: there is no such checkpoint"]
    return []


def look_up_executables(commands: Iterable[Command]) -> None:
    """ROS packages and their executables; ValueError names each that is not installed, and the package to install."""
    problems = []
    for command in commands:
        prefix = _prefix(command.package)
        executable = None if prefix is None else prefix / "lib" / command.package / command.executable
        if executable is None or not executable.exists():
            problems.append(
                f"{command.name} needs {command.executable} of the ROS package {command.package}: {_cure(command)}"
            )
    if problems:
        raise InputError("\n".join(problems))


def _cure(command: Command) -> str:
    if command.package == "pi0_ros":
        return "build it with colcon and source the workspace"
    name = f"ros-{os.environ.get('ROS_DISTRO', 'jazzy')}-{command.package.replace('_', '-')}"
    return f"`sudo apt install {name}`, or rviz:=false"


def _prefix(package: str) -> Path | None:
    """Where a ROS package is installed; None where it is not."""
    for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep):
        if prefix and Path(prefix, "share", "ament_index", "resource_index", "packages", package).exists():
            return Path(prefix)
    return None
