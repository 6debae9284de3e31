"""A robot that does not go where it is told is noticed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from arms import PERIOD, Bench, arm_limits, assert_within_limits

from pi0_ros.control.controller import Settings, State
from pi0_ros.control.tracking import LASTS_S, Tracking


def test_only_what_lasts_counts():
    tracking, command = Tracking(arm_limits(), 0.15), np.zeros(3)
    away, near = np.array([0.31, 0.0, 0.0]), np.array([0.29, 0.2, 1.0])
    assert tracking.away(away, command, 0.0) == ""
    assert tracking.away(near, command, LASTS_S) == ""
    assert tracking.away(away, command, LASTS_S + 0.1) == ""
    reason = tracking.away(away, command, 2 * LASTS_S + 0.2)
    assert reason.startswith("yaw is 0.31 from its command (limit 0.3)")
    tracking.restart()
    assert tracking.away(away, command, 9.0) == ""


def test_the_robot_file_decides_where_it_says_something():
    limits = replace(arm_limits(), tracking=np.array([0.05, np.inf, 0.5]))
    np.testing.assert_allclose(Tracking(limits, 0.1).allowed, [0.05, 0.15, 0.5])
    np.testing.assert_array_equal(Tracking(limits, 0.0).allowed, [0.05, np.inf, 0.5])
    assert Tracking(arm_limits(), 0.1).allowed[2] == np.inf, "fingers on an object never arrive"


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
    for _ in range(50):
        bench.measured = blocked
        bench.step()
    assert controller.state is State.DISARMED and bench.sent[-1] is None
    assert_within_limits(bench.positions(), bench.limits)
    bench.arm()
    bench.step()
    np.testing.assert_array_equal(bench.sent[-1].position, blocked), "and begins again from where the arm is"


def test_a_knock_is_forgiven():
    bench = Bench()
    bench.arm()
    bench.run(1.0)
    for tick in range(60):
        bench.run(PERIOD, every=PERIOD)
        if tick < 10:
            bench.measured = bench.measured + [1.0, 0.0, 0.0]
    assert bench.controller.state is State.RUNNING
