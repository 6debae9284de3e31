"""A hand that is told by twists, as MoveIt Servo is, over real DDS: however it ends, the last twist is zero.

The arm has no timeout of its own, where a test gives it none: it would go on for ever with the last twist.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import wait_until
from servoed_arm import SERVOED

pytest.importorskip("rclpy")
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TwistStamped
from rclpy.context import Context
from rclpy.node import Node
from sensor_msgs.msg import JointState
from spinning import spinning
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import SetBool, Trigger

from pi0_ros.nodes.messages import LATCHED
from pi0_ros.robot import robot_from_yaml

pytestmark = pytest.mark.dds
SOURCE = Path(__file__).parents[1] / "helpers" / "chunk_source.py"
PERIOD_S = 0.02
FASTEST = np.array([0.25] * 3 + [1.0] * 3)
CHANGE = 4.0 * FASTEST / 20.0  # from one twist to the next


class Arm(Node):
    """Two joints that the twist moves, a gripper, and what was told."""

    def __init__(self, context: Context, stops_after_s: float = np.inf) -> None:
        super().__init__("servo_node", context=context)
        self.told: list[np.ndarray] = []
        self.goes = np.zeros(6)  # what it makes of that
        self.jumps: list[np.ndarray] = []  # of what it goes by, with every twist
        self._stops_after_s, self._told_at = stops_after_s, -np.inf
        self.frames: set[str] = set()
        self.position, self.grip, self.arm_speaks, self.state, self.said = np.zeros(2), 0.0, True, "", ""
        self.create_subscription(TwistStamped, "/servo_node/delta_twist_cmds", self._on_twist, 500)
        self.create_subscription(Float64MultiArray, "/gripper/commands", self._on_grip, 10)
        self.create_subscription(String, "pi0/state", lambda message: setattr(self, "state", message.data), LATCHED)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self.grips: list[float] = []
        self.leaps = 0.0  # what the wrist's driver makes up
        self._states = self.create_publisher(JointState, "/joint_states", 10)
        self.create_timer(PERIOD_S, self._move)

    @property
    def last(self) -> np.ndarray:
        return self.told[-1] if self.told else np.zeros(6)

    def _on_twist(self, message: TwistStamped) -> None:
        linear, angular = message.twist.linear, message.twist.angular
        self._stop()
        self.told.append(np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z]))
        self.jumps.append(np.abs(self.last - self.goes))
        self.goes, self._told_at = self.last, time.monotonic()
        self.frames.add(message.header.frame_id)

    def _stop(self) -> None:
        if time.monotonic() - self._told_at > self._stops_after_s:
            self.goes = np.zeros(6)

    def _on_grip(self, message: Float64MultiArray) -> None:
        self.grip = message.data[0]
        self.grips.append(self.grip)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self.said = next((item.message for item in message.status if "controller" in item.name), self.said)

    def _move(self) -> None:
        self._stop()
        self.position += self.goes[:2] * PERIOD_S
        arm = {"elbow": self.position[0], "wrist": self.position[1] + self.leaps} if self.arm_speaks else {}
        joints = {**arm, "grip": self.grip}
        message = JointState(name=list(joints), position=list(map(float, joints.values())))
        message.header.stamp = self.get_clock().now().to_msg()
        self._states.publish(message)

    def ask(self, name: str, on: bool | None = None) -> str:
        """ "" where it was done, else why not."""
        kind, request = (Trigger, Trigger.Request()) if on is None else (SetBool, SetBool.Request(data=on))
        client = self.create_client(kind, f"/controller/{name}")
        assert client.wait_for_service(timeout_sec=60.0)
        answer = client.call_async(request)
        wait_until(answer.done, 60.0, f"an answer of {name}")
        self.destroy_client(client)
        return "" if answer.result().success else str(answer.result().message)


def test_however_it_ends_the_last_twist_is_zero(tmp_path, processes, ros_context) -> None:
    path = tmp_path / "servoed.yaml"
    path.write_text(SERVOED.replace("{name: hand,", "{name: hand, hold: true,"))  # its driver never stops by itself
    names = ",".join(robot_from_yaml(SERVOED, "servoed.yaml").action_names)
    arm = Arm(ros_context)

    def drive() -> None:
        if not processes.is_running("policy"):
            processes.start("policy", [sys.executable, str(SOURCE), names, "0.2"])

        def under_way() -> bool:
            arm.ask("arm", True)
            return bool(np.abs(arm.last[:2]).min() > 0.04)

        wait_until(under_way, 60.0, lambda: f"{arm.said}\n{processes.tail('controller_node')}")

    def rests() -> None:
        wait_until(lambda: not arm.last.any(), 30.0, lambda: f"{arm.last}, {arm.said}")
        stood = arm.position.copy()
        time.sleep(0.3)
        np.testing.assert_array_equal(arm.position, stood)

    with spinning(ros_context, arm):
        processes.node("controller_node", robot=str(path), rearm_after_s=8.0)  # a busy machine is no failure
        drive()
        processes.signal("policy", signal.SIGKILL)
        wait_until(lambda: arm.state == "DISARMED", 30.0, lambda: arm.said)
        rests()
        drive()
        assert not arm.ask("estop")
        rests()
        assert not arm.ask("reset")

        drive()
        wait_until(lambda: abs(arm.last[0]) > 0.12, 30.0, lambda: arm.said)
        processes.signal("controller_node", signal.SIGSTOP)
        time.sleep(0.6)  # what had left has come
        before = len(arm.told)
        processes.signal("controller_node", signal.SIGCONT)
        wait_until(lambda: len(arm.told) > before, 30.0, lambda: arm.said)
        change = np.abs(arm.told[before] - arm.told[before - 1])
        assert (change <= CHANGE * (1 + 1e-6)).all() and arm.told[before].any(), arm.told[before - 1 :]

        drive()
        arm.leaps = 2.0
        wait_until(lambda: "wrist is said to have moved by" in arm.said, 30.0, lambda: arm.said)
        wait_until(lambda: arm.state == "DISARMED", 30.0, lambda: arm.said)
        arm.leaps = 0.0
        rests()

        drive()
        arm.arm_speaks = False  # of the gripper something is heard still
        wait_until(lambda: "joint state of elbow, wrist" in arm.said, 30.0, lambda: arm.said)
        rests()
        wait_until(lambda: arm.state == "DISARMED", 30.0, lambda: arm.said)
        assert "joint state of elbow, wrist" in arm.ask("arm", True)
        arm.arm_speaks = True

        drive()
        os.kill(processes.pid("controller_node"), signal.SIGTERM)
        wait_until(lambda: not processes.is_running("controller_node"), 30.0, "the controller's end")
        rests()
    told = np.array(arm.told)
    assert arm.frames == {"base_link"} and {0.0, 1.0} <= {*arm.grips}, "it opens and closes"
    assert min(arm.grips) >= 0.0 and max(arm.grips) <= 1.0
    assert (np.abs(told) <= FASTEST + 1e-9).all() and np.abs(told[:, 0]).max() > 0.1 and not told[:, 2:].any()
    changes = np.abs(np.diff(told[:, 0]))
    most = 1.0 / 20 * (1 + 1e-6)  # a message may be lost on a busy machine: one of fifty may show two periods' change
    assert (changes > most).mean() < 0.02, np.sort(changes)[-5:]


@pytest.mark.parametrize(("stops_after_s", "stopped"), [(0.5, True), (30.0, False)], ids=["has stopped", "goes on"])
def test_behind_a_stall_its_twists_begin_where_its_driver_has_got(
    stops_after_s: float, stopped: bool, tmp_path, processes, ros_context
) -> None:
    """Zero where its own timeout has stopped it, else braked from the last; the next ones rise from there."""
    path = tmp_path / "servoed.yaml"
    path.write_text(SERVOED.replace("{name: hand,", f"{{name: hand, max_age_s: {stops_after_s},"))
    names = ",".join(robot_from_yaml(SERVOED, "servoed.yaml").action_names)
    arm = Arm(ros_context, stops_after_s)
    says = lambda: f"{arm.said}\n{processes.tail('controller_node')}"  # noqa: E731
    fast = lambda: abs(arm.last[0]) > 0.12  # noqa: E731
    with spinning(ros_context, arm):
        processes.node("controller_node", robot=str(path), rearm_after_s=20.0, chunk_timeout_s=20.0)
        processes.start("policy", [sys.executable, str(SOURCE), names, "0.2"])
        wait_until(lambda: not arm.ask("arm", True), 60.0, says)
        wait_until(fast, 60.0, says)
        processes.signal("controller_node", signal.SIGSTOP)
        time.sleep(1.2)  # what had left has come
        before = len(arm.told)
        assert arm.goes.any() != stopped
        processes.signal("controller_node", signal.SIGCONT)
        wait_until(lambda: len(arm.told) > before + 2, 30.0, says)
        assert arm.told[before].any() != stopped, arm.told[before - 1 : before + 3]
        wait_until(fast, 60.0, says)  # it goes on by itself
    assert (np.array(arm.jumps) <= CHANGE * (1 + 1e-6)).all(), np.max(arm.jumps, axis=0)
