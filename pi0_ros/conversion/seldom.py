"""Commands that come when something happens and not at a rate: what a row may take for its action, and what to say."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pi0_ros.conversion.align import Scan
from pi0_ros.observation.stream_buffer import SECOND
from pi0_ros.robot import CommandGroup, Robot


def seldom(found: Scan, robot: Robot) -> Iterator[str]:
    """A sentence for each group whose commands are usually further apart than they may be old."""
    if robot.action_source != "command":
        return
    for group in robot.commands:
        stamps, limit = found.by_topic.get(group.topic, np.zeros(0, np.int64)), robot.command_age_s(group)
        if not len(stamps) or found.lasting.get(group.topic) or np.isinf(limit):
            continue
        usual = float(np.median(np.diff(stamps))) / SECOND if len(stamps) > 1 else np.inf
        if usual > limit:
            often = "there is one command" if np.isinf(usual) else f"its commands come every {usual:.2f} s"
            yield f"{group.topic}: {often}, valid for {limit:g} s each: {_advice(group, robot)}"


def _advice(group: CommandGroup, robot: Robot) -> str:
    """Grippers stay as they were told; an arm that was sent a goal is elsewhere for a long time."""
    joints = [joint for joint in robot.action_joints if joint.name in group.joints]
    if group.speeds:
        return (
            "between them the base counts as standing still. Where its driver keeps the last command instead, write "
            f"`hold: true` at the command {group.name!r} in the robot file, else a `max_age_s` there as its driver has"
        )
    if all(joint.kind == "gripper" for joint in joints):
        return f"write `hold: true` at the command {group.name!r} in the robot file, so that each counts until the next"
    return (
        "where they are goals that the robot reaches by itself, write `action: {source: next_state}` in the robot file "
        "(what the robot did next is the action); where each is what it should do until the next, `hold: true` at "
        f"the command {group.name!r}"
    )
