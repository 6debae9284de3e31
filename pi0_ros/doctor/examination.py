"""All checks in the order in which their findings should be mended."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from pi0_ros.base.findings import Finding, error, ok
from pi0_ros.doctor.checks import (
    check_checkpoint,
    check_observation,
    check_profile,
    check_ros,
    check_topic,
    check_torch,
)
from pi0_ros.doctor.topic_report import TopicReport
from pi0_ros.robot import Robot, RobotFileError, load_robot

Heard = tuple[list[TopicReport], list[str]]  # a report for each topic, and what is wrong with the observation


def examine(
    robot_name: str, checkpoint: Path | None = None, tokenizer: str = "", listen: Callable[[Robot], Heard] | None = None
) -> Iterator[Finding]:
    """All findings. `listen`, if any, hears the robot's topics for a while."""
    try:
        robot = load_robot(robot_name)
    except RobotFileError as problem:
        yield error("robot file", str(problem), "docs/new_robot.md shows a robot file line by line")
        return
    cameras = ", ".join(f"{camera.name} ({camera.slot})" for camera in robot.cameras)
    yield ok("robot file", f"{robot.name}: {len(robot.joints)} joints; cameras {cameras}")
    if checkpoint is not None:
        yield check_checkpoint(robot, checkpoint, tokenizer)
    yield check_torch()
    yield check_ros(importlib.util.find_spec("rclpy") is not None)
    yield check_profile(robot, dict(os.environ))
    if listen is not None:
        reports, problems = listen(robot)
        for report in reports:
            yield check_topic(robot, report)
        yield check_observation(problems)
