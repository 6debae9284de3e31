"""Drivers of robots that nobody has described yet, for `pi0 robot new`: their URDFs and what they publish."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

DEGREES = math.degrees(1.0)


def urdf(name: str, *joints: str) -> str:
    """A chain of links. A joint: `name type lower upper velocity`, or `name type mimic OTHER`."""
    lines = [f'<robot name="{name}"><link name="link0"/>']
    for n, words in enumerate(joint.split() for joint in joints):
        lines.append(f'<link name="link{n + 1}"/><joint name="{words[0]}" type="{words[1]}">')
        lines.append(f'<parent link="link{n}"/><child link="link{n + 1}"/><axis xyz="0 0 1"/>')
        if words[2] == "mimic":
            lines.append(f'<limit lower="0" upper="1" velocity="1" effort="1"/><mimic joint="{words[3]}"/>')
        elif words[1] == "continuous":
            lines.append(f'<limit velocity="{words[2]}" effort="1"/>')
        else:
            lines.append(f'<limit lower="{words[2]}" upper="{words[3]}" velocity="{words[4]}" effort="1"/>')
        lines.append("</joint>")
    return "\n".join([*lines, "</robot>"])


@dataclass(frozen=True)
class Driven:
    """A robot as its drivers publish it."""

    urdf: str
    states: str  # topic
    positions: dict[str, tuple[float, float]]  # joint in messages: the middle and how far it swings, in their unit
    cameras: dict[str, str]  # topic -> raw | compressed | depth
    commands: dict[str, tuple[str, list[str]]]  # topic -> type, joints of the controller that listens
    described: bool = False  # on /robot_description
    parameters: dict[str, Any] = field(default_factory=dict)  # of the controllers

    def at(self, t_s: float) -> dict[str, float]:
        """Where the joints are, as the messages count."""
        swing = {name: math.sin((1.0 + 0.17 * n) * t_s + n) for n, name in enumerate(self.positions)}
        return {name: middle + far * swing[name] for name, (middle, far) in self.positions.items()}


SO101_JOINTS = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"]
SO101 = Driven(  # all in degrees, as LeRobot counts; the roll joint turns without end
    urdf=urdf(
        "so101",
        "shoulder_pan revolute -1.92 1.92 6",
        "shoulder_lift revolute -1.75 1.75 6",
        "elbow_flex revolute -1.69 1.69 6",
        "wrist_flex revolute -1.66 1.66 6",
        "wrist_roll continuous 6",
        "gripper revolute -0.17 1.75 6",
    ),
    states="/follower/joint_states",
    positions=dict(
        zip(SO101_JOINTS, [(5.0, 8.0), (-60.0, 20.0), (50.0, 20.0), (30.0, 9.0), (170.0, 15.0), (40.0, 35.0)])
    ),
    cameras={"/top_camera/image_raw": "raw", "/wrist_camera/image_raw": "raw"},
    commands={"/follower/forward_controller/commands": ("std_msgs/msg/Float64MultiArray", SO101_JOINTS)},
)
ARM_JOINTS = [f"arm_joint_{n}" for n in range(1, 7)]
ARM = Driven(  # a ros2_control arm with two trajectory controllers, cameras with depth beside, described by a topic
    urdf=urdf(
        "acme_arm",
        *(f"{name} revolute -3.1 3.1 2.0" for name in ARM_JOINTS),
        "finger_left prismatic 0 0.04 0.2",
        "finger_right prismatic mimic finger_left",
    ),
    states="/joint_states",
    positions={
        "finger_left": (0.02, 0.015),
        "finger_right": (0.02, 0.015),
        **{name: (0.2 * n - 0.5, 0.4) for n, name in enumerate(ARM_JOINTS)},
    },
    cameras={
        "/scene/color/image_raw": "raw",
        "/scene/color/image_raw/compressed": "compressed",
        "/scene/depth/image_raw": "depth",
        "/hand/image_raw": "raw",
    },
    commands={
        "/arm_controller/joint_trajectory": ("trajectory_msgs/msg/JointTrajectory", ARM_JOINTS),
        "/gripper_controller/joint_trajectory": ("trajectory_msgs/msg/JointTrajectory", ["finger_left"]),
    },
    described=True,
    parameters={"allow_nonzero_velocity_at_trajectory_end": False, "interpolate_from_desired_state": True},
)


def pictures(seed: int) -> Iterator[np.ndarray]:
    """A scene and a sensor's noise, uint8 [48, 64, 3]."""
    rng = np.random.default_rng(seed)
    scene = rng.integers(40, 200, (48, 64, 3))
    while True:
        yield (scene + rng.integers(-6, 7, scene.shape)).astype(np.uint8)


@contextmanager
def driving(context: Any, driven: Driven) -> Iterator[None]:
    """Its drivers and controllers, living in a thread until the block ends."""
    import time

    from rclpy.node import Node
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import JointState
    from spinning import spinning
    from std_msgs.msg import String

    from pi0_ros.nodes.messages import LATCHED, message_class

    driver = Node("driver", context=context)
    controllers = []
    for topic, (kind, joints) in driven.commands.items():
        node = Node(topic.strip("/").replace("follower/", "").split("/")[0], context=context)
        node.declare_parameter("joints", joints)
        for name, value in driven.parameters.items():
            node.declare_parameter(name, value)
        node.create_subscription(message_class(kind), topic, lambda message: None, 10)
        controllers.append(node)
    states = driver.create_publisher(JointState, driven.states, 10)
    if driven.described:
        driver.create_publisher(String, "/robot_description", LATCHED).publish(String(data=driven.urdf))
    began = time.monotonic()

    def say_state() -> None:
        where = driven.at(time.monotonic() - began)
        message = JointState(name=list(where), position=list(where.values()))
        message.header.stamp = driver.get_clock().now().to_msg()
        states.publish(message)

    driver.create_timer(0.02, say_state)
    for number, (topic, kind) in enumerate(driven.cameras.items()):
        type_name = f"sensor_msgs/msg/{'CompressedImage' if kind == 'compressed' else 'Image'}"
        publisher = driver.create_publisher(message_class(type_name), topic, qos_profile_sensor_data)
        seen = pictures(number)

        def say_picture(publisher: Any = publisher, seen: Iterator[np.ndarray] = seen, kind: str = kind) -> None:
            publisher.publish(picture_message(driver.get_clock().now().to_msg(), next(seen), kind))

        driver.create_timer(0.05, say_picture)
    with spinning(context, driver, *controllers):
        yield


def picture_message(stamp: Any, pixels: np.ndarray, kind: str) -> Any:
    import io

    import PIL.Image
    from sensor_msgs.msg import CompressedImage, Image

    height, width, _ = pixels.shape
    if kind == "compressed":
        jpeg = io.BytesIO()
        PIL.Image.fromarray(pixels).save(jpeg, "JPEG")
        message = CompressedImage(format="rgb8; jpeg compressed bgr8", data=jpeg.getvalue())
    elif kind == "depth":
        depth = pixels[..., 0].astype(np.uint16)
        message = Image(encoding="16UC1", height=height, width=width, step=2 * width, data=depth.tobytes())
    else:
        message = Image(encoding="bgr8", height=height, width=width, step=3 * width, data=pixels.tobytes())
    message.header.stamp = stamp
    return message
