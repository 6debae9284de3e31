"""Time without ticks is a hold that began when the ticks ended; what holds, idles or is blocked for long ends."""

from __future__ import annotations

import numpy as np
import pytest
from arms import ALL, PERIOD, Bench, path_chunk

from pi0_ros.control.states import Settings, State


def moving(**settings: float) -> Bench:
    """An arm at full swing."""
    bench = Bench(settings=Settings(**settings))
    bench.arm()
    bench.run(1.0)
    assert np.abs(bench.controller.limiter.velocity).max() > 0.3
    return bench


def chunks(bench: Bench, seconds: float) -> None:
    """The arm goes on, with chunks that begin where it is."""
    for _ in range(round(seconds / bench.period / 20)):
        bench.controller.accept(path_chunk(bench.now - 0.1), bench.now)
        bench.step(20)


@pytest.mark.parametrize("seconds", [0.1, 0.3, 0.7])
def test_a_short_stall_starts_from_rest_where_the_command_stood(seconds):
    bench = moving()
    last = bench.sent[-1].position.copy()
    bench.stall(seconds)
    bench.step()
    controller = bench.controller
    assert controller.state is State.HOLDING and bench.sent[-1] is None, "it looks before it goes on"
    assert f"the controller stood still for {seconds + PERIOD:.2f} s" in controller.reason
    chunks(bench, 0.4)
    first = next(command for command in bench.sent[-20:] if command is not None)
    assert (np.abs(first.position - last) <= bench.limits.acceleration * PERIOD**2 * (1 + 1e-9)).all()
    assert controller.state is State.RUNNING, "and then goes on by itself"
    bench.assert_within_limits()


@pytest.mark.parametrize("seconds", [1.0, 40.0])
def test_a_long_stall_must_be_armed_again(seconds):
    bench = moving()
    bench.stall(seconds)
    chunks(bench, 2.0)
    controller = bench.controller
    assert controller.state is State.DISARMED and "stood still" in controller.fault
    assert all(command is None for command in bench.sent[-90:]), "no further command"
    bench.arm()
    chunks(bench, 0.8)
    assert controller.state is State.RUNNING and not controller.fault
    bench.assert_within_limits()


def test_a_robot_that_was_moved_meanwhile_goes_on_from_where_it_is():
    bench = moving()
    bench.stall(0.5)
    bench.controller.measure(bench.now - 0.4, ALL, bench.measured)  # came late, from before it was moved
    bench.measured = bench.measured - [0.8, 0.0, 0.0]
    before, found = len(bench.sent), bench.measured.copy()
    chunks(bench, 2.0)
    sent = np.array([command.position for command in bench.sent[before:] if command is not None])
    assert np.abs(sent[0] - found).max() < 0.02
    bench.assert_within_limits()


@pytest.mark.parametrize(
    ("arrived", "late_s", "believed"), [(True, 0.01, False), (True, 0.06, True), (False, 0.01, True)]
)
def test_joint_states_without_a_stamp_may_have_waited_for_the_end_of_a_stall(arrived, late_s, believed):
    bench = moving()
    bench.feedback_works = False
    bench.stall(0.5)
    bench.step()
    bench.controller.measure(bench.now + late_s, ALL, bench.measured + 0.01, arrived)
    assert (bench.controller.feedback.position > bench.measured).all() == believed


def test_a_robot_that_still_moves_after_a_stall_is_waited_for():
    bench = moving(rearm_after_s=600.0)
    bench.stall(0.5)
    for _ in range(30):
        bench.measured = bench.measured + [0.005, 0.0, 0.0]
        bench.controller.accept(path_chunk(bench.now - 0.1), bench.now)
        bench.step()
    assert bench.controller.state is State.HOLDING and not any(bench.sent[-30:])


@pytest.mark.parametrize("what", ["estop", "disarm"])
def test_a_stop_that_a_stall_interrupts_is_over(what):
    bench = moving()
    getattr(bench.controller, what)("test")
    bench.step(2)
    last = bench.sent[-1]
    bench.stall(0.3)
    bench.step(3)
    (said,) = [command for command in bench.sent[-3:] if command is not None]
    assert np.array_equal(said.position, last.position) and not said.velocity.any(), "the last word is rest"
    assert not bench.controller.moving


