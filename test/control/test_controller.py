"""The state machine, driven tick by tick."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from arms import ALL, NAMES, PERIOD, START, Bench, arm_limits, assert_within_limits, path, path_chunk
from chunks import chunk_of

from pi0_ros.control.chunk import ChunkError
from pi0_ros.control.states import Settings, State


def test_commands_nothing_before_it_is_armed():
    bench = Bench()
    bench.run(2.0)
    assert bench.sent == [None] * 100
    assert bench.controller.state is State.DISARMED and bench.controller.counts.chunks == 0


def test_arming_is_refused_with_every_reason():
    bench = Bench()
    assert bench.controller.arm(START) == ["no joint state for yaw, elbow, gripper"]
    bench.step(20)
    assert bench.controller.arm(bench.now + 1.0)[0].startswith("joint state of yaw, elbow, gripper is 1.00 s old")
    for k in range(20):
        bench.controller.measure(bench.now + k * PERIOD, ALL, np.array([k * 0.01, k * 0.01, 0.0]))
    problems = bench.controller.arm(bench.now + 19 * PERIOD)
    assert [problem.split()[0] for problem in problems] == ["yaw", "elbow"]
    assert bench.controller.state is State.DISARMED


def test_arming_twice_changes_nothing():
    bench = Bench()
    bench.arm()
    bench.run(1.0)
    assert bench.controller.arm(bench.now) == [] and bench.controller.state is State.RUNNING


def test_idle_holds_where_the_robot_is():
    bench = Bench()
    bench.measured = np.array([0.7, -0.3, 0.5])
    bench.arm()
    bench.step(50)
    assert bench.controller.state is State.IDLE
    np.testing.assert_array_equal(bench.positions(), np.tile([0.7, -0.3, 0.5], (50, 1)))


def test_the_first_motion_starts_from_the_measured_position_within_the_limits():
    bench = Bench()
    bench.measured = np.array([-0.8, 0.5, 0.0])
    bench.arm()
    bench.run(6.0)
    sent = bench.positions()
    np.testing.assert_allclose(sent[0], [-0.8, 0.5, 0.0], atol=0.01)
    assert_within_limits(sent, bench.limits)
    assert bench.controller.state is State.RUNNING
    np.testing.assert_allclose(sent[-1][:2], path(bench.now - START)[:2], atol=5e-3)
    assert bench.controller.limiter.clamps.total == 0, "a far start is a long fade, not a fight with the limits"


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.3, 0.7])
def test_latency_shifts_nothing(delay):
    bench = Bench()
    bench.arm()
    bench.run(5.0, delay=delay)
    sent, t = bench.positions(), bench.now - START - PERIOD * np.arange(len(bench.positions()))[::-1]
    np.testing.assert_allclose(sent[100:, :2], path(t)[100:, :2], atol=2e-3)
    assert bench.controller.limiter.clamps.total == 0


def test_chunks_that_disagree_are_joined_without_a_jump():
    bench = Bench()
    bench.arm()
    for k in range(20):
        bench.controller.accept(path_chunk(bench.now - 0.15, offset=0.03 * (-1) ** k), bench.now)
        bench.step(20)
    acceleration = np.diff(bench.positions()[:, 0], n=2) / PERIOD**2
    assert np.abs(acceleration).max() < 8.0  # a plain replacement would jump by 0.06 rad: 150 rad/s^2
    assert_within_limits(bench.positions(), bench.limits)


def test_a_chunk_that_ends_decelerates_to_a_hold_and_goes_on_with_the_next():
    bench = Bench()
    bench.arm()
    bench.run(1.0)
    assert np.abs(bench.controller.limiter.velocity).max() > 0.2
    bench.step(70)  # the last chunk ends 0.65 s after its successor was due
    controller = bench.controller
    assert controller.state is State.HOLDING and "no newer chunk" in controller.reason
    assert controller.counts.stale_events == 1 and not controller.limiter.moving
    assert_within_limits(bench.positions(), bench.limits)
    bench.run(2.0)
    assert controller.state is State.RUNNING
    np.testing.assert_allclose(bench.positions()[-1][:2], path(bench.now - START)[:2], atol=5e-3)
    assert_within_limits(bench.positions(), bench.limits)


def test_a_long_hold_needs_arming_again():
    bench = Bench(settings=Settings(rearm_after_s=0.5))
    bench.arm()
    bench.run(1.0)
    bench.step(120)
    controller = bench.controller
    assert controller.state is State.DISARMED and bench.sent[-1] is None
    assert "no newer chunk" in controller.reason and "call ~/arm" in controller.reason
    bench.run(1.0)
    assert controller.state is State.DISARMED and bench.sent[-1] is None, "chunks alone do not bring it back"
    assert controller.arm(bench.now) == []
    bench.run(1.0)
    assert controller.state is State.RUNNING


def test_an_old_observation_is_not_followed_to_the_end_of_its_chunk():
    bench = Bench(settings=Settings(chunk_timeout_s=0.5))
    bench.arm()
    bench.controller.accept(path_chunk(bench.now - 0.1, steps=100), bench.now)
    bench.step(15)
    assert bench.controller.state is State.RUNNING
    bench.step(10)
    assert bench.controller.state is State.HOLDING


def test_lost_joint_states_hold_and_come_back():
    bench = Bench()
    bench.arm()
    bench.run(1.0)
    bench.feedback_works = False
    bench.step(15)
    assert bench.controller.state is State.HOLDING
    assert bench.controller.reason.startswith("joint state of yaw, elbow, gripper is 0.1")
    bench.controller.accept(path_chunk(bench.now), bench.now)
    bench.step(2)
    assert bench.controller.state is State.HOLDING, "a chunk does not help"
    bench.feedback_works = True
    bench.step()
    assert bench.controller.state is State.RUNNING
    assert_within_limits(bench.positions(), bench.limits)


def test_joint_states_lost_before_any_motion():
    bench = Bench()
    bench.arm()
    bench.feedback_works = False
    bench.step(20)
    assert bench.controller.state is State.HOLDING
    bench.feedback_works = True
    bench.step(2)
    assert bench.controller.state is State.IDLE, "a hiccup while it waits for the first chunk is forgiven"
    bench.feedback_works = False
    bench.step(70)
    assert bench.controller.state is State.DISARMED, "the robot may have been moved meanwhile"


def test_chunks_out_of_order_are_dropped():
    bench = Bench()
    bench.arm()
    bench.controller.accept(path_chunk(bench.now - 0.1), bench.now)
    bench.step()
    bench.controller.accept(path_chunk(bench.now - 0.3, offset=0.5), bench.now)
    bench.controller.accept(path_chunk(START - 100.0), bench.now)
    bench.step(10)
    counts = bench.controller.counts
    assert (counts.chunks, counts.dropped, counts.refused) == (1, 2, 0)
    assert bench.controller.state is State.RUNNING and "older" in bench.controller.last_refusal


def test_a_chunk_that_is_over_when_it_comes_is_dropped():
    bench = Bench()
    bench.arm()
    assert not bench.controller.accept(path_chunk(bench.now - 3.0), bench.now)
    bench.step()
    assert bench.controller.state is State.IDLE and bench.controller.counts.dropped == 1
    assert "already over (observation 3.00 s old)" in bench.controller.last_refusal


def test_chunks_from_the_future_and_far_outside_the_limits_are_refused():
    bench = Bench()
    bench.arm()
    with pytest.raises(ChunkError, match="stamped 2.00 s in the future"):
        bench.controller.accept(path_chunk(bench.now + 2.0), bench.now)
    degrees = chunk_of(bench.now, 0.05, np.full((24, 3), [0.0, 45.0, 0.0]), NAMES)
    with pytest.raises(ChunkError, match=r"elbow would go to 45, far outside its limits \[-1, 1\]: wrong unit"):
        bench.controller.accept(degrees, bench.now)
    bench.step(5)
    assert bench.controller.state is State.IDLE


def test_a_refused_chunk_holds_until_a_good_one_comes():
    bench = Bench()
    bench.arm()
    bench.run(1.0)
    bench.controller.refuse("actions hold NaN", bench.now)
    bench.step(5)
    assert bench.controller.state is State.HOLDING and bench.controller.reason == "chunk refused: actions hold NaN"
    bench.run(0.5)
    assert bench.controller.state is State.RUNNING and bench.controller.counts.refused == 1
    assert_within_limits(bench.positions(), bench.limits)


def test_estop_brakes_at_once_and_needs_reset_and_arm():
    bench = Bench()
    bench.arm()
    bench.run(1.0)
    before = bench.controller.limiter.velocity.copy()
    bench.controller.estop("emergency stop")
    bench.step()
    assert (np.abs(bench.controller.limiter.velocity[:2]) < np.abs(before[:2])).all(), "within one tick"
    bench.run(1.0)
    assert bench.controller.state is State.STOPPED and bench.sent[-1] is None
    assert_within_limits(bench.positions(), bench.limits)
    assert bench.controller.arm(bench.now) == ["stopped (emergency stop): call ~/reset first"]
    assert bench.controller.reset() == []
    assert bench.controller.reset() == ["nothing to reset: the controller is DISARMED, not STOPPED"]
    bench.arm()
    bench.run(0.5)
    assert bench.controller.state is State.RUNNING


def test_disarming_in_motion_decelerates_and_then_falls_silent():
    bench = Bench()
    bench.arm()
    bench.run(1.0)
    bench.controller.disarm("asked to")
    bench.step()
    assert bench.sent[-1] is not None and bench.controller.limiter.moving
    assert "still decelerating" in bench.controller.arm(bench.now)[-1]
    bench.step(50)
    assert bench.sent[-1] is None
    assert_within_limits(bench.positions(), bench.limits)


def test_skipped_ticks_are_not_jumped_after():
    bench = Bench()
    bench.arm()
    for k in range(150):
        if k % 20 == 0:
            bench.controller.accept(path_chunk(bench.now - 0.1), bench.now)
        bench.now += 2 * PERIOD if k % 37 == 36 else 0.0  # two ticks lost
        bench.step()
    acceleration = np.diff(bench.positions()[30:, :2], n=2, axis=0) / PERIOD**2
    assert np.abs(acceleration).max() < 8.0  # catching up at once would take all of 16
    assert bench.controller.limiter.clamps.total == 0


@pytest.mark.parametrize(("chunk_every", "lost"), [(1, 0), (20, 1)])
def test_joining_at_every_tick_still_makes_headway(chunk_every, lost):
    """A chunk with every tick, or never two ticks in time: the command must not coast on at its first velocity."""
    bench = Bench()
    bench.arm()
    for k in range(100):
        if k % chunk_every == 0:
            bench.controller.accept(path_chunk(bench.now - 0.1, offset=0.3), bench.now)
        bench.now += lost * PERIOD
        bench.step()
    assert np.ptp(bench.positions()[:, 0]) > 0.3
    assert_within_limits(bench.positions(), bench.limits)


def test_a_clock_that_goes_back_holds_and_then_starts_afresh():
    bench = Bench()
    bench.arm()
    bench.run(1.0)
    bench.now = START - 50.0
    bench.step()
    assert bench.controller.state is State.HOLDING and "the clock went back by" in bench.controller.reason
    bench.controller.accept(chunk_of(bench.now, 0.05, np.tile(bench.measured, (24, 1)), NAMES), bench.now)
    bench.step(20)
    assert bench.controller.state is State.RUNNING
    assert_within_limits(bench.positions(), bench.limits)


def test_a_clock_that_is_set_back_a_little_makes_no_jump():
    bench = Bench()
    bench.arm()
    bench.run(1.0)
    bench.now -= 0.05
    bench.run(1.0)
    assert bench.controller.state is State.RUNNING and bench.controller.limiter.clamps.total == 0
    assert np.abs(np.diff(bench.positions()[30:, :2], n=2, axis=0) / PERIOD**2).max() < 8.0


def test_a_clock_that_leaps_ahead_holds():
    bench = Bench()
    bench.arm()
    bench.run(1.0)
    bench.now += 100.0
    bench.step(3)
    assert bench.controller.state is State.HOLDING
    assert_within_limits(bench.positions(), bench.limits)


def test_the_report_holds_plain_values():
    bench = Bench()
    report = bench.controller.report(START)
    assert report["state"] == "DISARMED" and report["clamps"] == 0
    assert all(isinstance(value, (str, int, float)) for value in report.values())


def test_a_leap_of_the_clock_is_named():
    bench = Bench()
    bench.arm()
    bench.run(1.0)
    bench.now += 100.0
    bench.step()
    assert "the hold began with: the clock leapt ahead by 100.0" in bench.controller.reason
    bench.run(1.0)
    assert bench.controller.state is State.RUNNING
    assert_within_limits(bench.positions(), bench.limits)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_joint_states_that_are_no_numbers_count_as_lost(number):
    bench = Bench()
    bench.arm()
    bench.run(1.0)
    for _ in range(12):
        bench.feedback_works = False
        bench.controller.measure(bench.now, ALL, np.array([0.0, number, 0.0]))
        bench.step()
    assert bench.controller.state is State.HOLDING and "joint state of" in bench.controller.reason
    assert_within_limits(bench.positions(), bench.limits)


def test_a_hold_decelerates_smoothly():
    bench = Bench()
    bench.arm()
    bench.run(1.4)
    bench.step(60)
    assert bench.controller.state is State.HOLDING
    sent = bench.positions()
    acceleration = np.diff(sent, n=2, axis=0)[-90:, :2] / PERIOD**2
    assert (np.abs(acceleration) < 0.6 * bench.limits.acceleration[:2]).all()
    assert np.abs(np.diff(acceleration, axis=0)).max() < 0.25 * bench.limits.acceleration[:2].min(), "no step in it"


def test_at_1000_hz_a_clock_with_jitter_does_not_shake_the_arm():
    bench, random = Bench(period=0.001), np.random.default_rng(0)
    bench.arm()
    start = bench.now
    for tick in range(4000):
        bench.now = start + 0.001 * tick
        if tick % 400 == 0:
            bench.controller.accept(path_chunk(bench.now - 0.1), bench.now)
        bench.now += random.normal(0.0, 2e-5)
        bench.step()
    acceleration = np.diff(bench.positions()[-1000:, :2], n=2, axis=0) / 1e-6
    times = start + 4.0 - START - 0.001 * np.arange(999, 1, -1)
    wanted = np.stack([-1.44 * np.sin(1.2 * times), -0.486 * np.sin(0.9 * times)], axis=1)
    # Sampled at the clock's own times the path would shake by some 50 rad/s^2.
    np.testing.assert_allclose(acceleration, wanted, atol=0.4)


@pytest.mark.parametrize("jerk", [100.0, 2000.0])
@pytest.mark.parametrize("period", [0.02, 0.002])
def test_jerk_limits_are_kept_and_cost_no_time(jerk, period):
    limits = replace(arm_limits(), jerk=np.array([jerk, jerk, np.inf]))
    bench = Bench(limits, period=period)
    bench.arm()
    bench.run(4.0, delay=0.1)
    sent, t = bench.positions(), bench.now - START - period * np.arange(len(bench.positions()))[::-1]
    np.testing.assert_allclose(sent[-round(1 / period) :, :2], path(t)[-round(1 / period) :, :2], atol=2e-3)
    before = bench.sent[-1]
    bench.controller.estop("emergency stop")
    bench.step()
    change = np.sign(before.velocity) * (bench.sent[-1].acceleration - before.acceleration)
    assert (change[:2] < 0).all(), "an emergency stop acts within one tick, as hard as the jerk limit lets it"
    bench.step(round(1.0 / period))
    assert bench.sent[-1] is None
    assert_within_limits(bench.positions(), limits, period)


@pytest.mark.parametrize("step", [0.0, 0.4, 1.6, 3.0])
@pytest.mark.parametrize("jerk", [np.inf, 60.0])
def test_a_stop_is_as_short_on_irregular_ticks(step, jerk):
    """Late ticks, and none of the clock at all (a simulator that died): the commands of a stop stay the same."""

    def stop(step: float) -> np.ndarray:
        bench = Bench(limits=replace(arm_limits(), jerk=np.array([jerk, jerk, np.inf])))
        bench.arm()
        bench.run(1.0)
        bench.controller.disarm("test")
        sent = []
        for _ in range(300):
            bench.now += step * PERIOD
            if (command := bench.controller.tick(bench.now)) is None:
                break
            sent.append(command.position)
        assert len(sent) < 300
        return np.array(sent)

    np.testing.assert_allclose(stop(step), stop(1.0), atol=1e-9)


@pytest.mark.parametrize(("later_s", "begins_at"), [(0.0, "told"), (2.0, "measured")])
def test_armed_again_at_once_it_begins_where_it_was_told_to_be(later_s, begins_at):
    """Right behind its last command a robot may not have heard it yet."""
    bench = Bench()
    bench.arm()
    bench.run(1.0)
    bench.controller.estop("test")
    while (command := bench.controller.tick(bench.now, bench.steady)) is not None:
        told = command.position
        bench.controller.published(bench.now, bench.steady)
        bench.now, bench.steady = bench.now + PERIOD, bench.steady + PERIOD
        bench.measured = told + [0.01, 0.01, 0.0]  # it is late
        bench.controller.measure(bench.now, ALL, bench.measured)
    bench.follows = False
    bench.step(8 + round(later_s / PERIOD))
    assert bench.controller.reset() == [] and bench.controller.arm(bench.now) == []
    bench.step()
    first = bench.sent[-1]
    np.testing.assert_array_equal(first.position, told if begins_at == "told" else bench.measured)
