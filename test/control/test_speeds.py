"""Joints whose value is a speed: ramps within the limits, and zero at the end of every ending."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from arms import Bench, assert_within_limits
from chunks import chunk_of
from hypothesis import given, settings
from hypothesis import strategies as st

from pi0_ros.control.limits import JointLimits, Limiter
from pi0_ros.control.plan import rest_of_plan
from pi0_ros.control.splines import INTERPOLATIONS
from pi0_ros.control.states import Settings, State
from pi0_ros.control.transitions import TRANSITIONS, slowing_duration

NAMES = ("elbow", "forward", "turn")
BASE = np.array([False, True, True])
LIMITS = JointLimits(
    NAMES,
    lower=[-1.0, -0.2, -1.0],
    upper=[1.0, 0.5, 1.0],
    velocity=[1.5, 0.6, 1.5],
    acceleration=[12.0, 6.0, 15.0],
    gripper=[False] * 3,
    speed=BASE,
)
DRIVING = np.array([0.3, 0.45, -0.8])


def driving(settings: Settings | None = None, period: float = 0.02, seconds: float = 2.8) -> Bench:
    """A base under way at a steady speed, the arm at rest, behind one chunk that is not over yet."""
    bench = Bench(LIMITS, settings or Settings(), period)
    bench.arm()
    for _ in range(round(seconds / 0.4)):
        bench.controller.accept(chunk_of(bench.now, 0.05, np.tile(DRIVING, (30, 1)), NAMES), bench.now)
        bench.step(round(0.4 / period))
    return bench


def last(bench: Bench) -> np.ndarray:
    """The newest command [J]."""
    return next(command.position for command in reversed(bench.sent) if command is not None)


positive = st.floats(0.05, 5.0)


@settings(max_examples=150, deadline=None)
@given(
    ends=st.tuples(st.sampled_from([0.0, 0.3, 1.0]), positive),
    change=positive,
    rise_s=st.sampled_from([0.002, 0.05, 0.1, 1.0]),
    period=st.sampled_from([0.05, 0.02, 0.004, 0.001]),
    wishes=st.lists(st.tuples(st.floats(-2.0, 2.0), st.integers(1, 60)), min_size=1, max_size=8),
    looked_ahead=st.booleans(),
)
def test_a_speed_comes_to_exactly_zero_from_wherever_it_was(ends, change, rise_s, period, wishes, looked_ahead) -> None:
    """Whatever was asked of it before, at every rate: within acceleration and jerk, and soon."""
    limits = JointLimits(
        ("forward",), [-ends[0] * ends[1]], [ends[1]], [change], [change / rise_s], [False], speed=np.array(True)
    )
    limiter, path = Limiter(limits, period), [np.zeros(1)]
    for wish, ticks in wishes:
        for _ in range(ticks):
            limiter.follow(np.array([wish * ends[1]]), np.zeros(1))
            path.append(limiter.position.copy())
    most = int(slowing_duration(limits) / period) + 4
    if looked_ahead:
        path.extend(limiter.follow_all(np.zeros((most, 1)), np.zeros((most, 1))))
    else:
        clamps, ticks = limiter.clamps.total, 0
        while limiter.moving:
            limiter.brake()
            path.append(limiter.position.copy())
            ticks += 1
            assert ticks <= most
        assert limiter.clamps.total == clamps, "to be stopped is no clamp"
    assert path[-1][0] == 0.0 and not limiter.drives or looked_ahead
    assert abs(limiter.position[0]) == 0.0
    assert_within_limits(np.array(path), limits, period)


@pytest.mark.parametrize("transition", TRANSITIONS)
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_a_speed_is_followed_as_it_is_and_not_summed_up(transition: str, interpolation: str) -> None:
    bench = driving(Settings(transition=transition, interpolation=interpolation))
    np.testing.assert_allclose([command.position for command in bench.sent[-20:]], np.tile(DRIVING, (20, 1)), atol=1e-6)
    bench.assert_within_limits()


ENDINGS: dict[str, Callable[[Bench], object]] = {
    "the policy dies": lambda bench: None,
    "disarmed": lambda bench: bench.controller.disarm("test"),
    "a fault": lambda bench: bench.controller.fail("test"),
    "emergency stop": lambda bench: bench.controller.estop("test"),
    "a bad chunk": lambda bench: bench.controller.refuse("test", bench.now),
    "joint states stop": lambda bench: setattr(bench, "feedback_works", False),
    "the base is blocked": lambda bench: setattr(bench, "follows", False),
    "the button is let go": lambda bench: setattr(bench.controller, "withheld", "let go"),
    "the clock is set back": lambda bench: setattr(bench, "now", bench.now - 1000.0),
    "the process stands still": lambda bench: bench.stall(0.15),
    "it stands still for long": lambda bench: bench.stall(5.0),
    "it stands still, and joint states are gone": lambda bench: (
        setattr(bench, "feedback_works", False),
        bench.stall(0.5),
    ),
}


@pytest.mark.parametrize("period", [0.05, 0.02, 0.002])
@pytest.mark.parametrize("ending", ENDINGS)
def test_every_ending_ends_at_zero_within_the_limits(ending: str, period: float) -> None:
    bench = driving(period=period)
    assert last(bench)[1] == pytest.approx(0.45) and last(bench)[2] == pytest.approx(-0.8)
    ENDINGS[ending](bench)
    bench.step(round(5.0 / period))
    assert not last(bench)[BASE].any()
    assert bench.controller.state in (State.DISARMED, State.STOPPED) and bench.sent[-1] is None
    bench.assert_within_limits()


@pytest.mark.parametrize("seconds", [0.15, 5.0])
def test_after_a_stall_the_base_alone_is_commanded_until_the_joints_are_known(seconds: float) -> None:
    """The arm may have been moved meanwhile; the base may drive on with what it was told last."""
    bench = driving()
    place = len(bench.sent)
    bench.follows = False
    bench.stall(seconds)
    bench.step(60)
    commands = [command for command in bench.sent[place:] if command is not None]
    braking = [command for command in commands if command.alone is not None]
    assert braking and not braking[-1].position[BASE].any()
    for command in braking:
        assert command.alone is not None and command.alone.tolist() == BASE.tolist()
        assert command.position[0] == braking[0].position[0] and command.velocity[0] == 0.0


def test_a_base_that_its_driver_has_stopped_is_not_started_again_to_be_braked() -> None:
    bench = driving()
    place = len(bench.sent)
    bench.measured = np.array([0.3, 0.0, -0.1])  # the driver's own timeout: it stands, and nearly so
    bench.follows = False
    bench.stall(2.0)
    bench.step(60)
    found = np.array([command.position for command in bench.sent[place:] if command is not None])
    assert np.abs(found[:, 1]).max() == 0.0 and np.abs(found[:, 2]).max() <= 0.1


def test_a_blocked_base_is_a_fault_and_does_not_push_again_and_again() -> None:
    bench = driving()
    stuck = bench.measured.copy()
    stuck[1] = 0.0
    for _ in range(100):
        bench.follows, bench.measured = False, stuck
        bench.controller.accept(chunk_of(bench.now, 0.05, np.tile(DRIVING, (30, 1)), NAMES), bench.now)
        bench.step(5)
    assert bench.controller.state is State.DISARMED
    assert bench.controller.fault.startswith(
        "forward is 0.45 from its command (limit 0.125): blocked, or is the driver"
    )
    assert not last(bench)[BASE].any()
    bench.assert_within_limits()


def test_arming_waits_until_the_base_stands() -> None:
    bench = Bench(LIMITS)
    bench.measured = np.array([0.0, 0.2, 0.0])
    bench.step(30)
    assert bench.controller.arm(bench.now) == ["forward is not at rest, it moves at 0.2"]


def test_the_plan_that_is_told_is_what_the_base_does() -> None:
    bench = driving(seconds=0.8)
    bench.controller.accept(chunk_of(bench.now, 0.05, DRIVING * np.linspace(1.0, 0.6, 30)[:, None], NAMES), bench.now)
    bench.step(2)
    plan = rest_of_plan(bench.controller.fork(), last(bench), bench.now)
    assert plan is not None and not plan.positions[-1][BASE].any() and not plan.velocities[-1].any()
    place = len(bench.sent)
    bench.step(200)
    sent = np.array([command.position for command in bench.sent[place:] if command is not None])
    times = bench.period * np.arange(1, len(sent) + 1)
    for joint in range(3):
        path = np.interp(plan.times, times, sent[:, joint])
        np.testing.assert_allclose(plan.positions[:, joint], path, atol=1e-6)


def test_limits_without_a_zero_are_refused() -> None:
    with pytest.raises(ValueError, match="upside down or not positive for forward"):
        replace(LIMITS, lower=np.array([-1.0, 0.1, -1.0]), outside=np.array(np.nan))