@pytest.mark.parametrize("what", ["estop", "disarm"])
def test_a_robot_that_was_moved_during_a_stall_is_not_called_back(what):
    bench = moving()
    getattr(bench.controller, what)("test")
    bench.step(2)
    bench.stall(0.3)
    bench.measured = bench.measured - [0.8, 0.0, 0.0]
    bench.step(3)
    assert not any(bench.sent[-3:])


def test_a_last_word_that_comes_too_late_is_said_again():
    bench = moving()
    bench.controller.disarm("test")
    while bench.step() or bench.sent[-1].velocity.any():
        pass
    bench.controller.withdraw(bench.now, bench.steady)  # the command at rest did not leave
    bench.step(2)
    said, silence = bench.sent[-2:]
    assert not said.velocity.any() and silence is None


def test_simulated_time_may_be_slow_but_leaps_are_stalls():
    bench = moving()
    bench.controller.stalls.limit_s = np.inf
    for _ in range(50):  # a simulator at a tenth of the speed
        bench.steady += 9 * PERIOD
        bench.controller.accept(path_chunk(bench.now - 0.1), bench.now)
        bench.step()
    assert bench.controller.state is State.RUNNING
    bench.stall(0.7)
    bench.steady += 9 * 0.7
    bench.step()
    assert bench.controller.state is State.HOLDING and "stood still for 0.72 s" in bench.controller.reason


@pytest.mark.parametrize("set_by_s", [0.0, -0.2, -5.0])
@pytest.mark.parametrize("pace", [0.2, 1.0, 3.0])
def test_what_the_robot_lived_tells_a_stall_from_a_clock_that_was_set(pace, set_by_s):
    """However fast simulated time goes, and however its clock is set meanwhile."""

    def at_this_pace():
        bench = moving()
        bench.controller.stalls.limit_s = np.inf
        for _ in range(60):
            bench.steady += (1.0 / pace - 1.0) * PERIOD
            bench.controller.accept(path_chunk(bench.now - 0.1), bench.now)
            bench.step()
        assert bench.controller.state is State.RUNNING and bench.sent[-1].velocity.any()
        return bench

    bench = at_this_pace()
    last = bench.sent[-1].position
    bench.stall(0.13)
    bench.steady += (1.0 / pace - 1.0) * 0.13
    bench.now += set_by_s
    bench.step(30)
    assert ("the clock went back" if set_by_s < -1.0 else "stood still for") in bench.controller.reason
    first = next(command for command in bench.sent[-30:] if command is not None)
    assert np.array_equal(first.position, last) and not first.velocity.any(), "it begins from rest"

    bench = at_this_pace()
    bench.now += set_by_s or 0.13
    bench.steady += (1.0 / pace - 1.0) * PERIOD
    bench.step()
    assert "the clock" in bench.controller.reason and bench.sent[-1].velocity.any()
    bench.assert_within_limits()


@pytest.mark.parametrize("by_s", [0.7, 60.0, 1e9])
@pytest.mark.parametrize("slower", [0.1, 1.0, 10.0])
def test_simulated_time_that_jumps_is_no_stall_and_ends_in_a_hold_within_the_limits(by_s, slower):
    bench = moving()
    bench.controller.stalls.limit_s = np.inf
    for _ in range(50):
        bench.steady += (slower - 1.0) * PERIOD
        bench.controller.accept(path_chunk(bench.now - 0.1), bench.now)
        bench.step()
    assert bench.controller.state is State.RUNNING and bench.sent[-1].velocity.any()
    bench.now += by_s
    for _ in range(60):
        bench.steady += (slower - 1.0) * PERIOD
        bench.step()
    assert "leapt ahead" in bench.controller.reason
    bench.assert_within_limits()
    assert not bench.controller.moving


def test_a_leap_beside_a_pause_is_told_as_well():
    bench = moving()
    bench.controller.stalls.limit_s = np.inf
    chunks(bench, 0.5)
    bench.now += 60.0
    bench.stall(0.2)
    bench.step()
    assert "leapt ahead by 60." in bench.controller.reason and "stood still for 0.2" in bench.controller.reason
    bench.step(60)
    bench.assert_within_limits()


