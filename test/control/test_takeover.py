"""A person takes over and lets go at any moment: no jump, limits hold, and it is always said who is in charge."""

from __future__ import annotations

import numpy as np
import pytest
from arms import PERIOD, Bench, path_chunk
from hypothesis import given, settings
from hypothesis import strategies as st

from pi0_ros.control.chunk import ChunkError
from pi0_ros.control.limits import JointLimits
from pi0_ros.control.states import Settings, State
from pi0_ros.control.takeover import Takeover
from pi0_ros.robot.types import TakeoverTopics

GRIPPER = 2
BY_SWITCH, BY_COMMANDS = TakeoverTopics(), TakeoverTopics(begins="commands")


def drive(bench: Bench, seconds: float, person: np.ndarray | None = None, policy: bool = True, rate: int = 1) -> None:
    """Let the policy's chunks come, and with `person` [3] a pose every `rate` ticks, that trembles and drifts."""
    for tick in range(round(seconds / bench.period)):
        if policy and tick % round(0.4 / bench.period) == 0:
            bench.controller.accept(path_chunk(bench.now - 0.1), bench.now)
        if person is not None and tick % rate == 0:
            drift = 0.3 * np.sin(bench.steady + np.arange(3)) * [1, 1, 0]
            bench.controller.lead(person + drift, bench.steady + bench.period / 2)
        bench.step()


def test_a_person_takes_over_and_the_policy_goes_on() -> None:
    bench = Bench(takeover=BY_COMMANDS)
    bench.arm()
    drive(bench, 1.0)
    assert bench.controller.in_charge == "policy"
    person = np.array([-1.0, 0.5, 0.0])
    drive(bench, 3.0, person)
    assert bench.controller.state is State.TAKEOVER and bench.controller.in_charge == "person"
    expected = person + 0.3 * np.sin(bench.steady + np.arange(3)) * [1, 1, 0]
    assert np.abs(bench.sent[-1].position - expected)[:2].max() < 0.05, "the robot is where the person is"
    drive(bench, 6.0)
    assert bench.controller.state is State.RUNNING and bench.controller.report(bench.now)["takeovers"] == 1
    on_path = np.abs(bench.sent[-1].position - path_chunk(bench.now).actions[0])
    assert on_path[:2].max() < 0.05, "and on the policy's way again"
    bench.assert_within_limits()


@pytest.mark.parametrize("takeover", [BY_SWITCH, BY_COMMANDS])
def test_a_hundred_handovers_at_random_moments_stay_within_the_limits(takeover: TakeoverTopics) -> None:
    random = np.random.default_rng(0)
    bench = Bench(takeover=takeover)
    bench.arm()
    drive(bench, 1.0)
    handovers = 0
    for _ in range(50):
        bench.controller.switch(True)
        drive(
            bench, random.uniform(0.05, 1.2), random.uniform([-1.9, -0.9, 0], [1.9, 0.9, 1]), rate=random.integers(1, 4)
        )
        assert bench.controller.in_charge == "person"
        bench.controller.switch(False)
        back = bench.now - (0.0 if takeover is BY_SWITCH else 0.02)  # when their last command came
        drive(bench, random.uniform(0.85, 1.4))
        assert bench.controller.in_charge == "policy", bench.controller.reason
        chunk = bench.controller.timeline.chunk
        assert chunk is not None and chunk.stamp > back - PERIOD, "of what was seen after handing back"
        handovers += 2
    assert handovers == 100 and bench.controller.counts.takeovers == 50
    assert all(command is not None for command in bench.sent[-1000:])
    assert bench.controller.counts.set_aside > 50
    bench.assert_within_limits()
    speed = np.diff(bench.positions(), axis=0)[:, :GRIPPER] / PERIOD
    step = np.abs(np.diff(speed, axis=0)).max(axis=0)
    assert (step <= bench.limits.acceleration[:GRIPPER] * PERIOD * (1 + 1e-6)).all(), "no jump of the velocity"


@settings(max_examples=25, deadline=None)
@given(
    seeds=st.lists(st.integers(0, 2**31), min_size=1, max_size=6),
    period=st.sampled_from([0.02, 0.004]),
    jerk=st.sampled_from([np.inf, 200.0]),
)
def test_whatever_the_person_does_limits_hold(seeds: list[int], period: float, jerk: float) -> None:
    limits = Bench().limits
    bench = Bench(JointLimits(limits.names, *_of(limits), jerk=np.full(3, jerk)), period=period, takeover=BY_COMMANDS)
    bench.arm()
    for seed in seeds:
        random = np.random.default_rng(seed)
        wild = random.uniform([-5.0, -2.5, -0.9], [5.0, 2.5, 1.9])
        for _ in range(int(random.integers(1, 60))):
            if random.random() < 0.8:
                bench.controller.lead(wild * random.uniform(0.5, 1.0), bench.steady)
            bench.step()
        bench.step(int(random.integers(0, 80)))
        if bench.controller.state is State.DISARMED:
            bench.step(200)
            bench.controller.arm(bench.now)
    bench.assert_within_limits()


def _of(limits: JointLimits) -> tuple[np.ndarray, ...]:
    return limits.lower, limits.upper, limits.velocity, limits.acceleration, limits.gripper


