"""Whole robots without physics on real topics, as their drivers and controllers publish and hear them.

Nothing here knows of a robot file: it is what such a file has to be written for. While a robot `swings`, somebody else
moves it (a person who teleoperates); then it goes where it is told.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from following import Follower
from new_robots import ARM_JOINTS, SO101, SO101_JOINTS, picture_message, pictures, urdf
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from spinning import spinning

from pi0_ros.nodes.messages import LATEST, action_class, message_class
from pi0_ros.robot.message_types import POSE_ARRAY, TF

RATE_HZ, PICTURES_HZ = 50.0, 20.0
LAG_S = 0.08  # with which a base takes on its speed
TRAJECTORY, ARRAY = "trajectory_msgs/msg/JointTrajectory", "std_msgs/msg/Float64MultiArray"
GRIPPER = "control_msgs/action/GripperCommand"
NONZERO = "allow_nonzero_velocity_at_trajectory_end"


@dataclass(frozen=True)
class Living:
    """A robot as its drivers know it; positions are in the messages' unit."""

    urdf: str
    positions: dict[str, tuple[float, float]]  # joint: where it is, and how far it swings
    commands: dict[str, tuple[str, list[str]]]  # topic -> type, joints of the controller that listens
    cameras: tuple[str, ...]  # topics
    states: str = "/joint_states"
    unit: float = 1.0  # of messages in one rad or m
    base: tuple[str, str] | None = None  # topics of TwistStamped and Odometry
    hand: tuple[str, str] | None = None  # topics of the pose that is told and of the one that is said
    hand_said_by: str = "geometry_msgs/msg/PoseStamped"  # or an array with others in front, or transforms with others
    twists: str = ""  # topic on which MoveIt Servo is told how fast the hand goes
    servers: dict[str, str] = field(default_factory=dict)  # action -> joint


def _arm(prefix: str) -> list[str]:
    return [f"{prefix}_joint_{n}" for n in range(1, 7)]


LEFT, RIGHT = _arm("left"), _arm("right")
SERVO_STOPS_S = 0.1
TURNED = np.random.default_rng(0).uniform(-0.6, 0.6, (6, 6))  # rad of a servoed arm's joints for one m or rad
SEVEN = [f"panda_joint{n}" for n in range(1, 8)]
ROBOTS = {
    "mobile_bimanual": Living(
        urdf=urdf(
            "mobile",
            *(f"{name} revolute -3.0 3.0 2.0" for name in (*LEFT, *RIGHT)),
            "left_finger prismatic 0 0.08 0.4",
            "right_finger prismatic 0 0.08 0.4",
            "lift prismatic 0 0.6 0.2",
            "wheel_left continuous 10",
            "wheel_right continuous 10",
        ),
        positions={
            **{name: (0.1 * n - 0.2, 0.3) for n, name in enumerate((*LEFT, *RIGHT))},
            **dict.fromkeys(("left_finger", "right_finger"), (0.04, 0.03)),
            "lift": (0.3, 0.1),
            "wheel_left": (0.0, 2.0),
            "wheel_right": (0.0, 2.0),
        },
        commands={
            "/left_arm_controller/joint_trajectory": (TRAJECTORY, LEFT),
            "/right_arm_controller/joint_trajectory": (TRAJECTORY, RIGHT),
            "/left_gripper_controller/commands": (ARRAY, ["left_finger"]),
            "/right_gripper_controller/commands": (ARRAY, ["right_finger"]),
            "/lift_controller/commands": (ARRAY, ["lift"]),
        },
        cameras=("/head/image_raw", "/left_wrist/image_raw", "/right_wrist/image_raw"),
        base=("/base_controller/cmd_vel", "/base_controller/odom"),
    ),
    "posed_arm": Living(
        urdf=urdf("seven", *(f"{name} revolute -2.9 2.9 2.0" for name in SEVEN), "finger_joint prismatic 0 0.08 0.4"),
        positions={**{name: (0.1 * n, 0.2) for n, name in enumerate(SEVEN)}, "finger_joint": (0.04, 0.03)},
        commands={"/gripper_controller/commands": (ARRAY, ["finger_joint"])},
        cameras=("/scene/image_raw",),
        hand=("/cartesian_motion_controller/target_frame", "/cartesian_motion_controller/current_pose"),
    ),
    "so101_degrees": Living(
        urdf=SO101.urdf,
        positions=SO101.positions,
        commands=SO101.commands,
        cameras=("/top_camera/image_raw", "/wrist_camera/image_raw"),
        states=SO101.states,
        unit=math.degrees(1.0),
    ),
    "served_gripper": Living(
        urdf=urdf(
            "served", *(f"{name} revolute -3.1 3.1 2.0" for name in ARM_JOINTS), "finger_joint prismatic 0 0.08 0.4"
        ),
        positions={**{name: (0.1 * n, 0.3) for n, name in enumerate(ARM_JOINTS)}, "finger_joint": (0.04, 0.03)},
        commands={"/arm_controller/joint_trajectory": (TRAJECTORY, ARM_JOINTS)},
        cameras=("/scene/image_raw",),
        servers={"/gripper_controller/gripper_cmd": "finger_joint"},
    ),
}
ROBOTS["servoed_hand"] = Living(
    urdf=urdf(
        "servoed", *(f"{name} revolute -3.1 3.1 2.0" for name in ARM_JOINTS), "finger_joint prismatic 0 0.08 0.4"
    ),
    positions={**{name: (0.1 * n, 0.2) for n, name in enumerate(ARM_JOINTS)}, "finger_joint": (0.04, 0.03)},
    commands={"/gripper_controller/commands": (ARRAY, ["finger_joint"])},
    cameras=("/scene/image_raw",),
    twists="/servo_node/delta_twist_cmds",
)
SEEN_HANDS = {  # how else one learns where the hand of an arm is that is commanded by poses
    kind: replace(ROBOTS["posed_arm"], hand=("/target_frame", topic), hand_said_by=kind)
    for kind, topic in ((POSE_ARRAY, "/tracker/poses"), (TF, "/tf"))
}
assert list(SO101.positions) == SO101_JOINTS


