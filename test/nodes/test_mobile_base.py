"""A mobile robot over real DDS: arms, lift and base move within their limits, and however it ends, the base stands.

The controller is a process, so is what makes chunks; this process is the robot. Its base has no timeout of its own: it
would drive on for ever with the last command.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import wait_until
from judge import judge

pytest.importorskip("rclpy")
from mobile_robot import MobileRobot
from rclpy.context import Context
from rclpy.node import Node
from spinning import spinning
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from pi0_ros.nodes.messages import LATCHED, stamp_to_seconds
from pi0_ros.robot import Robot, load_robot, robot_to_yaml

pytestmark = pytest.mark.dds
DRIVER = Path(__file__).parents[1] / "helpers" / "base_driver.py"
ROBOT = load_robot("mobile_bimanual")
AGE_S = 2.0  # a busy machine is no failure
RATE_HZ = 20.0  # and its stalls are longer
ROBOT = replace(ROBOT, control_rate_hz=RATE_HZ, state=tuple(replace(item, max_age_s=AGE_S) for item in ROBOT.state))


class Operator(Node):
    """Asks the controller, and hears in which state it is."""

    def __init__(self, name: str, context: Context) -> None:
        super().__init__(name, context=context)
        self.state = ""
        self.create_subscription(String, "pi0/state", self._on_state, LATCHED)

    def _on_state(self, message: String) -> None:
        self.state = message.data

    def ask(self, name: str, on: bool | None = None) -> bool:
        kind, request = (Trigger, Trigger.Request()) if on is None else (SetBool, SetBool.Request(data=on))
        client = self.create_client(kind, f"/controller/{name}")
        assert client.wait_for_service(timeout_sec=30.0)
        answer = client.call_async(request)
        wait_until(answer.done, 30.0, f"an answer of {name}")
        self.destroy_client(client)
        return bool(answer.result().success)


@pytest.fixture
def body(ros_context) -> Iterator[MobileRobot]:
    node = MobileRobot(ros_context, ROBOT)
    with spinning(ros_context, node):
        yield node


@pytest.fixture
def operator(ros_context) -> Iterator[Operator]:
    node = Operator("operator", context=ros_context)
    with spinning(ros_context, node):
        yield node


def judged(body: MobileRobot, robot: Robot) -> None:
    """Every command was within the limits, and what the base heard was among them.

    Next to a stall of a busy machine one command may be late (docs/safety.md, "What cannot be closed").
    """
    record = list(body.sent)
    times = np.array([stamp_to_seconds(message.header.stamp) for message in record])
    path = np.array([message.points[0].positions for message in record])
    verdict = judge(robot, times, path, (np.array(body.measured_at), np.array(body.measured)))
    pauses = [re.search(r"s \[([\d., ]+)\]", breach) for breach in verdict.breaches]
    longest = [max(map(float, found[1].split(","))) if found else 0.0 for found in pauses]
    wrong = [text for text, pause in zip(verdict.breaches, longest) if pause < 1.5 / RATE_HZ]
    assert not wrong and len(record) > 100, wrong[:5]
    told = {tuple(command) for _, command in body.told["base"]}
    heard = {tuple(row) for row in path[:, -2:].tolist()} | {(0.0, 0.0)}
    assert len(told - heard) <= len(told) // 50, "a message may be lost on one of the two ways"
    assert not body.last("base").any()


def test_however_it_ends_the_base_stands(tmp_path, processes, body, operator) -> None:
    path = tmp_path / "mobile.yaml"
    path.write_text(robot_to_yaml(ROBOT))
    middle = ",".join(f"{value:g}" for value in body.where())

    def drive() -> None:
        """Start the policy where there is none, arm, and wait until the robot is under way."""
        if not processes.is_running("driver"):
            processes.start("driver", [sys.executable, str(DRIVER), str(path), middle])

        def under_way() -> bool:  # a policy that has just appeared needs a second word
            operator.ask("arm", True)
            return bool(body.speed[0] > 0.15)

        wait_until(under_way, 60.0, lambda: f"driving: {body.speed}\n{processes.tail('controller_node')}")

    def rests(commanded: bool = False) -> None:
        told = len(body.told["base"])
        wait_until(lambda: not body.last("base").any(), 30.0, lambda: f"zero: {body.last('base')}")
        wait_until(lambda: np.abs(body.speed).max() < 1e-3, 30.0, lambda: f"standing: {body.speed}")
        driven = body.driven.copy()
        time.sleep(0.4)
        np.testing.assert_allclose(body.driven, driven, atol=1e-3)
        assert len(body.told["base"]) >= told and not body.last("base").any()

    processes.node("controller_node", robot=str(path))
    drive()
    assert np.ptp([message.points[0].positions[0] for message in body.sent]) > 0.02, "the arm waves"
    processes.signal("driver", signal.SIGKILL)  # the policy dies: hold, then disarmed
    wait_until(lambda: operator.state == "DISARMED", 30.0, "the end of the last chunk")
    rests()
    assert operator.ask("arm", False)  # acknowledged

    drive()
    assert operator.ask("arm", False)  # disarmed
    rests()

    drive()
    assert operator.ask("estop")
    rests()
    assert operator.ask("reset")

    drive()
    body.blocked = True  # the base's wheels stand: they do not follow, which is a hold, and a fault
    wait_until(lambda: operator.state == "DISARMED", 30.0, "a blocked base is a fault")
    assert operator.ask("arm", False)
    body.blocked = False
    rests()

    drive()
    pid = processes.pid("controller_node")
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not processes.is_running("controller_node"), 30.0, "the controller's end")
    rests()
    judged(body, ROBOT)
