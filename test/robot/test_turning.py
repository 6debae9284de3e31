"""Joints that turn without end: a robot whose angle crosses pi is the same as one that is turned by an offset."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi0_ros.control.limits import limits_of
from pi0_ros.control.shortfall import shortfalls
from pi0_ros.conversion.idle import idle_frames
from pi0_ros.robot import Robot, RobotFileError, load_robot, robot_from_yaml, robot_to_yaml
from pi0_ros.robot.turning import TURN, short_way, unwrapped, whole_turns
from pi0_ros.robot.units import Scale, actions_from_counted, actions_from_model, actions_to_model, counted_actions
from pi0_ros.training.statistics import measure

ROLL = 4  # the demo arm's, made continuous
offsets = st.floats(-20.0, 20.0)
ACTIONS = ("relative", "absolute", "velocity")


def arm(action: str = "relative", scale: Scale | None = None) -> Robot:
    demo = load_robot("demo_arm")
    roll = replace(demo.joints[ROLL], kind="continuous", lower=-math.inf, upper=math.inf, action=action, step=0.1)
    if action != "velocity":
        roll = replace(roll, step=1.0)
    if scale is not None:
        roll = replace(roll, state_scale=scale, action_scale=scale)
    return replace(demo, joints=(*demo.joints[:ROLL], roll, *demo.joints[ROLL + 1 :]))


def wrapped(angles: np.ndarray) -> np.ndarray:
    """As most drivers count them: -pi .. pi."""
    return (angles + np.pi) % TURN - np.pi


def walk(seed: int, rows: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Smooth states and actions [T, J] of the demo arm around zero."""
    rng = np.random.default_rng(seed)
    t = np.arange(rows + 3)[:, None] * 0.1
    path = 0.8 * np.sin(t * rng.uniform(0.5, 1.5, 6) + rng.uniform(0, 6, 6))
    return path[:rows], path[3 : rows + 3]


def turned(values: np.ndarray, offset: float) -> np.ndarray:
    """The same motion of a roll joint that is mounted turned by `offset`, told in -pi .. pi."""
    moved = values.copy()
    moved[..., ROLL] = wrapped(values[..., ROLL] + offset)
    return moved


def dataset(robot: Robot, offset: float = 0.0) -> SimpleNamespace:
    episodes = []
    for seed in range(3):
        state, action = walk(seed)
        episodes.append(SimpleNamespace(state=turned(state, offset), action=turned(action, offset)))
    return SimpleNamespace(robot=robot, path="data", episodes=episodes)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 9), offsets, st.sampled_from(ACTIONS), st.sampled_from([None, Scale(0.3, -1.7)]))
def test_actions_do_not_know_where_the_angle_jumps(seed: int, offset: float, action: str, scale: Scale | None) -> None:
    robot = arm(action, scale)
    state, actions = walk(seed)
    plain = actions_to_model(robot, actions[None, :20], state[None, 0])
    other = actions_to_model(robot, turned(actions, offset)[None, :20], turned(state, offset)[None, 0])
    if action == "absolute":  # further on by the offset, without a jump
        np.testing.assert_allclose(np.diff(other, axis=1), np.diff(plain, axis=1), atol=1e-9)
    else:
        np.testing.assert_allclose(other, plain, atol=1e-9)
    for forth, back in ((actions_to_model, actions_from_model), (counted_actions, actions_from_counted)):
        found = forth(robot, turned(actions, offset)[None, :20], turned(state, offset)[None, 0])
        again = back(robot, found, turned(state, offset)[None, 0])
        if action == "velocity":
            again = np.where(np.abs(plain) <= 1.0, again, np.nan)  # speeds are held within -1 .. 1
        way = robot.action_space.short_way(again, turned(actions, offset)[:20])
        assert np.nanmax(np.abs(way[..., :ROLL])) < 1e-9
        assert action == "velocity" or np.abs(way[..., ROLL]).max() < 1e-9


@pytest.mark.parametrize("action", ["relative", "absolute"])
@pytest.mark.parametrize("offset", [0.0, 3.1, np.pi, -3.0, 9.0])
def test_statistics_do_not_know_where_the_angle_jumps(action: str, offset: float) -> None:
    robot = arm(action)
    plain, _ = measure(dataset(robot), robot, 10)
    other, widened = measure(dataset(robot, offset), robot, 10)
    assert not widened
    for kind in ("state", "actions"):
        a, b = getattr(plain, kind), getattr(other, kind)
        shift = (b.mean - a.mean)[ROLL] if kind == "state" or action == "absolute" else 0.0
        assert short_way(np.array([shift - (offset if shift else 0.0)]), np.ones(1, bool)) == pytest.approx(0, abs=1e-9)
        for field in ("mean", "q01", "q99"):
            expected = a.need(field).copy()
            expected[ROLL] += shift
            np.testing.assert_allclose(b.need(field), expected, atol=1e-9)
        np.testing.assert_allclose(b.std, a.std, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 99), offsets)
def test_a_sequence_is_unwrapped_from_its_origin(seed: int, offset: float) -> None:
    rng = np.random.default_rng(seed)
    path = np.cumsum(rng.uniform(-3.0, 3.0, (2, 30, 3)), axis=1)
    turning = np.array([True, False, True])
    origin = path[:, 0] + TURN * rng.integers(-3, 4, (2, 3)) * turning
    given_values = np.where(turning, wrapped(path + offset), path)
    found = unwrapped(given_values, turning, origin + offset * turning)
    np.testing.assert_allclose(np.diff(found, axis=1), np.diff(path, axis=1), atol=1e-9)
    np.testing.assert_allclose(found[:, 0], origin + offset * turning, atol=1e-9)
    holes = given_values.copy()
    holes[:, 5:8] = np.nan
    again = unwrapped(holes, turning)
    assert np.isnan(again[:, 5:8]).all() and np.isfinite(again[:, 8:]).all()
    assert (whole_turns(np.array([0.0, 3.1, -3.1]), np.ones(3, bool)) == 0).all()
    assert whole_turns(np.array([3.13 + 3.13]), np.ones(1, bool)) == TURN


def test_idle_frames_and_shortfalls_go_the_short_way() -> None:
    robot = arm()
    for offset in (0.0, np.pi):
        still = np.tile(turned(np.zeros((1, 6)), offset), (60, 1))
        still[::2, ROLL] = wrapped(still[::2, ROLL] + 1e-5)
        assert idle_frames(still, robot, 20.0).all()
        actions = turned(walk(1)[1] * 0.2, offset)
        found = shortfalls([actions], 20.0, limits_of(robot), 0.02)
        assert "roll" not in " ".join(one.joint for one in found)


def test_a_robot_file_says_it_without_position_limits() -> None:
    robot = arm()
    text = robot_to_yaml(robot)
    assert robot_from_yaml(text, "again") == robot
    assert robot.joints[ROLL].span == TURN and robot.space.turning.tolist() == [False] * 4 + [True, False]
    for change, sentence in (
        (
            "{position: [-3, 3], velocity: 1, acceleration: 1}",
            r"limits\.position: a continuous joint turns without end",
        ),
        ("{outside: 1, velocity: 1, acceleration: 1}", r"limits\.outside: a continuous joint turns without end"),
        ("{velocity: 1}", r"limits\.acceleration: missing"),
    ):
        entry = "  - {name: a, unit: rad, kind: continuous, action: absolute, limits: " + change + "}\n"
        with pytest.raises(RobotFileError, match=sentence):
            robot_from_yaml(text.replace("joints:\n", "joints:\n" + entry.removeprefix("  "), 1), "r")