class Driver(Node):
    """The drivers of a robot, in one node; its controllers' nodes hear for it (`controllers`)."""

    def __init__(self, context: Context, living: Living) -> None:
        super().__init__("driver", context=context)
        self.living, self.swings, self.heard = living, True, dict.fromkeys(living.commands, 0)
        middle = np.array([where for where, _ in living.positions.values()])
        self.joints = Follower(list(living.positions), middle, 10.0 * living.unit, longest_s=0.1)
        self.speed, self._asked = np.zeros(2), np.zeros(2)  # m/s, rad/s
        self.place, self.turn = np.array([0.4, 0.0, 0.3]), np.array([0.0, 1.0, 0.0, 0.0])
        self.twist, self._twisted = np.zeros(6), -math.inf
        self.goals: list[float] = []
        self._began = self._moved = time.monotonic()
        state = message_class("sensor_msgs/msg/JointState")
        self._states = self.create_publisher(state, living.states, 10)
        for number, topic in enumerate(living.cameras):
            camera = self.create_publisher(message_class("sensor_msgs/msg/Image"), topic, qos_profile_sensor_data)
            self.create_timer(1.0 / PICTURES_HZ, partial(self._see, camera, pictures(number)))
        self.controllers = [self._controller(topic, *told) for topic, told in living.commands.items()]
        if living.base is not None:
            self._listener(living.base[0], "geometry_msgs/msg/TwistStamped", self._drive)
            self._odometry = self.create_publisher(message_class("nav_msgs/msg/Odometry"), living.base[1], 10)
        if living.hand is not None:
            self._listener(living.hand[0], "geometry_msgs/msg/PoseStamped", self._pose)
            self._poses = self.create_publisher(message_class(living.hand_said_by), living.hand[1], 10)
        if living.twists:
            servo = Node("servo_node", context=context)
            servo.declare_parameter("moveit_servo.incoming_command_timeout", SERVO_STOPS_S)
            kind = message_class("geometry_msgs/msg/TwistStamped")
            servo.create_subscription(kind, living.twists, self._twist, LATEST)
            self._led: Any = self.create_publisher(kind, living.twists, 10)
            self.heard[living.twists] = 0
            self.controllers.append(servo)
        self._served = [self._server(action, joint) for action, joint in living.servers.items()]
        self.create_timer(1.0 / RATE_HZ, self._feel)

    def where(self) -> np.ndarray:
        """Everything that moves: joints, the base's speeds, the hand's place and rotation."""
        return np.concatenate([self.joints.position, self.speed, self.place, self.turn])

    def _controller(self, topic: str, kind: str, joints: list[str]) -> Node:
        node = Node(topic.strip("/").split("/")[-2], context=self.context)
        node.declare_parameter("joints", joints)
        if kind == TRAJECTORY:
            node.declare_parameter(NONZERO, True)
        node.create_subscription(message_class(kind), topic, partial(self._told, topic, joints), LATEST)
        return node

    def _listener(self, topic: str, kind: str, heard: Any) -> None:
        self.create_subscription(message_class(kind), topic, heard, LATEST)
        self.heard[topic] = 0

    def _told(self, topic: str, joints: list[str], message: Any) -> None:
        self.heard[topic] += 1
        if hasattr(message, "points"):
            self.joints.send(list(message.joint_names), list(message.points[0].positions))
        else:
            self.joints.send(joints, list(message.data))

    def _drive(self, message: Any) -> None:
        self.heard[self.living.base[0]] += 1
        self._asked = np.array([message.twist.linear.x, message.twist.angular.z])

    def _pose(self, message: Any) -> None:
        self.heard[self.living.hand[0]] += 1
        place, turn = message.pose.position, message.pose.orientation
        self.place, self.turn = np.array([place.x, place.y, place.z]), np.array([turn.x, turn.y, turn.z, turn.w])

    def _twist(self, message: Any) -> None:
        self.heard[self.living.twists] += 1
        linear, angular = message.twist.linear, message.twist.angular
        self.twist = np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])
        self._twisted = time.monotonic()

    def _servo(self, passed: float, t_s: float) -> None:
        """What Servo makes of the twists: it stops where none comes. A person tells them while the robot swings."""
        if time.monotonic() - self._twisted > SERVO_STOPS_S:
            self.twist = np.zeros(6)
        if self.swings:
            message = message_class("geometry_msgs/msg/TwistStamped")()
            message.header.stamp, message.header.frame_id = self.get_clock().now().to_msg(), "base_link"
            linear, angular = message.twist.linear, message.twist.angular
            linear.x, linear.z, angular.z = 0.1 * math.sin(t_s), 0.1 * math.cos(t_s), 0.3 * math.sin(2.0 * t_s)
            self._led.publish(message)
        else:
            if self._led is not None:
                self.destroy_publisher(self._led)
                self._led = None
            gone = self.joints.position[:6] + TURNED @ self.twist * passed
            self.joints.send(ARM_JOINTS, np.clip(gone, -3.0, 3.0).tolist())

    def _server(self, action: str, joint: str) -> Any:
        from rclpy.action import ActionServer

        kind = action_class(GRIPPER)

        def execute(handle: Any) -> Any:
            position = handle.request.command.position
            self.goals.append(position)
            self.joints.send([joint], [position])
            handle.succeed()
            return kind.Result(position=position, reached_goal=True)

        return ActionServer(self, kind, action, execute)

    def _feel(self) -> None:
        now = time.monotonic()
        passed, self._moved, t_s = now - self._moved, now, now - self._began
        if self.swings:
            swing = [math.sin((1.0 + 0.17 * n) * t_s + n) for n in range(len(self.living.positions))]
            goal = [where + far * s for (where, far), s in zip(self.living.positions.values(), swing)]
            self.joints.send(list(self.living.positions), goal)
            self._asked = np.array([0.2 * math.sin(t_s), 0.3 * math.cos(t_s)])
            self.place = np.array([0.4, 0.1 * math.sin(t_s), 0.3 + 0.05 * math.cos(t_s)])
        if self.living.twists:
            self._servo(passed, t_s)
        self.speed = self._asked + (self.speed - self._asked) * math.exp(-passed / LAG_S)
        stamp = self.get_clock().now().to_msg()
        joints = self.joints.move()
        message = message_class("sensor_msgs/msg/JointState")(name=list(joints), position=list(joints.values()))
        message.header.stamp = stamp
        self._states.publish(message)
        if self.living.base is not None:
            odometry = message_class("nav_msgs/msg/Odometry")()
            odometry.header.stamp = stamp
            odometry.twist.twist.linear.x, odometry.twist.twist.angular.z = self.speed.tolist()
            self._odometry.publish(odometry)
        if self.living.hand is not None:
            self._poses.publish(self._hands(stamp))

    def _hands(self, stamp: Any) -> Any:
        """Where the hand is, in the message that its driver has for it."""
        message = message_class(self.living.hand_said_by)()
        if self.living.hand_said_by == TF:
            transform = message_class("geometry_msgs/msg/TransformStamped")
            for frame, child in (("odom", "base_link"), ("base_link", "shoulder"), ("base_link", "tool0")):
                one = transform(child_frame_id=child)
                one.header.stamp, one.header.frame_id = stamp, frame
                if child == "tool0":
                    where, turn = one.transform.translation, one.transform.rotation
                    where.x, where.y, where.z = self.place.tolist()
                    turn.x, turn.y, turn.z, turn.w = self.turn.tolist()
                message.transforms.append(one)
            return message
        message.header.stamp, message.header.frame_id = stamp, "base_link"
        if self.living.hand_said_by == POSE_ARRAY:
            message.poses = [message_class("geometry_msgs/msg/Pose")() for _ in range(2)]  # another hand's first
        said = message.poses[1] if self.living.hand_said_by == POSE_ARRAY else message.pose
        said.position.x, said.position.y, said.position.z = self.place.tolist()
        said.orientation.x, said.orientation.y, said.orientation.z, said.orientation.w = self.turn.tolist()
        return message

    def _see(self, publisher: Any, seen: Iterator[np.ndarray]) -> None:
        publisher.publish(picture_message(self.get_clock().now().to_msg(), next(seen), "raw"))

    def rest(self) -> None:
        """Nobody moves it any more: it stays where it is, until it is told."""
        self.swings, self._asked = False, np.zeros(2)
        self.joints.send(list(self.living.positions), self.joints.position.tolist())

    def destroy_node(self) -> None:
        for server in self._served:
            server.destroy()
        super().destroy_node()


@contextmanager
def living(context: Context, robot: Living) -> Iterator[Driver]:
    """The robot, until the block ends."""
    driver = Driver(context, robot)
    with spinning(context, driver, *driver.controllers):
        yield driver