def test_a_far_leader_is_approached_slowly_and_a_gripper_keeps_what_it_holds() -> None:
    limits = Bench().limits
    takeover = Takeover(limits, timeout_s=0.3, blend_s=0.5)
    command, leader = np.array([-1.9, 0.0, 1.0]), np.array([1.9, 0.0, 0.0])
    takeover.hear(leader, 10.0)
    takeover.begin(command, 10.0)
    places, speeds = [], []
    for t in np.arange(10.0, 20.0, 0.02):
        takeover.hear(leader, t)
        position, velocity = takeover.target(t)
        places.append(position.copy())
        speeds.append(velocity.copy())
    assert np.abs(places[0] - command).max() < 1e-9 and np.abs(places[-1][:2] - leader[:2]).max() < 1e-9
    assert np.abs(speeds)[:, 0].max() <= 0.5 * limits.velocity[0] * (1 + 1e-6)
    assert (np.array(places)[:, GRIPPER] == 1.0).all(), "the leader's gripper is open, but nobody has moved it"
    takeover.hear(leader + [0, 0, 0.3], 20.0)
    takeover.hear(leader + [0, 0, 0.3], 20.05)
    assert takeover.target(20.2)[0][GRIPPER] == pytest.approx(0.3)


def test_letting_go_without_a_policy_is_a_hold_and_then_no_fault() -> None:
    bench = Bench(takeover=BY_COMMANDS)
    bench.arm()
    drive(bench, 1.0, np.array([0.5, 0.2, 0.0]), policy=False)
    assert bench.controller.in_charge == "person", "also before the first chunk"
    drive(bench, 0.5, policy=False)
    assert bench.controller.state is State.HOLDING and "handed back" in bench.controller.reason
    drive(bench, 2.5, policy=False)
    assert bench.controller.state is State.DISARMED and not bench.controller.fault
    bench.assert_within_limits()


def test_a_stop_a_fault_and_a_withheld_button_outrank_the_person() -> None:
    person = np.array([0.5, 0.2, 0.0])
    for end in ("estop", "fail", "disarm"):
        bench = Bench(takeover=BY_COMMANDS)
        bench.arm()
        drive(bench, 0.6, person)
        getattr(bench.controller, end)("test")
        drive(bench, 1.0, person)
        assert bench.controller.in_charge == "nobody" and not bench.controller.moving
        bench.assert_within_limits()
    bench = Bench(takeover=BY_COMMANDS)
    bench.arm()
    drive(bench, 0.6, person)
    bench.controller.withheld = "the button is not pressed"
    drive(bench, 0.5, person)
    assert bench.controller.state is State.HOLDING
    bench.controller.withheld = ""
    drive(bench, 0.2, person)
    assert bench.controller.state is State.TAKEOVER
    for pose, word in ([np.nan, 0.0, 0.0], "no numbers"), ([90.0, 0.0, 0.0], "far outside its limits"):
        with pytest.raises(ChunkError, match=word):
            bench.controller.lead(np.array(pose), bench.steady)
    bench.assert_within_limits()


def test_looking_ahead_of_a_takeover_ends_in_a_hold() -> None:
    bench = Bench(takeover=BY_COMMANDS)
    bench.arm()
    drive(bench, 1.0, np.array([1.0, 0.5, 0.0]))
    ahead = bench.controller.fork()
    states = []
    for tick in range(60):
        ahead.tick(bench.now + (tick + 1) * PERIOD, bench.steady + (tick + 1) * PERIOD)
        states.append(ahead.state)
    assert states[0] is State.TAKEOVER and states[-1] is State.HOLDING and not ahead.moving
    assert bench.controller.state is State.TAKEOVER


def test_the_switch_says_who_leads_and_a_silent_person_is_a_hold() -> None:
    person = np.array([0.5, 0.2, 0.0])
    bench = Bench(takeover=BY_SWITCH)
    bench.controller.switch(True)
    bench.arm()
    drive(bench, 1.0, person)
    assert bench.controller.in_charge == "policy", "a leader arm speaks all the time; while disarmed nobody switches"
    bench.controller.switch(True)
    drive(bench, 0.5, person)
    assert bench.controller.in_charge == "person"
    drive(bench, 0.6)
    assert bench.controller.state is State.HOLDING and "none of their poses" in bench.controller.reason
    drive(bench, 0.3, person)
    assert bench.controller.in_charge == "person"
    drive(bench, 0.6)
    bench.controller.switch(False)
    back = bench.now
    bench.step()
    assert bench.controller.state is State.HOLDING and "handed back" in bench.controller.reason
    drive(bench, 1.0)
    chunk = bench.controller.timeline.chunk
    assert bench.controller.in_charge == "policy" and chunk is not None and chunk.stamp > back
    bench.controller.switch(True)
    drive(bench, 2.0)
    assert bench.controller.state is State.DISARMED and "none of their poses" in bench.controller.fault
    bench.assert_within_limits()


def test_old_chunks_are_not_mixed_into_those_after_handing_back() -> None:
    bench = Bench(settings=Settings(transition="ensemble"), takeover=BY_SWITCH)
    bench.arm()
    drive(bench, 1.0)
    bench.controller.switch(True)
    drive(bench, 1.0, np.array([1.0, 0.5, 0.0]))
    bench.controller.accept(path_chunk(bench.now - 0.1, offset=0.5), bench.now)
    bench.controller.switch(False)
    bench.step()
    bench.controller.accept(path_chunk(bench.now - 0.05, offset=0.5), bench.now)
    bench.step(5)
    assert bench.controller.state is State.HOLDING, "both are of what was seen before"
    fresh = path_chunk(bench.now)
    bench.controller.accept(fresh, bench.now)
    bench.step()
    chunk = bench.controller.timeline.chunk
    assert chunk is not None and np.allclose(chunk.actions, fresh.actions, rtol=0, atol=1e-9)
