"""Grippers that are action servers, over real DDS: goals on change, the newest wins, and whatever is wrong is said."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import wait_until

pytest.importorskip("rclpy")
from diagnostic_msgs.msg import DiagnosticArray
from gripper_server import GripperServer
from rclpy.action import ActionClient
from rclpy.node import Node
from sensor_msgs.msg import JointState
from spinning import spinning
from std_msgs.msg import String
from std_srvs.srv import SetBool

from pi0_ros.base.errors import InputError
from pi0_ros.nodes.goals import Changes, GoalMessage
from pi0_ros.nodes.messages import LATCHED, action_class
from pi0_ros.robot import Robot, robot_from_yaml, robot_to_yaml

SOURCE = Path(__file__).parents[1] / "helpers" / "chunk_source.py"
GRIPPER = "control_msgs/action/GripperCommand"
ACTION = "gripper_controller/gripper_cmd"
ARM = f"""
name: arm
control_rate_hz: 25
policy_rate_hz: 2
dataset_fps: 20
joints:
  - {{name: yaw, unit: rad, kind: revolute, limits: {{position: [-1, 1], velocity: 2, acceleration: 9}},
     action: relative}}
  - {{name: pitch, unit: rad, kind: revolute, limits: {{position: [-1, 1], velocity: 2, acceleration: 9}},
     action: relative}}
  - {{name: grip, unit: normalized, kind: gripper, limits: {{position: [0, 1], velocity: 2, acceleration: 20}},
     action: absolute}}
cameras: []
state:
  - {{topic: joint_states, type: sensor_msgs/msg/JointState, max_age_s: 2.0, names: [yaw, pitch, finger_joint],
     scale: [1, 1, 0.08]}}
commands:
  - {{name: arm, topic: arm, type: sensor_msgs/msg/JointState, joints: [yaw, pitch]}}
  - {{name: gripper, server: {ACTION}, type: {GRIPPER}, joints: [grip], scale: [0.08], on_change: 0.1,
     fixed: {{command.max_effort: 20}}}}
