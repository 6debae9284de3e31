"""Which robot a recording is of: the robot file that its recorder put into it, and how another one differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pi0_ros.bags.conventions import ROBOT_FILE_KEY, ROBOT_KEY
from pi0_ros.bags.reader import Bag, BagError
from pi0_ros.robot import Robot, RobotFileError, load_robot, robot_from_yaml

COMPARED = ("joints", "cameras", "state", "commands", "action_source", "action_max_age_s")


def recorded_robot(data: Mapping[str, str], origin: Path) -> Robot | None:
    """The robot file inside a recording's custom data; None without one. Raises `BagError` where it can't be read."""
    text = data.get(ROBOT_FILE_KEY, "")
    try:
        return robot_from_yaml(text, f"the robot file in {origin}") if text.strip() else None
    except RobotFileError as error:
        raise BagError(f"{error}; give --robot") from error


def noted_robot(data: Mapping[str, str]) -> Robot | None:
    """The shipped robot of the name that a recording notes, for recordings that hold no robot file."""
    name = data.get(ROBOT_KEY, "")
    try:
        return load_robot(name) if name and "/" not in name and not name.endswith((".yaml", ".yml")) else None
    except RobotFileError:
        return None


def robot_of_bag(path: Path, name: str | None = None) -> Robot:
    """The robot file `name`, else the one in the recording, else the shipped one that it notes. Raises `BagError`."""
    if name:
        return load_robot(name)
    with Bag(path) as bag:
        data = bag.info.custom_data
    if (robot := recorded_robot(data, path) or noted_robot(data)) is None:
        raise BagError(f"{path}: holds no robot file (those of this package's recorder do): give --robot")
    return robot


def differences(robot: Robot, data: Mapping[str, str], origin: Path) -> str:
    """In what `robot` differs from the recorded robot file, as a sentence; empty where it does not."""
    try:
        recorded = recorded_robot(data, origin)
    except BagError as error:
        return str(error)
    if recorded is None:
        return ""
    different = differing(robot, recorded)
    return f"the robot file is not the recorded one: {', '.join(different)} differ" if different else ""


def differing(one: Robot, other: Robot) -> list[str]:
    """What differs between two robots, as far as a dataset depends on it."""
    return [name for name in COMPARED if getattr(one.recorded, name) != getattr(other.recorded, name)]


def robot_of_all(bags: Sequence[Path]) -> Robot:
    """The robot file that all recordings hold. Raises `BagError` where one holds none, or another one."""
    found: Robot | None = None
    for path in bags:
        with Bag(path) as bag:
            robot = recorded_robot(bag.info.custom_data, path)
        if robot is None:
            raise BagError(f"{path}: holds no robot file (those of this package's recorder do): give --robot")
        if found is not None and differing(found, robot):
            raise BagError(f"{path}: was recorded with another robot file than {bags[0]}: give --robot")
        found = found or robot
    if found is None:
        raise BagError("no recording to take the robot file from: give --robot")
    return found
