"""When the joint states are good enough to arm and to go on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from arms import ALL, NAMES, PERIOD, START, arm_limits

from pi0_ros.control.feedback import Feedback

MAX_AGE = 0.15


def watched(positions: np.ndarray, period: float = PERIOD) -> tuple[Feedback, float]:
    """Feedback that has seen `positions` [ticks, 3], and the time of the last."""
    feedback = Feedback(arm_limits(), np.full(3, MAX_AGE))
    for k, position in enumerate(positions):
        feedback.measure(START + k * period, ALL, position)
    return feedback, START + (len(positions) - 1) * period


def test_at_rest_and_fresh_is_ready():
    feedback, now = watched(np.zeros((20, 3)))
    assert feedback.not_ready(now) == []
    assert feedback.age(now + 0.1) == pytest.approx(0.1)


def test_noise_is_rest_motion_is_not():
    noise = 5e-4 * np.random.default_rng(0).standard_normal((50, 3))
    assert watched(noise)[0].not_ready(START + 49 * PERIOD) == []
    moving = np.outer(np.arange(50) * PERIOD, [0.0, 0.3, 0.0])
    feedback, now = watched(moving)
    assert feedback.not_ready(now) == ["elbow is not at rest, it moves at 0.3 per s"]


def test_motion_is_seen_in_a_slow_topic_beside_a_fast_one():
    feedback, moving, still = Feedback(arm_limits(), np.full(3, 0.3)), np.array([0, 1]), np.array([2])
    for k in range(50):
        if k % 8 == 0:
            feedback.measure(START + k * PERIOD, moving, np.full(2, 1.0 * k * PERIOD))
        feedback.measure(START + k * PERIOD, still, np.zeros(1))
        now = START + k * PERIOD
        if k > 20:
            assert feedback.not_ready(now) == [f"{name} is not at rest, it moves at 1 per s" for name in NAMES[:2]]


def test_never_seen_stale_and_from_the_future():
    feedback = Feedback(arm_limits(), np.full(3, MAX_AGE))
    assert feedback.stale(START) == ["no joint state for yaw, elbow, gripper"]
    feedback.measure(START, np.array([0, 2]), np.zeros(2))
    assert feedback.stale(START) == ["no joint state for elbow"]
    feedback.measure(START + 0.1, np.array([1]), np.zeros(1))
    assert feedback.stale(START + 0.14) == []
    assert feedback.stale(START + 0.2) == ["joint state of yaw, gripper is 0.20 s old (limit 0.15 s)"]
    assert "stamped 2.90 s in the future" in feedback.stale(START - 2.8)[0]


def test_one_joint_state_is_not_enough_to_know_rest():
    feedback, now = watched(np.zeros((1, 3)))
    assert "less than" in feedback.not_ready(now)[0]


def test_outside_the_limits_is_not_ready_except_for_a_hair():
    feedback, now = watched(np.tile([2.1, 0.0, -0.02], (20, 1)))
    assert feedback.not_ready(now) == []
    feedback, now = watched(np.tile([0.0, 1.5, 0.0], (20, 1)))
    (problem,) = feedback.not_ready(now)
    assert problem.startswith("elbow is at 1.5, outside its limits [-1, 1] by more than 0.2: move it inside by hand")


def test_a_joint_may_have_its_own_tolerance():
    limits = replace(arm_limits(), outside=np.array([0.0, np.nan, 0.3]))
    feedback = Feedback(limits, np.full(3, MAX_AGE))
    for k in range(20):
        feedback.measure(START + k * PERIOD, np.arange(3), np.array([2.05, 1.1, -0.25]))
    assert [problem.split()[0] for problem in feedback.not_ready(START + 19 * PERIOD)] == ["yaw"]


def test_a_joint_state_that_was_overtaken_counts_for_nothing():
    feedback, now = watched(np.zeros((20, 3)))
    assert not feedback.measure(now - PERIOD, np.arange(3), np.ones(3))
    assert feedback.stamp.max() == now and not feedback.position.any()


def test_history_does_not_grow():
    feedback, _ = watched(np.zeros((5000, 3)), period=0.001)
    assert len(feedback._history) < 500
