"""Plans are sent when the motion changes, from where the robot is, and never by way of a jump."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy")
from chunks import chunk_of

from pi0_ros.control.controller import Controller
from pi0_ros.control.limits import JointLimits
from pi0_ros.control.plan import Plan, begun, motion_along
from pi0_ros.control.states import Settings, State
from pi0_ros.nodes.plan_sender import Planner

PERIOD = 0.02
ONE = np.arange(1)


class Stage:
    """A controller that is ticked by hand, its planner without a thread, and a clock."""

    def __init__(self) -> None:
        limits = JointLimits(("a",), [-3.0], [3.0], [2.0], [8.0], [False])
        self.controller = Controller(limits, PERIOD, np.full(1, 0.5), Settings())
        self.controller.goes_alone = np.ones(1, bool)
        self.now, self.position, self.plans = 100.0, np.zeros(1), []
        self.follows = True
        self.sent_at: list[float] = []
        self.said: list[tuple[str, Plan | None, float]] = []  # state, plan and its beginning
        self.state = ""
        output = SimpleNamespace(
            wants_plans=True,
            publish_plan=lambda plan: (self.plans.append(plan), self.sent_at.append(self.now)),
            say_state=lambda state: setattr(self, "state", state),
            say_plan=lambda plan, begins: self.said.append((self.state, plan, begins)),
        )
        self.planner = Planner(self.controller, threading.Lock(), output, lambda: self.now)
        self.tick(20)
        assert self.controller.arm(self.now) == []

    def tick(self, ticks: int = 1) -> None:
        for _ in range(ticks):
            self.now += PERIOD
            self.controller.measure(self.now, ONE, self.position)
            command = self.controller.tick(self.now)
            self.planner.ticked(command, self.now)
            if command is not None and self.follows:
                self.position = command.position
            if self.planner._wanted.is_set():  # as its thread would
                self.planner._wanted.clear()
                self.planner.publish()

    def chunk(self, speed: float = 0.8) -> None:
        way = self.position + speed * 0.05 * np.arange(40)[:, None]
        assert self.controller.accept(chunk_of(self.now, 0.05, way, ("a",)), self.now)


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_a_plan_is_sent_when_the_motion_changes_and_again_after_arming(stage):
    stage.tick(5)
    assert len(stage.plans) == 1
    stage.chunk()
    stage.tick(20)
    assert len(stage.plans) == 2 and stage.plans[-1].positions[-1, 0] > 1.0
    stage.controller.estop("test")
    stage.tick(60)
    assert len(stage.plans) == 3 and stage.plans[-1].positions[-1, 0] == pytest.approx(stage.position[0])
    assert stage.controller.reset() == [] and stage.controller.arm(stage.now) == []
    stage.position = stage.position + 0.0
    stage.tick(2)
    assert len(stage.plans) == 4, "the robot is told to hold where it was armed"


@pytest.mark.parametrize("seconds", [0.3, 0.6, 0.95, 3.0])
def test_after_a_stall_the_robot_brakes_where_its_plan_has_led_it(stage, seconds):
    """The robot executes its plan by its own clock: what the controller would send next is far behind it."""
    stage.chunk()
    stage.tick(25)
    going: Plan = stage.plans[-1]
    began, count = stage.now - 24 * PERIOD, len(stage.plans)
    stage.now += seconds  # the process stood still
    there = np.interp(stage.now + PERIOD - began, going.times, going.positions[:, 0])
    stage.position = np.array([there])
    stage.tick()
    over = seconds > going.times[-1]
    assert len(stage.plans) == count + (not over) and "stood still" in stage.controller.reason
    assert stage.controller.state is (State.HOLDING if seconds < 1.0 else State.DISARMED)
    stop = stage.plans[-1]
    if not over:
        assert there - going.positions[0, 0] > 0.3 * seconds
        assert there <= stop.positions[0, 0] + 1e-9 and abs(stop.positions[-1, 0] - there) < 0.1
    stage.position = stop.positions[-1]
    stage.tick(60)
    assert abs(stage.plans[-1].positions[-1, 0] - stop.positions[-1, 0]) < 5e-3, "it stays there"


def test_a_robot_on_two_plans_in_a_row_is_never_asked_for_more_than_its_limits(stage):
    """Also where the second is sent while the robot is still on its way to the first one's first point."""
    limits, position = stage.controller.limits, 0.0
    for k in range(30):
        stage.chunk(0.8 * (-1) ** k)
        stage.tick(7)
        stage.now += (0.0, 0.04, 0.02)[k % 3]  # a little late
    plans, at = stage.plans, stage.sent_at
    velocity = 0.0
    for plan, begins, ends in zip(plans, at, [*at[1:], at[-1] + 9.0]):
        path = begun(plan, np.array([position]), np.array([velocity]))
        speeds = np.diff(path.positions[:, 0]) / np.diff(path.times)
        assert (np.abs(speeds) <= limits.velocity * (1 + 1e-6)).all(), speeds
        (position,), (velocity,) = motion_along(path, ends - begins)


def test_an_outdated_plan_is_not_sent(stage, monkeypatch):
    stage.chunk()
    stage.tick(10)
    count = len(stage.plans)
    fork = stage.controller.fork

    def stopped_meanwhile() -> Controller:
        ahead = fork()
        stage.controller.estop("while it looked ahead")
        return ahead

    monkeypatch.setattr(stage.controller, "fork", stopped_meanwhile)
    stage.planner.publish()
    assert len(stage.plans) == count