action: {{source: command, max_age_s: 2.0}}
"""


def robot(text: str = ARM) -> Robot:
    return robot_from_yaml(text, "arm.yaml")


def test_what_is_worth_sending_is_a_change_the_first_after_a_silence_and_where_it_rests() -> None:
    changes, sent, now = Changes(np.array([0.1])), [], 100.0

    def play(values: list[float], period: float = 0.02) -> list[float]:
        nonlocal now
        before = len(sent)
        for value in values:
            now += period
            if changes.hear(np.array([value]), now):
                changes.sent(np.array([value]))
                sent.append(value)
        return sent[before:]

    assert play([0.0] * 50) == [0.0]
    assert len(play(list(np.linspace(0.0, 1.0, 101)))) in (9, 10)
    assert play([1.0] * 50) in ([], [1.0]) and sent[-1] == pytest.approx(1.0), "it rests exactly where it was told"
    assert play([1.0 + 0.05 * (n % 2) for n in range(50)]) == [], "what trembles is no change"
    assert play([1.0], period=5.0) == [1.0], "after a silence whoever moved it meanwhile"


@pytest.mark.dds
def test_goals_of_both_types_are_filled_by_their_fields(control_msgs) -> None:
    single = robot().commands[1]
    goal = GoalMessage(single, action_class(GRIPPER)).filled(np.array([0.5]))
    assert goal.command.position == pytest.approx(0.04) and goal.command.max_effort == 20.0
    parallel = ARM.replace(GRIPPER, "control_msgs/action/ParallelGripperCommand, names: [finger_joint]")
    parallel = parallel.replace("command.max_effort: 20", "command.effort: [15]")
    goal = GoalMessage(robot(parallel).commands[1], action_class(GRIPPER.replace("Grip", "ParallelGrip"))).filled(
        np.array([1.0])
    )
    assert list(goal.command.position) == pytest.approx([0.08]) and list(goal.command.name) == ["finger_joint"]
    assert list(goal.command.effort) == [15.0]
    for before, after, expected in (
        ("command.max_effort: 20", "command.max_force: 20", "no max_force in GripperCommand; it has position, max_eff"),
        ("command.max_effort: 20", "command.max_effort: much", "GripperCommand does not take .much.: write a number"),
        ("on_change: 0.1", "field: command", "command of control_msgs/action/GripperCommand is no number"),
    ):
        with pytest.raises(InputError, match=expected):
            GoalMessage(robot(ARM.replace(before, after)).commands[1], action_class(GRIPPER))


class Body(Node):
    """The arm without its gripper; hears what the controller says."""

    def __init__(self, context) -> None:
        super().__init__("arm_driver", context=context)
        self.position, self.commands, self.state, self.said, self.told = [0.0, 0.0], 0, "", "", []
        self.create_subscription(JointState, "arm", self._on_command, 10)
        self.create_subscription(String, "pi0/state", lambda message: setattr(self, "state", message.data), LATCHED)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self.create_subscription(JointState, f"{ACTION}/sent", self.told.append, 100)
        self._states = self.create_publisher(JointState, "joint_states", 10)
        self.create_timer(0.02, self._feel)

    def _on_command(self, message: JointState) -> None:
        self.commands += 1
        self.position = list(message.position)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self.said = next((item.message for item in message.status if "controller" in item.name), self.said)

    def _feel(self) -> None:
        message = JointState(name=["yaw", "pitch"], position=self.position)
        message.header.stamp = self.get_clock().now().to_msg()
        self._states.publish(message)

    def arm(self) -> str:
        """Ask the controller to arm; what it answers, "armed" or why not."""
        client = self.create_client(SetBool, "controller/arm")
        assert client.wait_for_service(timeout_sec=30.0)
        answer = client.call_async(SetBool.Request(data=True))
        wait_until(answer.done, 30.0, "an answer")
        self.destroy_client(client)
        return str(answer.result().message)


@pytest.mark.dds
def test_a_controller_tells_a_gripper_its_goals(control_msgs, ros_context, processes, tmp_path) -> None:
    path = tmp_path / "arm.yaml"
    path.write_text(robot_to_yaml(robot()))
    body = Body(ros_context)
    with spinning(ros_context, body):
        # Somebody says where the finger is, but nobody serves its action.
        finger = body.create_publisher(JointState, "joint_states", 10)
        timer = body.create_timer(0.05, lambda: finger.publish(JointState(name=["finger_joint"], position=[0.0])))
        processes.start("policy", [sys.executable, str(SOURCE), "yaw,pitch,grip", "0.3"])
        processes.node("controller_node", robot=str(path), rearm_after_s=60.0)  # a busy machine is no failure
        wait_until(lambda: "no action server" in body.arm(), 60.0, lambda: processes.tail("controller_node"))
        assert "start the gripper's driver, or correct `server` in the robot file" in body.arm()
        body.destroy_timer(timer)

        driver = GripperServer(ros_context, ACTION, GRIPPER)
        with spinning(ros_context, driver):
            wait_until(lambda: body.arm() == "armed", 60.0, lambda: processes.tail("controller_node"))
            wait_until(lambda: body.commands > 200, 60.0, lambda: f"{body.commands} commands, {body.said}")
            asked = driver.asked()
            assert min(asked) >= 0.0 and max(asked) == pytest.approx(0.08, abs=1e-6), "open and shut, in metres"
            assert 4 < len(asked) < body.commands / 2, "on change only"
            assert {goal.command.max_effort for goal in driver.goals} == {20.0}
            wait_until(lambda: len(body.told) >= len(asked), 30.0, "what was sent is told")
            told = [message.position[0] for message in body.told[: len(asked)]]
            np.testing.assert_allclose(told, asked[-len(told) :][: len(told)], atol=1e-12)
            assert body.told[0].name == ["grip"] and body.told[0].header.stamp.sec > 0

            driver.aborts = True  # fingers on an object: said, and no reason to stop
            wait_until(lambda: "given up" in body.said, 30.0, lambda: body.said)
            wait_until(lambda: body.state == "RUNNING", 30.0, lambda: body.said)
            driver.aborts = False
            wait_until(lambda: "given up" not in body.said, 30.0, lambda: body.said)

            driver.refuses = True
            wait_until(lambda: body.state == "DISARMED", 30.0, lambda: body.said)
            wait_until(lambda: f"/{ACTION} refused the goal" in body.said, 30.0, lambda: body.said)
            driver.refuses = False

            wait_until(lambda: body.arm() == "armed", 60.0, lambda: processes.tail("controller_node"))
            wait_until(lambda: body.state == "RUNNING", 60.0, lambda: body.said)
            rival = ActionClient(body, action_class(GRIPPER), ACTION)
            wait_until(rival.server_is_ready, 30.0, "the rival finds the server")
            driver.hang = True
            rival.send_goal_async(action_class(GRIPPER).Goal())
            wait_until(lambda: body.state == "DISARMED", 30.0, lambda: body.said)
            wait_until(lambda: "another client sent" in body.said, 30.0, lambda: body.said)
            rival.destroy()
            driver.hang = False
            time.sleep(0.1)

            wait_until(lambda: body.arm() == "armed", 60.0, lambda: processes.tail("controller_node"))
            wait_until(lambda: body.state == "RUNNING", 60.0, lambda: body.said)
        wait_until(lambda: body.state == "DISARMED", 60.0, lambda: body.said)  # the driver died
        wait_until(lambda: "no action server" in body.said, 30.0, lambda: body.said)
