"""The rest of the plan is what the controller then commands, point by point, and ends at rest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from arms import Bench, arm_limits
from chunks import chunk_of

from pi0_ros.control.controller import Controller
from pi0_ros.control.limits import JointLimits
from pi0_ros.control.plan import (
    LONGEST_S,
    SOONEST_S,
    SPACING_S,
    Plan,
    brake_along,
    delay_to_join,
    position_along,
    rest_of_plan,
    still_to_come,
)
from pi0_ros.control.states import Command, Settings, State

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


def test_looking_ahead_is_not_standing_still():
    """The steady clock has nothing to do with the date."""
    controller, now = armed(0.02)
    controller.accept(chunk_of(now, 0.05, START + 0.02 * np.arange(20)[:, None], NAMES), now)
    for k in range(5):
        controller.measure(now, ALL, START)
        command = controller.tick(now, 7.0 + 0.02 * k)
        now += 0.02
    plan = rest_of_plan(controller.fork(), command.position, now - 0.02)
    assert plan.times[-1] > 0.8 and plan.positions[-1, 0] > START[0] + 0.3


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
    assert controller.accept(chunk_of(now - 0.1, 0.05, swing, NAMES), now)
    command, now = follow(controller, now, max(2, int(0.2 / period)))
    plan = rest_of_plan(controller.fork(), command.position, now - period)
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
    plan = rest_of_plan(controller.fork(), command.position, now - 0.02)
    assert isinstance(plan, Plan) and len(plan.times) <= 2
    np.testing.assert_array_equal(plan.positions, np.tile(START, (len(plan.times), 1)))
    controller.accept(chunk_of(now, 0.05, START + 0.04 * np.arange(20)[:, None], NAMES), now)
    command, now = follow(controller, now, 15)
    assert command.velocity.min() > 0.5
    controller.estop("test")
    command, now = follow(controller, now, 1)
    plan = rest_of_plan(controller.fork(), command.position, now - 0.02)
    assert 0.02 < plan.times[-1] < 0.3 and not plan.velocities[-1].any()
    assert (np.diff(plan.positions, axis=0) >= -1e-12).all(), "on it goes, slower and slower"


def test_the_fork_changes_nothing_and_needs_no_joint_states():
    controller, now = armed(0.02)
    controller.accept(chunk_of(now, 0.1, START + 0.02 * np.arange(20)[:, None], NAMES), now)
    command, now = follow(controller, now, 5)
    before = controller.report(now)
    plan = rest_of_plan(controller.fork(), command.position, now - 0.02)
    assert controller.report(now) == before
    assert plan.times[-1] > 1.5, "joint states may be half a second old at most, the plan goes on"


def test_a_plan_does_not_foresee_that_a_lost_joint_state_comes_back():
    """A hold's plan stays a stop although a chunk waits for the joint states."""
    controller, now = armed(0.02)
    rising = START + 0.05 * np.arange(20)[:, None]
    controller.accept(chunk_of(now, 0.05, rising, NAMES), now)
    command, now = follow(controller, now, 15)
    while controller.state is State.RUNNING:  # no measurements, but chunks
        controller.accept(chunk_of(now, 0.05, rising, NAMES), now)
        command, now = controller.tick(now), now + 0.02
    assert controller.state is State.HOLDING and "old" in controller.reason
    plan = rest_of_plan(controller.fork(), command.position, now - 0.02)
    assert plan.times[-1] < 0.6, "not along the chunk that waits"


def test_a_plan_that_is_cut_short_ends_at_rest_within_the_limits():
    controller, now = armed(0.02)
    controller.settings = Settings(chunk_timeout_s=60.0)
    controller.accept(chunk_of(now, 0.5, START + 0.02 * np.arange(40)[:, None], NAMES), now)
    command, now = follow(controller, now, 5)
    plan = rest_of_plan(controller.fork(), command.position, now - 0.02)
    assert LONGEST_S < plan.times[-1] < LONGEST_S + 1.0
    speed = np.diff(plan.positions[:, 0]) / np.diff(plan.times)
    assert 0.03 < speed[-40] < 0.05 and abs(speed[-1]) < 0.01
    assert (np.abs(np.diff(speed)) < 8.0 * 0.02).all()


def test_a_plan_can_be_abandoned():
    controller, now = armed(0.02)
    command, now = follow(controller, now, 1)
    assert rest_of_plan(controller.fork(), command.position, now, abandoned=lambda: True) is None


def ramp(speed: float, seconds: float, start: float = 0.0) -> Plan:
    """Both joints at `speed` for `seconds`, then at rest."""
    times = np.arange(1, round(seconds / 0.02) + 1) * 0.02
    positions = np.repeat((start + speed * times)[:, None], 2, axis=1)
    velocities = np.full_like(positions, speed)
    velocities[-1] = 0.0
    return Plan(times, positions, velocities)


def test_what_is_left_of_a_plan_begins_a_little_ahead_and_keeps_its_end():
    plan = ramp(0.5, 1.0)
    left = still_to_come(plan, 0.305)
    assert SOONEST_S <= left.times[0] < SOONEST_S + 0.02
    np.testing.assert_allclose(left.positions[:, 0], 0.5 * (left.times + 0.305))
    over = still_to_come(plan, 7.0)
    assert list(over.times) == [SOONEST_S] and over.positions[0, 0] == pytest.approx(0.5)
    assert plan.times[-1] == pytest.approx(1.0), "the plan itself is left as it was"