def test_a_hold_is_measured_on_the_steady_clock_whatever_the_clock_does():
    bench = moving()
    bench.now -= 1e9  # as simulated time that is switched on by mistake
    for _ in range(60):
        bench.steady += PERIOD
        bench.controller.tick(bench.now, bench.steady)  # the clock stands still
    bench.now += 1e9 + 60 * PERIOD
    chunks(bench, 1.0)
    assert bench.controller.state is State.DISARMED and "the clock went back" in bench.controller.fault


def test_an_armed_controller_waits_for_a_first_chunk_for_some_time_only():
    bench = Bench(settings=Settings(idle_timeout_s=2.0))
    bench.arm()
    bench.step(95)
    assert bench.controller.state is State.IDLE
    bench.step(10)
    assert bench.controller.state is State.DISARMED and "no chunk within 2 s" in bench.controller.reason
    chunks(bench, 1.0)
    assert bench.controller.state is State.DISARMED


def test_what_holds_now_is_shown_with_what_began_it():
    bench = moving(rearm_after_s=600.0)
    bench.feedback_works = False
    bench.step(20)
    assert bench.controller.reason.startswith("joint state of yaw, elbow, gripper is 0.1")
    bench.feedback_works = True
    bench.step(100)
    reason = bench.controller.reason
    assert reason.startswith("no newer chunk (the hold began with: joint state of yaw"), reason
    bench.feedback_works = False
    bench.step(20)
    assert bench.controller.reason.startswith("joint state of"), bench.controller.reason


def test_a_fault_is_shown_until_somebody_acknowledges_it():
    bench = moving()
    bench.step(150)
    controller = bench.controller
    assert controller.state is State.DISARMED and "no newer chunk" in controller.fault
    bench.step(500)
    assert controller.fault and controller.report(bench.now)["fault"]
    controller.disarm("disarmed by ~/arm")
    assert not controller.fault and "acknowledged: no newer chunk" in controller.reason
    bench = moving()
    bench.step(150)
    assert bench.controller.reset() == [] and not bench.controller.fault
    bench = moving()
    bench.controller.disarm("asked to")
    assert not bench.controller.fault


def test_a_gripper_keeps_its_force_over_disarm_and_arm():
    bench = moving()
    while bench.sent[-1].position[2] < 0.98:
        bench.run(0.4)
    bench.controller.disarm("asked to")
    bench.follows = False
    bench.measured = np.array([*bench.measured[:2], 0.577])  # the fingers are on an object
    bench.step(100)
    held = bench.positions()[-1][2]
    assert held > 0.98 and bench.sent[-1] is None
    bench.arm()
    bench.step(5)
    assert bench.sent[-1].position[2] == held
    bench.controller.disarm("asked to")
    bench.step(20)
    bench.measured = np.array([*bench.measured[:2], 0.2])  # it was taken away, the fingers opened
    bench.arm()
    bench.step(5)
    assert bench.sent[-1].position[2] == pytest.approx(0.2)


def test_joint_states_that_cannot_be_true_are_a_fault_at_once_and_their_chunk_is_dropped():
    bench = moving()
    before = bench.now
    bench.measured = bench.measured + [1.0, 0.0, 0.0]
    bench.follows = False
    bench.step()
    controller = bench.controller
    assert controller.state is State.DISARMED
    assert controller.fault.startswith("yaw is said to have moved by") and "limit 2" in controller.fault
    bench.step(60)
    bench.assert_within_limits()
    assert not controller.accept(path_chunk(before), bench.now) and "cannot be true" in controller.last_refusal
    bench.arm()
    assert controller.accept(path_chunk(bench.now), bench.now)


@pytest.mark.parametrize("after", [0.0, 0.5])
def test_a_robot_that_is_blocked_when_it_is_disarmed_is_relaxed_too(after):
    bench = moving(relax_after_s=after, rearm_after_s=600.0)
    bench.controller.tracking.allowed[:2] = 0.1
    bench.follows = False
    bench.run(0.3)
    assert bench.controller.tracking.is_away
    bench.controller.disarm("asked to")
    bench.step(150)
    pressed = np.abs(bench.positions()[-1] - bench.measured)[:2].max()
    assert pressed < 1e-6 if after else pressed > 0.1
    bench.assert_within_limits()
    assert bench.sent[-1] is None


