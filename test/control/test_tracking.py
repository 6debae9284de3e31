"""A robot that does not go where it is told is noticed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from arms import ALL, PERIOD, Bench, arm_limits, assert_within_limits

from pi0_ros.control.states import Settings, State
from pi0_ros.control.tracking import LASTS_S, Tracking


def test_only_what_lasts_counts():
    tracking = Tracking(arm_limits(), 0.15, PERIOD)
    far, near = np.array([0.31, 0.0, 0.0]), np.array([0.29, 0.2, 1.0])

    def away(position: np.ndarray, now: float) -> str:
        tracking.sent(now, np.zeros(3))
        tracking.measured(now, ALL, position)
        return tracking.away(now)

    assert away(far, 0.0) == ""
    assert away(near, LASTS_S) == ""
    assert away(far, LASTS_S + 0.1) == ""
    reason = away(far, 2 * LASTS_S + 0.2)
    assert reason.startswith("yaw is 0.31 from its command (limit 0.3)")
    tracking.restart()
    assert away(far, 9.0) == ""


def test_a_measurement_counts_for_the_time_at_which_it_was_made():
    """Joint states that come half a second late are no tracking error of a robot that follows."""
    tracking = Tracking(arm_limits(), 0.15, PERIOD)
    for now in np.arange(0.0, 3.0, PERIOD):
        tracking.sent(now, 2.0 * now * np.ones(3))
        tracking.measured(now - 0.4, ALL[1:], 2.0 * max(0.0, now - 0.4) * np.ones(2))
        assert tracking.away(now) == ""


def test_the_robot_file_decides_where_it_says_something():
    limits = replace(arm_limits(), tracking=np.array([0.05, np.inf, 0.5]))
    np.testing.assert_allclose(Tracking(limits, 0.1, PERIOD).allowed, [0.05, 0.15, 0.5])
    np.testing.assert_array_equal(Tracking(limits, 0.0, PERIOD).allowed, [0.05, np.inf, 0.5])
    assert Tracking(arm_limits(), 0.1, PERIOD).allowed[2] == np.inf, "fingers on an object never arrive"


def test_a_blocked_arm_is_held_and_disarmed():
    bench = Bench(settings=Settings(rearm_after_s=0.4))
    bench.arm()
    bench.run(1.0)
    blocked = bench.measured.copy()
    for _ in range(int(3.0 / PERIOD)):
        bench.measured = blocked
        bench.run(PERIOD, every=PERIOD)
        if bench.controller.state is State.HOLDING:
            break
    controller = bench.controller
    assert controller.state is State.HOLDING and "from its command" in controller.reason
    assert controller.report(bench.now)["stale_events"] == 1
    pressed = bench.positions()[-1]
    assert np.abs(pressed - blocked).max() > 0.2
    for _ in range(200):
        bench.measured = blocked
        bench.step()
    assert controller.state is State.DISARMED and controller.fault and bench.sent[-1] is None
    assert_within_limits(bench.positions(), bench.limits)
    np.testing.assert_allclose(bench.positions()[-1][:2], blocked[:2], atol=1e-6), "it presses no longer"
    assert bench.positions()[-1][2] == pressed[2], "but a gripper keeps its force"
    bench.arm()
    bench.step()
    np.testing.assert_array_equal(bench.sent[-1].position, blocked), "and begins again from where the arm is"


def test_a_knock_is_forgiven():
    bench = Bench()
    bench.arm()
    bench.run(1.0)
    bench.controller.tracking.allowed[0] = 0.15
    for tick in range(60):
        bench.run(PERIOD, every=PERIOD)
        if 1 <= tick < 10:
            bench.measured = bench.measured + [0.2, 0.0, 0.0]
    assert bench.controller.state is State.RUNNING


def test_joint_states_that_stop_in_motion_are_called_old_and_nothing_else():
    bench = Bench(settings=Settings(tracking_s=0.02))
    bench.controller.feedback.max_age[:] = 0.6  # longer than a tracking error needs
    bench.arm()
    bench.run(1.0)
    bench.feedback_works = False
    bench.run(0.9)
    assert bench.controller.state is State.HOLDING and "s old (limit 0.60 s)" in bench.controller.reason
