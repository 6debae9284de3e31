"""The limiter alone: exactness where limits allow, limits always."""

from __future__ import annotations

import numpy as np
import pytest
from arms import PERIOD, arm_limits, assert_within_limits
from hypothesis import given
from hypothesis import strategies as st

from pi0_ros.control.limits import JointLimits, Limiter, speed_to_stop_within

positive = st.floats(0.01, 100.0)


@given(distance=st.floats(0.0, 50.0), acceleration=positive, period=st.floats(0.001, 0.05))
def test_stopping_from_that_speed_takes_exactly_that_distance(distance, acceleration, period):
    speed = float(speed_to_stop_within(np.full(1, distance), np.full(1, acceleration), period, *np.zeros((2, 1)))[0])
    travelled, change = 0.0, acceleration * period
    for k in range(int(np.ceil(speed / change)) + 1):
        travelled += max(0.0, speed - k * change) * period
    assert travelled == pytest.approx(distance, rel=1e-6, abs=1e-12)


def test_a_path_within_the_limits_is_followed_exactly_and_without_clamps():
    limiter = Limiter(arm_limits(), PERIOD)
    limiter.start(np.zeros(3))
    for t in np.arange(1, 300) * PERIOD:
        angle = 0.5 * (1 - np.cos(2.0 * t))  # from rest
        limiter.follow(np.array([angle, -angle, 0.0]), np.sin(2.0 * t) * np.array([1.0, -1.0, 0.0]))
        np.testing.assert_allclose(limiter.position[:2], [angle, -angle], atol=1e-12)
    assert limiter.clamps.total == 0


def test_a_step_is_reached_as_fast_as_allowed_and_without_overshoot():
    limits = arm_limits()
    limiter = Limiter(limits, PERIOD)
    limiter.start(np.zeros(3))
    goal = np.array([1.5, -0.9, 1.0])
    sent = [limiter.position.copy()]
    for _ in range(150):
        limiter.follow(goal, np.zeros(3))
        sent.append(limiter.position.copy())
    sent = np.array(sent)
    assert_within_limits(sent, limits)
    np.testing.assert_allclose(sent[-1], goal, atol=1e-12)
    assert (np.abs(sent) <= np.abs(goal) + 1e-9).all()
    seconds = np.argmax(np.abs(sent - goal).max(axis=1) < 1e-3) * PERIOD
    best = 1.5 / 2.0 + 2.0 / 16.0  # trapezoid: distance / speed + speed / acceleration of the slowest joint
    assert seconds <= best + 3 * PERIOD
    assert limiter.clamps.velocity > 0 and limiter.clamps.acceleration > 0 and limiter.clamps.gripper == 0


def test_targets_beyond_the_position_limits_are_clamped_and_counted():
    limits = arm_limits()
    limiter = Limiter(limits, PERIOD)
    limiter.start(np.zeros(3))
    sent = [limiter.position.copy()]
    for _ in range(200):
        limiter.follow(np.array([9.0, 0.0, 9.0]), np.array([50.0, 0.0, 0.0]))
        sent.append(limiter.position.copy())
    assert_within_limits(np.array(sent), limits)
    assert limiter.position[0] == pytest.approx(2.0) and limiter.position[2] == pytest.approx(1.0)
    assert limiter.clamps.position == 200 and limiter.clamps.gripper == 200


def test_braking_keeps_the_direction_and_takes_the_share_asked_for():
    limits = arm_limits()
    limiter = Limiter(limits, PERIOD)
    limiter.start(np.zeros(3))
    for _ in range(20):
        limiter.follow(np.array([2.0, 0.5, 0.0]), np.zeros(3))
    direction = limiter.velocity / np.linalg.norm(limiter.velocity)
    ticks = 0
    while limiter.moving:
        limiter.brake(0.5)
        ticks += 1
        if limiter.moving:
            np.testing.assert_allclose(limiter.velocity / np.linalg.norm(limiter.velocity), direction, atol=1e-9)
        assert (np.abs(limiter.acceleration) <= 0.5 * limits.acceleration + 1e-9).all()
    assert ticks == pytest.approx(2.0 / (0.5 * 16.0) / PERIOD, abs=2)


def test_a_joint_found_outside_its_limits_only_moves_back():
    limits = arm_limits()
    limiter = Limiter(limits, PERIOD)
    limiter.start(np.array([2.05, 0.0, -0.01]))
    sent = [limiter.position.copy()]
    for target in (5.0, 5.0, -1.0, *[1.9] * 200):
        limiter.follow(np.array([target, 0.0, 0.5]), np.zeros(3))
        sent.append(limiter.position.copy())
    sent = np.array(sent)
    assert sent[:, 0].max() == 2.05 and sent[:, 2].min() == -0.01
    np.testing.assert_allclose(sent[-1], [1.9, 0.0, 0.5], atol=1e-9)


def test_unlimited_joints_turn_for_ever():
    limits = JointLimits(("wheel",), [-np.inf], [np.inf], [3.0], [10.0], [False])
    limiter = Limiter(limits, PERIOD)
    limiter.start(np.zeros(1))
    for tick in range(500):
        limiter.follow(np.array([2.5 * tick * PERIOD]), np.array([2.5]))
    assert limiter.position[0] == pytest.approx(2.5 * 499 * PERIOD)


@pytest.mark.parametrize(
    "change", [{"lower": [2.0]}, {"velocity": [0.0]}, {"acceleration": [np.nan]}, {"jerk": [0.0]}, {"tracking": [-1.0]}]
)
def test_limits_that_make_no_sense_name_the_joint(change):
    good = {"lower": [-1.0], "upper": [1.0], "velocity": [1.0], "acceleration": [1.0], "gripper": [False]}
    with pytest.raises(ValueError, match="elbow"):
        JointLimits(("elbow",), **{**good, **change})


def test_limits_of_the_wrong_length():
    with pytest.raises(ValueError, match="one value per joint"):
        JointLimits(("a", "b"), [0.0], [1.0], [1.0], [1.0], [False])
