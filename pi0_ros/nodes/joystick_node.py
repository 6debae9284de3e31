"""A joystick that leads the robot instead of the policy: sensor_msgs/Joy in, a person's poses and their switch out.

    ros2 run joy joy_node
    ros2 run pi0_ros joystick_node --ros-args -p robot:=my_robot -p axes:="yaw=0 -shoulder=1" -p buttons:="grip=0"

While the button `hold_button` is held the person leads; the axes and buttons are speeds of joints, which are added up
from the controller's last command. Let go of it, or of the joystick's cable, and the policy leads again. Needs
`takeover` in the robot file: see docs/takeover.md.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import Any

import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import Joy
from std_msgs.msg import String
from std_srvs.srv import SetBool
from trajectory_msgs.msg import JointTrajectory

from pi0_ros.base.errors import InputError
from pi0_ros.control.chunk import ChunkError
from pi0_ros.control.deadman import Deadman
from pi0_ros.control.joystick import Joystick, read_sticks
from pi0_ros.nodes.command_output import CommandMessage
from pi0_ros.nodes.messages import LATCHED, LATEST, SENSOR, message_class, sent_from_message
from pi0_ros.nodes.parameters import declare
from pi0_ros.nodes.robots import robot_of
from pi0_ros.nodes.running import run_node

FASTEST_HZ = 50.0
LONGEST_S = 0.1  # of motion in one step, after a stall of this process
COMMAND_S = 1.0  # an older command says nothing of where the robot is
ASK_AGAIN_S = 1.0  # while the button is held and the switch was refused


class JoystickNode(Node):
    """Says poses on the robot file's takeover topics while the button is held, and turns the controller's switch."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("joystick", **kwargs)
        values = declare(self, "joystick")
        self.robot = robot_of(self, values["robot"]).moved
        takeover = self.robot.takeover
        if not takeover.topics:
            raise InputError(
                f"{self.robot.name} names no topic of a person: write `takeover` into its file (docs/takeover.md)"
            )
        sticks = read_sticks(values["axes"], values["buttons"], self.robot)
        self.joystick = Joystick(self.robot, sticks, values["speed"], values["dead_zone"])
        self._button, self._in_charge = values["hold_button"], ""
        self._held = self._begun = False
        self._turned_at = -np.inf  # when the switch was last asked for
        self._deadman = Deadman(f"joy[{self._button}]", values["timeout_s"])
        self._axes: list[float] = []
        self._buttons: list[int] = []
        self._command, self._commanded_at = np.full(len(self.robot.joints), np.nan), -np.inf
        self._stepped = time.monotonic()
        period = 1.0 / min(FASTEST_HZ, self.robot.control_rate_hz)
        self._poses = [
            (
                CommandMessage(group, period),
                self.robot.indices(group.joints),
                self.create_publisher(message_class(group.type), group.topic, LATEST),
            )
            for group in takeover.topics
        ]
        by_switch = takeover.begins == "switch"
        self._switch = self.create_client(SetBool, f"{values['controller']}/takeover") if by_switch else None
        self.create_subscription(Joy, "joy", self._on_joy, SENSOR)
        self.create_subscription(JointTrajectory, "pi0/command", self._on_command, LATEST)
        self.create_subscription(String, "pi0/in_charge", self._on_in_charge, LATCHED)
        self.create_timer(period, self._step, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _on_joy(self, message: Joy) -> None:
        self._axes, self._buttons = list(message.axes), list(message.buttons)
        problem = self.joystick.problem(self._axes, self._buttons)
        if self._button >= len(self._buttons):
            problem = f"there is no button {self._button}: the message has {len(self._buttons)}, counted from 0"
        if problem:
            self.get_logger().warning(f"joy: {problem}", throttle_duration_sec=5.0)
        self._deadman.heard(not problem and bool(self._buttons[self._button]), time.monotonic(), problem)

    def _on_command(self, message: JointTrajectory) -> None:
        try:
            self._command = sent_from_message(message, self.robot.joint_names)
            self._commanded_at = time.monotonic()
        except ChunkError as error:
            self.get_logger().warning(f"pi0/command: {error}", throttle_duration_sec=5.0)

    def _on_in_charge(self, message: String) -> None:
        self._in_charge = message.data

    def _step(self) -> None:
        """Turn the switch when the button was, and say where the robot shall be while it is held."""
        now = time.monotonic()
        passed, self._stepped = min(now - self._stepped, LONGEST_S), now
        held = not self._deadman.withholds(now)
        if held != self._held:
            self._held, self._begun = held, False
            self.get_logger().info("held: the joystick leads" if held else "let go: the policy leads again")
            self._turn(held)
        if not held:
            return
        if self._in_charge != "person" and now - self._turned_at > ASK_AGAIN_S:
            self._turn(True)  # it was refused, as before arming
        if self._in_charge == "person" and self._begun:
            self.joystick.move(self._axes, self._buttons, passed)
        elif now - self._commanded_at < COMMAND_S:
            self.joystick.begin(self._command)  # until the person leads nothing is added up
            self._begun = True
        else:
            self.get_logger().warning("nothing on pi0/command: is the controller armed?", throttle_duration_sec=2.0)
            return
        still = np.zeros(len(self.robot.joints))
        stamp = self.get_clock().now().to_msg()
        for message, joints, publisher in self._poses:
            publisher.publish(message.fill(self.joystick.position[joints], still[joints], stamp))

    def _turn(self, on: bool) -> None:
        self._turned_at = time.monotonic()
        if self._switch is None:
            return
        if self._switch.service_is_ready():
            self._switch.call_async(SetBool.Request(data=on)).add_done_callback(partial(self._answered, on))
        else:
            self.get_logger().warning(f"nobody offers {self._switch.srv_name}: is the controller running?")

    def _answered(self, on: bool, future: Any) -> None:
        answer = future.result()
        if not answer.success:
            self.get_logger().warning(f"{'not taken over' if on else 'not handed back'}: {answer.message}")


def main(args: list[str] | None = None) -> int:
    """Listen to the joystick until SIGINT or SIGTERM."""
    return run_node("joystick", JoystickNode, args)


if __name__ == "__main__":
    sys.exit(main())
