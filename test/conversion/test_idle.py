"""The idle mask is DROID's rule, frame for frame at DROID's rate, and the same seconds at any other."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pi0_ros.conversion.idle import idle_frames
from pi0_ros.robot import load_robot

ROBOT = load_robot("demo_arm")


def droid(still: np.ndarray) -> np.ndarray:
    """The published rule: runs of 7 still frames go, then motion of less than 16 frames, then its last 10 frames."""
    keep = np.ones(len(still), bool)
    start = None
    for t in range(len(still) + 1):
        if t < len(still) and still[t]:
            start = t if start is None else start
        elif start is not None:
            if t - start >= 7:
                keep[start:t] = False
            start = None
    chosen = np.zeros(len(still), bool)
    for t in range(len(keep) + 1):
        if t < len(keep) and keep[t]:
            start = t if start is None else start
        elif start is not None:
            if t - start >= 16:
                chosen[start : max(start, t - 10)] = True
            start = None
    return ~chosen


def commands(moving: np.ndarray) -> np.ndarray:
    """One joint goes on by 0.01 rad where `moving`."""
    actions = np.zeros((len(moving), len(ROBOT.action_names)))
    actions[:, 2] = np.cumsum(np.where(moving, 0.01, 0.0))
    return actions


@pytest.mark.parametrize("seed", range(5))
def test_droids_rule_at_droids_rate(seed: int) -> None:
    random = np.random.default_rng(seed)
    moving = np.repeat(random.random(40) < 0.6, random.integers(1, 30, 40))
    moving[0] = True
    found = idle_frames(commands(moving), ROBOT, 15)
    np.testing.assert_array_equal(found, droid(~moving))
    assert 0 < found.sum() < len(found)


@pytest.mark.parametrize("fps", [15, 30, 60])
def test_the_rule_counts_seconds(fps: int) -> None:
    """2 s of motion, 1 s of rest, 4 s of motion, 0.3 s of rest, 1 s of motion."""
    moving = np.repeat([True, False, True, False, True], [round(s * fps) for s in (2.0, 1.0, 4.0, 0.3, 1.0)])
    active = np.flatnonzero(~idle_frames(commands(moving), ROBOT, fps)) / fps
    assert active[0] == 0
    edges = np.flatnonzero(np.diff(active) > 1.5 / fps)
    assert len(edges) == 1
    assert active[edges[0]] == pytest.approx(2 - 10 / 15, abs=0.12)
    assert active[edges[0] + 1] == pytest.approx(3, abs=0.12)
    assert active[-1] == pytest.approx(8.3 - 10 / 15, abs=0.12)


def test_a_closing_gripper_is_no_idleness() -> None:
    actions = np.zeros((60, len(ROBOT.action_names)))
    assert idle_frames(actions, ROBOT, 15).all()
    actions[:, -1] = np.linspace(0, 1, 60)
    assert not idle_frames(actions, ROBOT, 15)[:50].any()


def test_what_counts_as_motion_depends_on_the_unit() -> None:
    """0.002 per step: motion of an angle, and of a slider 1 m long (over 0.0005 m), but not of one of 10 m."""
    joint = dataclasses.replace(ROBOT.joints[2], unit="m", kind="prismatic", lower=0.0, upper=1.0)
    actions = np.zeros((60, len(ROBOT.action_names)))
    actions[:, 2] = 0.002 * np.arange(60)
    assert not idle_frames(actions, ROBOT, 15)[:40].any()
    for upper, idle in ((1.0, False), (10.0, True)):
        joints = list(ROBOT.joints)
        joints[2] = dataclasses.replace(joint, upper=upper)
        found = idle_frames(actions, dataclasses.replace(ROBOT, joints=tuple(joints)), 15)
        assert found[:40].all() == idle == found[:40].any()