def test_what_will_be_sent_is_said_whenever_it_changes_and_that_nothing_will(stage):
    stage.tick(5)
    stage.chunk()
    stage.tick(20)
    assert [state for state, _, _ in stage.said] == ["IDLE", "RUNNING"]
    _, plan, begins = stage.said[-1]
    assert plan is not None
    count = round((stage.now - begins) / PERIOD)
    np.testing.assert_allclose(plan.positions[count], stage.position, atol=1e-9)
    stage.controller.estop("test")
    stage.tick(60)
    (stopping, stop, _), (stopped, nothing, _) = stage.said[2:]
    assert (stopping, stopped) == ("STOPPED", "STOPPED") and nothing is None
    assert stop is not None and stop.positions[-1, 0] == pytest.approx(stage.position[0])


def test_skipped_ticks_change_what_is_said_but_not_too_often(stage):
    stage.chunk()
    stage.tick(3)
    count, sent = len(stage.said), len(stage.plans)
    for _ in range(20):  # every other tick is missed
        stage.now += PERIOD
        stage.tick()
        if stage.said[-1][2] == stage.now:
            np.testing.assert_array_equal(stage.said[-1][1].positions[0], stage.position)
    assert 3 <= len(stage.said) - count <= 5 and len(stage.plans) == sent


def test_a_first_plan_that_took_long_to_make_begins_where_the_robot_rests(stage, monkeypatch):
    """A slow machine, or a high rate: the commands are far ahead when the first plan is ready."""
    stage.tick(5)
    stage.controller.disarm("test")
    stage.tick(60)
    assert stage.controller.arm(stage.now) == []
    started = stage.position.copy()
    monkeypatch.setattr(stage.planner, "publish", lambda: None)
    stage.tick(1)
    stage.chunk()
    stage.tick(25)
    monkeypatch.undo()
    assert stage.position[0] - started[0] > 0.2
    before = len(stage.plans)
    stage.planner.publish()
    (plan,) = stage.plans[before:]
    assert abs(plan.positions[0, 0] - started[0]) <= 2.0 * plan.times[0], "within the velocity limit"
    assert plan.positions[0, 0] - started[0] > 0.2 and plan.times[0] > 0.1


@pytest.mark.parametrize("seconds", [0.3, 0.6, 0.95, 3.0])
@pytest.mark.parametrize("heard_after", [0, 3])
@pytest.mark.parametrize("by", [-1.5, -0.8, 2.0])
def test_a_robot_that_was_moved_during_a_stall_is_not_pulled_back(stage, seconds, heard_after, by):
    """By hand, or by a driver that gave its plan up: it stands elsewhere than its plan would have led it."""
    stage.chunk()
    stage.tick(25)
    pushed, count = stage.position + by, len(stage.plans)
    stage.now += seconds  # the process stood still
    stage.position = pushed
    measure, heard = stage.controller.measure, iter(range(10**9))
    stage.controller.measure = lambda *args: measure(*args) if next(heard) >= heard_after else None  # ticks come first
    stage.follows = False
    stage.tick(15 if seconds < 0.5 else 60)
    for plan in stage.plans[count:]:
        assert abs(plan.positions[0, 0] - pushed[0]) <= 2.0 * plan.times[0] + 1e-9, (plan.times[0], plan.positions[0])
    if seconds < 0.5:  # within `rearm_after_s`: it goes on by itself
        stage.follows, count = True, len(stage.plans)
        stage.chunk()
        stage.tick(5)
        assert stage.controller.state is State.RUNNING and len(stage.plans) == count + 1
        assert stage.plans[-1].positions[-1, 0] > pushed[0] + 1.0 or stage.plans[-1].positions[-1, 0] == 3.0


def test_fingers_that_are_not_where_they_were_told_to_be_are_not_hurried(stage):
    """After a pause: the first plan, and the next one while the robot is on its way to the first one's first point."""
    limits = JointLimits(("a",), [0.0], [1.0], [5.0], [50.0], [True])
    stage.controller = Controller(limits, PERIOD, np.full(1, 0.5), Settings())
    stage.controller.goes_alone = np.ones(1, bool)
    stage.planner = Planner(stage.controller, threading.Lock(), stage.planner._output, lambda: stage.now)
    stage.plans.clear()
    stage.position = np.array([1.0])
    stage.tick(20)
    assert stage.controller.arm(stage.now) == []
    stage.planner._told = np.zeros(1)  # closed, and yet it is open
    stage.follows = False
    stage.sent_at.clear()
    for k in range(3):
        assert stage.controller.accept(chunk_of(stage.now, 0.05, np.full((40, 1), 0.3 - 0.1 * k), ("a",)), stage.now)
        stage.tick(4)
    assert len(stage.plans) >= 3
    for start in (0.0, 1.0):
        position = np.array([start])
        for plan, begins, ends in zip(stage.plans, stage.sent_at, [*stage.sent_at[1:], stage.now + 9.0]):
            path = begun(plan, position, np.zeros(1))
            speeds = np.diff(path.positions[:, 0]) / np.diff(path.times)
            assert (np.abs(speeds) <= limits.velocity * (1 + 1e-6)).all(), (start, speeds)
            position, _ = motion_along(path, ends - begins)