def test_a_disarmed_robot_that_somebody_moves_is_left_alone():
    bench = moving()
    bench.controller.disarm("asked to")
    bench.step(50)
    bench.follows = False
    count = len(bench.positions())
    for _ in range(200):
        bench.measured = bench.measured + [0.004, 0.0, 0.0]
        bench.step()
    assert len(bench.positions()) == count


def test_a_command_that_would_leave_too_late_is_withdrawn():
    """The process may stand still between the tick and its publication, too."""
    bench = moving()
    controller = bench.controller
    controller.published(bench.now, bench.steady)
    last = bench.sent[-1].position.copy()
    bench.step()
    late = bench.steady + 0.2
    assert not controller.too_late(bench.now, bench.steady + 0.01) and controller.too_late(bench.now, late)
    bench.sent[-1] = None  # it was not sent
    bench.measured = last
    bench.stall(0.2)
    controller.withdraw(bench.now, late)
    assert controller.state is State.HOLDING and "stood still" in controller.reason
    chunks(bench, 0.8)
    first = next(command for command in bench.sent[-40:] if command is not None)
    assert (np.abs(first.position - last) <= bench.limits.acceleration * PERIOD**2 * (1 + 1e-9)).all()
    bench.assert_within_limits()
    assert (controller.counts.too_late, controller.counts.perhaps_late) == (1, 0)
    controller.published(bench.now, bench.steady + 0.2)
    assert controller.state is State.HOLDING, "stopped in the midst of publishing"
    assert (controller.counts.too_late, controller.counts.perhaps_late) == (1, 1)


def test_a_simulated_clock_that_is_set_meanwhile_hides_no_command_that_is_too_late():
    bench = moving()
    bench.controller.stalls.limit_s = np.inf
    chunks(bench, 0.8)
    bench.controller.published(bench.now, bench.steady)
    bench.step()
    for set_by_s in (0.0, -0.3, -5.0, 60.0):
        waits = 0.01 if set_by_s else 0.0
        assert not bench.controller.too_late(bench.now + set_by_s + waits, bench.steady + waits)
        assert bench.controller.too_late(bench.now + set_by_s + 0.2, bench.steady + 0.2)


def test_joints_whose_command_left_stay_there_when_that_of_others_was_too_late():
    bench = moving()
    controller = bench.controller
    controller.published(bench.now, bench.steady)
    last = bench.sent[-1].position.copy()
    bench.step()
    late, joints = bench.steady + 0.2, np.arange(len(last)) > 0
    controller.withdraw(bench.now, late, joints)
    np.testing.assert_array_equal(controller.sent[joints], last[joints])
    np.testing.assert_array_equal(controller.sent[~joints], bench.sent[-1].position[~joints])
    assert controller.state is State.HOLDING


def test_simulated_time_that_was_elsewhere_for_a_while_and_came_back_is_a_stall_too():
    bench = moving()
    bench.controller.stalls.limit_s = np.inf
    chunks(bench, 0.5)
    bench.now += 1e9
    bench.step()
    bench.now -= 1e9
    bench.steady += 1.0  # the clock stood there, and the robot without commands
    count = len(bench.sent)
    bench.step(60)
    assert "stood still for 1.02 s" in bench.controller.reason
    first = next(command for command in bench.sent[count:] if command is not None)
    assert np.array_equal(first.position, bench.sent[count - 1].position) and not first.velocity.any()


def test_simulated_time_in_steps_that_are_too_coarse_holds_and_says_so():
    """A simulator at ten times the speed whose /clock comes a hundred times a second."""
    bench = moving()
    bench.controller.stalls.limit_s = np.inf
    chunks(bench, 0.5)
    for _ in range(60):
        bench.now += 4 * PERIOD
        bench.controller.accept(path_chunk(bench.now - 0.1), bench.now)
        bench.step()
    assert "simulated time goes in steps of 0.10 s, too coarse for 50 commands a second" in bench.controller.reason
    assert bench.sent[-1] is None
    chunks(bench, 0.8)
    assert bench.controller.state is not State.RUNNING or bench.sent[-1] is not None
    bench.assert_within_limits()
