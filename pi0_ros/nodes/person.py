"""A person who leads the robot instead of the policy: their poses on the robot file's `takeover` topics, their switch.

The switch is `pi0/takeover` (Bool: true leads, false hands back) and the service `~/takeover` (SetBool). Whether and
how they are followed is in `pi0_ros/control/takeover.py`.
"""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import Bool
from std_srvs.srv import SetBool

from pi0_ros.base.foreign import shortened
from pi0_ros.control.chunk import ChunkError
from pi0_ros.control.controller import Controller
from pi0_ros.control.pacing import steady_seconds
from pi0_ros.control.states import ARMED
from pi0_ros.nodes.messages import message_class
from pi0_ros.observation.joint_messages import MessageError, decode_command
from pi0_ros.robot import CommandGroup, Robot

SWITCH = "pi0/takeover"
SHOWN_S = 5.0  # how long a pose that could not be used is shown
HEARS_ALL = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)  # reliable publishers as well


class Person:
    """Hears through `node` and tells the controller; `lock` is the one around it."""

    def __init__(self, node: Node, robot: Robot, controller: Controller, lock: threading.Lock) -> None:
        self._node, self._robot, self._controller, self._lock = node, robot, controller, lock
        topics = robot.takeover.topics
        self._pose = np.full(len(robot.joints), np.nan)  # [J], each topic's newest
        self._heard = dict.fromkeys((group.topic for group in topics), -np.inf)  # steady
        self._problem, self._problem_at = "", -np.inf
        for group in topics:
            kind, heard = message_class(group.type), partial(self._on_pose, group, robot.indices(group.joints))
            node.create_subscription(kind, group.topic, heard, HEARS_ALL)
        node.create_subscription(Bool, SWITCH, self._on_switch, HEARS_ALL)
        node.create_service(SetBool, "~/takeover", self._on_service)

    def problem(self) -> str:
        """What was wrong with their last poses; "" where nothing was of late."""
        return self._problem if time.monotonic() - self._problem_at < SHOWN_S else ""

    def _on_pose(self, group: CommandGroup, joints: np.ndarray, message: Any) -> None:
        now, timeout_s = steady_seconds(), self._robot.takeover.timeout_s
        try:
            self._pose[joints] = decode_command(group, message)
            self._heard[group.topic] = now
            for other in self._robot.takeover.topics:
                if now - self._heard[other.topic] > timeout_s:
                    if not other.speeds:
                        return  # of the other arm nothing was heard
                    self._pose[self._robot.indices(other.joints)] = 0.0  # who lets the stick go says no more
            with self._lock:
                self._controller.lead(self._pose.copy(), now)
        except (MessageError, ChunkError) as error:
            text = str(error)
            self._wrong(text if text.startswith(group.topic) else f"{group.topic}: {text}")

    def _on_switch(self, message: Bool) -> None:
        if refusal := self._turn(bool(message.data)):
            self._wrong(f"{SWITCH}: {refusal}")

    def _on_service(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        led = self._controller.takeover.on
        refusal = self._turn(bool(request.data))
        response.success, response.message = not refusal, refusal or self._said(bool(request.data), led)
        return response

    def _turn(self, on: bool) -> str:
        """Turn the switch; why it was not."""
        controller = self._controller
        if not self._robot.takeover.topics:
            return "the robot file names no topic of a person: write `takeover` into it (docs/takeover.md)"
        if self._robot.takeover.begins != "switch":
            return "the person's first command takes over, and their silence hands back (takeover.begins: commands)"
        with self._lock:
            if on and controller.state not in ARMED:
                return f"the controller is {controller.state.value}: arm it first"
            controller.switch(on)
        return ""

    def _said(self, on: bool, led: bool) -> str:
        """The answer to who turned the switch; `led`: it was on before."""
        now, timeout_s = steady_seconds(), self._robot.takeover.timeout_s
        still = {group.topic for group in self._robot.takeover.topics if group.speeds}
        silent = [topic for topic, heard in self._heard.items() if now - heard > timeout_s and topic not in still]
        if on and silent:
            return f"it holds until {', '.join(silent)} is heard"
        if on:
            return "the person leads"
        return "handed back" if led else "nobody had taken over"

    def _wrong(self, problem: str) -> None:
        self._problem, self._problem_at = shortened(problem), time.monotonic()
        self._node.get_logger().warning(self._problem, throttle_duration_sec=5.0)
