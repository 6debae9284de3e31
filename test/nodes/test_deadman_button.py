"""The deadman button over real DDS: without it the controller does not arm, and when it is let go the arm holds."""

from __future__ import annotations

import time

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")
from controlled_arm import arm, robot_file, start, start_chunks  # noqa: E402, F401
from rclpy.node import Node  # noqa: E402
from sensor_msgs.msg import Joy  # noqa: E402
from spinning import spinning  # noqa: E402
from std_msgs.msg import Bool  # noqa: E402

pytestmark = pytest.mark.dds
PATIENT = {"rearm_after_s": 600.0, "chunk_timeout_s": 600.0, "deadman_timeout_s": 5.0}


class Pad(Node):
    """A person's thumb: `pressed` None says nothing."""

    def __init__(self, context: rclpy.Context, kind: type) -> None:
        super().__init__("pad", context=context)
        self.pressed: bool | None = False
        self._kind = kind
        self._publisher = self.create_publisher(kind, "pad", 10)
        self.create_timer(0.05, self._say)

    def _say(self) -> None:
        if self.pressed is not None:
            buttons = Joy(buttons=[1, 0, int(self.pressed)])
            self._publisher.publish(buttons if self._kind is Joy else Bool(data=self.pressed))


@pytest.mark.parametrize("kind", [Joy, Bool])
def test_it_moves_only_while_the_button_is_pressed(kind, arm, start, processes, ros_context, wait_until):  # noqa: F811
    start(deadman_topic="pad", deadman_button=2 if kind is Joy else -1, **PATIENT)
    start_chunks(processes, arm)
    moving = lambda: arm.sent and abs(arm.sent[-1].points[0].velocities[0]) > 0.3  # noqa: E731
    named = lambda: "deadman button /pad" in arm.status.message  # noqa: E731
    rests = lambda: not np.any(arm.sent[-1].points[0].velocities)  # noqa: E731
    answer = arm.arm()
    assert not answer.success and "nothing was heard of the deadman button /pad" in answer.message
    assert "nobody publishes it" in answer.message
    pad = Pad(ros_context, kind)
    with spinning(ros_context, pad):
        refused = lambda: not (answer := arm.arm()).success and "is not pressed" in answer.message  # noqa: E731
        wait_until(refused, 20.0, lambda: arm.status.message)
        pad.pressed = True
        wait_until(lambda: arm.arm().success, 20.0, lambda: arm.status.message)
        wait_until(moving, 40.0, lambda: arm.status.message)
        for silent in (False, None):  # let go; out of reach
            pad.pressed = silent
            wait_until(lambda: arm.state == "HOLDING" and rests() and named(), 30.0, lambda: arm.status.message)
            count = len(arm.sent)
            time.sleep(0.5)
            assert all(not np.any(m.points[0].velocities) for m in list(arm.sent)[count:])
            pad.pressed = True
            wait_until(moving, 30.0, lambda: arm.status.message)


def test_a_topic_of_another_type_and_a_missing_button_are_named(arm, start, ros_context, wait_until):  # noqa: F811
    start(deadman_topic="pad", deadman_button=7, **PATIENT)
    pad = Pad(ros_context, Bool)
    with spinning(ros_context, pad):
        named = lambda: "expected sensor_msgs/msg/Joy (set deadman_button to -1)" in arm.arm().message  # noqa: E731
        wait_until(named, 20.0, lambda: arm.arm().message)
    pad = Pad(ros_context, Joy)
    with spinning(ros_context, pad):
        wait_until(lambda: "/pad[7]: the message has 3 buttons" in arm.arm().message, 20.0, lambda: arm.arm().message)
