"""A mobile base in recordings: what it was told is a speed, and zero where nobody speaks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bagmaker import START_NS, Recipe, make_bag, odometry_message, twist

from pi0_ros.bags.reader import Bag, BagError
from pi0_ros.conversion.align import check_topics, rows, scan, ticks_of
from pi0_ros.conversion.bag_check import check_bag
from pi0_ros.conversion.idle import idle_frames
from pi0_ros.robot import CommandGroup, Joint, Robot, StateTopic, load_robot, robot_from_yaml, robot_to_yaml
from pi0_ros.robot.message_types import TWIST
from pi0_ros.robot.types import NOBODY

ODOM, CMD = "/odom", "/cmd_vel"
PARTS = ("linear.x", "angular.z")
DEMO = load_robot("demo_arm")
ENDS = {"lower": -0.5, "upper": 0.5, "velocity": 1.0, "acceleration": 10.0, "jerk": None, "action": "absolute"}
BASE = (Joint("forward", "m/s", "speed", **ENDS), Joint("turn", "rad/s", "speed", **ENDS))
ROBOT = replace(
    DEMO,
    takeover=NOBODY,
    joints=(*DEMO.joints, *BASE),
    state=(
        *(replace(item, joints=DEMO.joint_names) for item in DEMO.state),
        StateTopic(ODOM, "nav_msgs/msg/Odometry", ("forward", "turn"), 0.1, "velocity", PARTS, speeds=True),
    ),
    commands=(
        *(replace(group, joints=DEMO.joint_names) for group in DEMO.commands),
        CommandGroup("base", CMD, TWIST, ("forward", "turn"), PARTS, max_age_s=0.5, speeds=True),
    ),
)
TOLD = (1.0, 1.2, 1.4)  # s: a stick is pushed for a moment


def recorded(path: Path, told: tuple[float, ...] = TOLD, **more: object) -> Path:
    odometry = [
        (n * 0.02, ODOM, "nav_msgs/msg/Odometry", odometry_message(START_NS + n * 20_000_000, 0.2, -0.1))
        for n in range(151)
    ]
    commands = [(t, CMD, TWIST, twist(0.25, 0.4)) for t in told]
    arm = replace(ROBOT, joints=DEMO.joints, state=DEMO.state, commands=DEMO.commands)
    return make_bag(path, arm, Recipe(seconds=3.0, extra=(*odometry, *commands), **more))


def actions(path: Path, robot: Robot) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times since the start (s), base's states and actions [T, 2]."""
    with Bag(path) as bag:
        check_topics(bag, robot)
        found = scan(bag, robot)
        ticks = ticks_of(found, robot)
        table = list(rows(bag, robot, found, ticks, lambda tick: "drive"))
    assert all(row.observation is not None for row in table)
    state = np.array([row.observation.state[-2:] for row in table if row.observation])
    return (ticks - START_NS) * 1e-9, state, np.array([row.action[-2:] for row in table if row.action is not None])


def test_a_base_stands_still_before_and_after_it_is_told_to_drive(tmp_path: Path) -> None:
    times, state, told = actions(recorded(tmp_path / "bag"), ROBOT)
    drives = (times >= 1.0) & (times <= 1.9)  # half a second behind the last word
    np.testing.assert_array_equal(told, np.where(drives[:, None], [0.25, 0.4], 0.0))
    np.testing.assert_array_equal(state, np.tile([0.2, -0.1], (len(times), 1)))
    assert times[0] < 0.1 < 2.8 < times[-1], "the silence of the stick shortens no episode"


def test_a_driver_that_keeps_its_last_speed_holds(tmp_path: Path) -> None:
    holds = replace(ROBOT, commands=(*ROBOT.commands[:-1], replace(ROBOT.commands[-1], max_age_s=None, hold=True)))
    assert robot_from_yaml(robot_to_yaml(holds), "again") == holds
    times, _, told = actions(recorded(tmp_path / "bag"), holds)
    np.testing.assert_array_equal(told, np.where((times >= 1.0)[:, None], [0.25, 0.4], 0.0))


def test_a_base_that_nobody_drove_is_no_mistake_but_an_unrecorded_topic_is(tmp_path: Path) -> None:
    silent = recorded(tmp_path / "silent", told=(), silent=((CMD, TWIST),))
    assert not actions(silent, ROBOT)[2].any()
    said = [(finding.severity, finding.what) for finding in check_bag(silent, ROBOT).findings if CMD in finding.what]
    assert said == [("warning", f"{CMD}: no message, so its joints count as standing still all the time")]
    with pytest.raises(BagError, match=f"no message on {CMD}; recorded are"):
        actions(recorded(tmp_path / "without", told=()), ROBOT)


def test_a_base_at_a_steady_speed_is_not_idle() -> None:
    fps, still = 20.0, np.zeros((100, len(ROBOT.joints)))
    drives = still.copy()
    drives[20:80, -2] = 0.2
    assert idle_frames(still, ROBOT, fps).all()
    assert not idle_frames(drives, ROBOT, fps)[20:66].any()
    assert idle_frames(drives, ROBOT, fps)[:19].all()
