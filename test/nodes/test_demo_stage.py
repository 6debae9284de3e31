"""The demo's director beside a real controller: an emergency stop at any moment waits for the reset."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Processes, wait_until

rclpy = pytest.importorskip("rclpy")
from launched import Body  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from spinning import spinning  # noqa: E402

from pi0_ros.base.errors import Pi0Error  # noqa: E402
from pi0_ros.nodes import stage as stages  # noqa: E402
from pi0_ros.nodes.operator import operator  # noqa: E402
from pi0_ros.nodes.stage import Stage  # noqa: E402

pytestmark = pytest.mark.dds
ARM_S = 4.0  # more than the time between two diagnostics


def press(button: str) -> bool:
    with operator("", 20.0) as robot:
        return getattr(robot, button)()[0]


@pytest.fixture
def executor(ros_context: rclpy.Context, processes: Processes, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """The stage's, in a domain with a robot, a controller and chunks that swing it."""
    monkeypatch.setattr(stages, "ARM_LIMIT_S", ARM_S)
    processes.node("controller_node", robot="demo_arm", rearm_after_s=600.0, chunk_timeout_s=600.0)
    rclpy.init()
    executor = SingleThreadedExecutor()
    with spinning(ros_context, Body(ros_context)):
        yield executor
    executor.shutdown()
    rclpy.try_shutdown()


def ready_stage(
    executor: SingleThreadedExecutor, processes: Processes, monkeypatch: pytest.MonkeyPatch, attended: bool
) -> Stage:
    """One that knows the controller, and beside which the stop is pressed when it is about to ask for arming."""
    stage = Stage(executor, processes, attended=attended)
    assert stage.spin(lambda: stage.chunks > 1 and stage.controller.get("state") == "DISARMED", 60.0)
    pressed = []

    def call(*words: Any) -> Any:
        if not pressed:
            pressed.append(press("estop"))
            assert pressed[0] and stage.controller["state"] == "DISARMED", "it has not heard of the stop"
        return stages_call(*words)

    stages_call = stages.call
    monkeypatch.setattr(stages, "call", call)
    return stage


def test_a_stop_just_before_it_arms_waits_for_the_reset(
    executor: SingleThreadedExecutor,
    processes: Processes,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The reset comes later than arming would have been given up."""
    stage = ready_stage(executor, processes, monkeypatch, attended=True)
    reset = threading.Timer(2 * ARM_S, lambda: wait_until(lambda: press("reset"), 20.0))
    reset.start()
    try:
        stage.arm()
    finally:
        reset.join()
    assert stage.spin(lambda: stage.controller.get("state") == "RUNNING", 20.0), stage.controller
    assert capfd.readouterr().out.count("emergency stop: press Reset") == 1
    stage.close()


def test_without_somebody_who_watches_a_stop_is_the_end(
    executor: SingleThreadedExecutor, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = ready_stage(executor, processes, monkeypatch, attended=False)
    with pytest.raises(Pi0Error, match="refused to arm: .*reset"):
        stage.arm()
    stage.close()
