"""The rest of the plan is what the controller then commands, point by point, and ends at rest."""

from __future__ import annotations

import numpy as np
import pytest

from pi0_ros.control.chunk import ActionChunk
from pi0_ros.control.controller import Command, Controller, Settings, State
from pi0_ros.control.limits import JointLimits
from pi0_ros.control.plan import SPACING_S, Plan, fork, rest_of_plan

NAMES = ("a", "b")
ALL = np.arange(2)
START = np.array([0.1, -0.2])


def armed(period: float) -> tuple[Controller, float]:
    limits = JointLimits(NAMES, [-1.0, -1.0], [1.0, 1.0], [2.0, 2.0], [8.0, 8.0], [False, False])
    controller, now = Controller(limits, period, np.full(2, 0.5), Settings()), 100.0
    for _ in range(int(0.3 / period)):
        controller.measure(now, ALL, START)
        controller.tick(now)
        now += period
    assert controller.arm(now) == []
    return controller, now


def follow(controller: Controller, now: float, ticks: int) -> tuple[Command, float]:
    """`ticks` ticks, the robot going where it is told."""
    for _ in range(ticks):
        command = controller.tick(now)
        assert command is not None
        controller.measure(now, ALL, command.position)
        now += controller.period
    return command, now


@pytest.mark.parametrize("period", [0.05, 0.02, 0.005])
def test_the_plan_is_what_is_then_commanded(period):
    controller, now = armed(period)
    swing = START + 0.5 * np.sin(2.0 * 0.05 * np.arange(30))[:, None]
    assert controller.accept(ActionChunk(now - 0.1, 0.05, swing, NAMES), now)
    command, now = follow(controller, now, max(2, int(0.2 / period)))
    plan = rest_of_plan(fork(controller), command.position, now - period)
    spacing = max(period, SPACING_S)
    np.testing.assert_allclose(np.diff(plan.times[:-1]), spacing)
    assert plan.times[0] == pytest.approx(spacing) and 0 < plan.times[-1] - plan.times[-2] < spacing + 1e-9
    assert not plan.velocities[-1].any() and np.abs(plan.velocities).max() > 0.3
    sent = []
    while controller.state is State.RUNNING or controller.moving:
        command, now = follow(controller, now, 1)
        sent.append(command)
    times = period * np.arange(1, len(sent) + 1)
    for joint in ALL:
        path = np.interp(plan.times, times, [command.position[joint] for command in sent])
        np.testing.assert_allclose(plan.positions[:, joint], path, atol=1e-9)
    inner = plan.times < times[-1] - spacing
    steps = np.rint(plan.times[inner] / period).astype(int)
    mean = [(sent[k - 1].velocity + sent[k].velocity) / 2 for k in steps]
    np.testing.assert_allclose(plan.velocities[inner], mean, atol=1e-9)


def test_a_stop_is_a_plan_too_and_standing_still_is_one_point():
    controller, now = armed(0.02)
    command, now = follow(controller, now, 3)
    plan = rest_of_plan(fork(controller), command.position, now - 0.02)
    assert isinstance(plan, Plan) and len(plan.times) <= 2
    np.testing.assert_array_equal(plan.positions, np.tile(START, (len(plan.times), 1)))
    controller.accept(ActionChunk(now, 0.05, START + 0.04 * np.arange(20)[:, None], NAMES), now)
    command, now = follow(controller, now, 15)
    assert command.velocity.min() > 0.5
    controller.estop("test")
    command, now = follow(controller, now, 1)
    plan = rest_of_plan(fork(controller), command.position, now - 0.02)
    assert 0.02 < plan.times[-1] < 0.3 and not plan.velocities[-1].any()
    assert (np.diff(plan.positions, axis=0) >= -1e-12).all(), "on it goes, slower and slower"


def test_the_fork_changes_nothing_and_needs_no_joint_states():
    controller, now = armed(0.02)
    controller.accept(ActionChunk(now, 0.1, START + 0.02 * np.arange(20)[:, None], NAMES), now)
    command, now = follow(controller, now, 5)
    before = controller.report(now)
    plan = rest_of_plan(fork(controller), command.position, now - 0.02)
    assert controller.report(now) == before
    assert plan.times[-1] > 1.5, "joint states may be half a second old at most, the plan goes on"
