"""Plans are sent when the motion changes, from where the robot is, and never by way of a jump."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy")
from pi0_ros.control.chunk import ActionChunk
from pi0_ros.control.controller import Controller, Settings, State
from pi0_ros.control.limits import JointLimits
from pi0_ros.control.plan import Plan
from pi0_ros.nodes.plan_sender import Planner

PERIOD = 0.02
ONE = np.arange(1)


class Stage:
    """A controller that is ticked by hand, its planner without a thread, and a clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        limits = JointLimits(("a",), [-3.0], [3.0], [2.0], [8.0], [False])
        self.controller = Controller(limits, PERIOD, np.full(1, 0.5), Settings())
        self.now, self.position, self.plans = 100.0, np.zeros(1), []
        monkeypatch.setattr(threading.Thread, "start", lambda self: None)
        output = SimpleNamespace(publish_plan=self.plans.append)
        self.planner = Planner(self.controller, threading.Lock(), output, lambda: self.now)
        self.tick(20)
        assert self.controller.arm(self.now) == []

    def tick(self, ticks: int = 1) -> None:
        for _ in range(ticks):
            self.now += PERIOD
            self.controller.measure(self.now, ONE, self.position)
            command = self.controller.tick(self.now)
            self.planner.ticked(command, self.now)
            self.position = command.position if command is not None else self.position
            if self.planner._wanted.is_set():  # as its thread would
                self.planner._wanted.clear()
                self.planner.publish()

    def chunk(self, speed: float = 0.8) -> None:
        way = self.position + speed * 0.05 * np.arange(40)[:, None]
        assert self.controller.accept(ActionChunk(self.now, 0.05, way, ("a",)), self.now)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(monkeypatch)


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


def test_after_standing_still_the_robot_brakes_where_it_is_and_is_disarmed(stage):
    """The robot executes its plan by its own clock: what the controller would send next is far behind it."""
    stage.chunk()
    stage.tick(25)
    going: Plan = stage.plans[-1]
    began = stage.now - 24 * PERIOD
    stage.now += 1.2  # the process stood still
    stage.tick()
    there = np.interp(stage.now - began, going.times, going.positions[:, 0])
    assert there - stage.position[0] > 0.7
    stop = stage.plans[-1]
    assert stage.controller.state is State.DISARMED and "stood still" in stage.controller.reason
    assert there <= stop.positions[0, 0] and abs(stop.positions[-1, 0] - there) < 0.1
    stage.tick(60)
    assert abs(stage.plans[-1].positions[-1, 0] - there) < 0.1, "the controller's own stop is not sent"


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
