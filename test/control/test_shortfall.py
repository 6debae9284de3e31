"""Recorded commands that the limits would delay are found, with how late and how far."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pi0_ros.control.limits import JointLimits, limits_of
from pi0_ros.control.shortfall import shortfalls
from pi0_ros.robot import load_robot

FPS, PERIOD = 20.0, 0.02


def limits(velocity: float, acceleration: float, gripper: bool = False) -> JointLimits:
    one = np.ones(1)
    return JointLimits(("joint",), -10 * one, 10 * one, velocity * one, acceleration * one, np.array([gripper]))


def test_a_motion_within_the_limits_has_no_shortfall() -> None:
    t = np.arange(0, 4, 1 / FPS)
    swing = np.sin(2 * t)[:, None]  # at most 2 per s and 4 per s2
    assert shortfalls([swing], FPS, limits(2.2, 5.0), PERIOD) == []


def test_a_motion_that_is_too_quick_is_late_by_what_the_velocity_lacks() -> None:
    ramp = np.concatenate([np.arange(0, 2, 1 / FPS), np.full(40, 2.0)])[:, None]  # 1 per s for 2 s
    (found,) = shortfalls([ramp], FPS, limits(0.5, 50.0), PERIOD)
    assert found.behind == pytest.approx(1.0, abs=0.05)  # half of the way when the ramp is over
    assert found.delay_s == pytest.approx(3.9, abs=0.2)  # it needs 4 s for it
    assert found.velocity == pytest.approx(1.0, abs=0.15) and found.commands == 80
    assert 70 <= found.late <= 80


@pytest.mark.parametrize(("velocity", "acceleration", "late"), [(5.0, 50.0, True), (20.0, 2000.0, False)])
def test_a_gripper_that_is_switched_at_once(velocity: float, acceleration: float, late: bool) -> None:
    switched = np.concatenate([np.zeros(20), np.ones(20), np.zeros(20)])[:, None]
    found = shortfalls([switched], FPS, limits(velocity, acceleration, gripper=True), PERIOD)
    assert bool(found) == late
    if late:
        assert 0.15 < found[0].delay_s < 0.5 and found[0].behind > 0.9


def test_only_the_joint_that_lags_is_named() -> None:
    robot = load_robot("demo_arm")
    allowed = limits_of(robot)
    slow = replace(allowed, velocity=np.where(allowed.gripper, 3.0, allowed.velocity))
    actions = np.tile([0.0, 0.3, 1.4, 1.4, 0.0, 0.0], (60, 1))
    actions[:, 0] = np.linspace(0, 1, 60) ** 2 * 0.5
    actions[30:, 5] = 1.0
    assert [found.joint for found in shortfalls([actions], FPS, slow, PERIOD)] == ["gripper"]


def test_nothing_to_look_at() -> None:
    assert shortfalls([], FPS, limits(1.0, 1.0), PERIOD) == []
    assert shortfalls([np.zeros((1, 1))], FPS, limits(1.0, 1.0), PERIOD) == []