def test_plans_that_agree_follow_each_other_at_once_and_others_in_time():
    limits = armed(0.02)[0].limits  # 2 per s
    going = ramp(0.5, 1.0)
    assert delay_to_join(still_to_come(ramp(0.5, 2.0), 0.3), still_to_come(going, 0.3), limits) == 0.0
    elsewhere = still_to_come(ramp(0.5, 1.0, start=0.4), 0.3)
    delay = delay_to_join(elsewhere, still_to_come(going, 0.3), limits)
    assert delay + elsewhere.times[0] == pytest.approx(np.sqrt(6 * 0.4 / 8.0))
    assert delay_to_join(elsewhere, still_to_come(going, 5.0), limits) < delay, "it rests at 0.5 by now"


@pytest.mark.parametrize("speed", [1.3, -0.4, 0.0])
def test_braking_along_a_plan_keeps_its_speed_at_first_and_the_limits(speed):
    limits = armed(0.02)[0].limits  # 8 per s^2
    going = replace(ramp(speed, 1.0), times=ramp(speed, 1.0).times - 0.5)  # in its middle
    stop = brake_along(going, limits)
    path = np.concatenate([[0.5 * speed], stop.positions[:, 0]])
    velocities = np.concatenate([[speed], stop.velocities[:, 0]])
    times = np.concatenate([[0.0], stop.times])
    assert velocities[-1] == 0.0 and times[-1] <= abs(speed) / 8.0 + SOONEST_S
    np.testing.assert_allclose(path[-1] - path[0], speed * abs(speed) / 16.0, atol=1e-9)
    assert (np.abs(np.diff(velocities) / np.diff(times)) <= 8.0 + 1e-9).all()
    again = brake_along(replace(stop, times=stop.times - 0.06), limits)
    np.testing.assert_allclose(again.positions[-1, 0], path[-1], atol=0.02)
    at_the_limit = replace(going, positions=np.full_like(going.positions, 0.99))
    assert (np.abs(brake_along(at_the_limit, limits).positions) <= 1.0).all()


@pytest.mark.parametrize("interpolation", ["hold", "linear", "cubic", "quintic"])
@pytest.mark.parametrize("jerk", [np.inf, 203.7])
@pytest.mark.parametrize("seed", range(4))
def test_leaping_ahead_is_ticking_ahead(interpolation, jerk, seed, monkeypatch):
    """Also where limits are in the way of some joints, and beyond the chunk's end."""
    random, period = np.random.default_rng(seed), float(np.random.default_rng(seed).choice([0.002, 0.01, 0.05]))
    limits = replace(arm_limits(), jerk=np.array([jerk, jerk, np.inf]))
    # No stop of a whole number of ticks: by a rounding, it would take one more.
    limits = replace(limits, acceleration=1.0137 * limits.acceleration)
    bench = Bench(limits, Settings(interpolation=interpolation, blend_s=float(random.choice([0.0, 0.2]))), period)
    bench.arm()
    for size in (0.05, 0.4, 1.5):  # the last one asks for more than the limits allow
        knots = random.normal(0.0, size, (8, 3))
        actions = np.stack([np.interp(np.linspace(0, 7, 24), np.arange(8), knot) for knot in knots.T], axis=1)
        chunk = chunk_of(
            bench.now - 0.053, 0.05, np.clip(actions, limits.lower - 0.3, limits.upper + 0.3), limits.names
        )
        assert bench.controller.accept(chunk, bench.now)
        bench.step(round(random.uniform(0.1, 0.4) / period) + 2)
        command = bench.sent[-1]
        fast = rest_of_plan(bench.controller.fork(), command.position, bench.now)
        with monkeypatch.context() as without:
            without.setattr(Controller, "leap", lambda self, most: np.empty((0, 3)))
            slow = rest_of_plan(bench.controller.fork(), command.position, bench.now)
        times, lines = np.arange(period, fast.times[-1], period), np.zeros(3, bool)  # it may stand for a tick more
        # Ticks are told seconds of today, which are rounded to 0.2 us.
        there = [position_along(plan, times, lines) for plan in (fast, slow)]
        np.testing.assert_allclose(*there, atol=3e-5)


def test_between_its_points_a_plan_is_read_by_their_velocities():
    times = np.linspace(0.0, 1.0, 11)
    curve = np.stack([np.sin(3 * times), times**2], axis=1)
    plan = Plan(times, curve, np.stack([3 * np.cos(3 * times), 2 * times], axis=1))
    at = np.array([-0.1, 0.0, 0.17, 0.55, 1.0, 7.0])
    found = position_along(plan, at, np.array([False, True]))
    assert np.isnan(found[0]).all()
    np.testing.assert_allclose(found[1:5, 0], np.sin(3 * at[1:5]), atol=1e-4)
    np.testing.assert_allclose(found[2, 1], 0.3 * 0.1**2 + 0.7 * 0.2**2, err_msg="a line, for a gripper")
    np.testing.assert_allclose(found[-1], curve[-1])
    alone = position_along(Plan(np.zeros(1), curve[:1], curve[:1]), at, np.array([False, True]))
    assert np.isnan(alone[0]).all() and (alone[1:] == curve[0]).all()
