"""Rosbags of the demo arm made by the rosbags writer: exact contents, no simulator and no ROS."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from pi0_ros.robot import Robot

STORE = get_typestore(Stores.ROS2_JAZZY)
START_NS = 1_700_000_000_000_000_000
TYPES = STORE.types


def stamp(ns: int) -> Any:
    return TYPES["builtin_interfaces/msg/Time"](sec=ns // 10**9, nanosec=ns % 10**9)


def header(ns: int) -> Any:
    return TYPES["std_msgs/msg/Header"](stamp=stamp(ns), frame_id="")


def state_at(t_s: float, joints: int) -> np.ndarray:
    """A smooth motion, different for every joint, float64 [J]."""
    return 0.3 * np.sin(t_s + np.arange(joints)) + 0.35


def image_at(number: int, height: int = 96, width: int = 96, shade: int = 0) -> np.ndarray:
    """Stripes, in focus, whose mean brightness tells `number` (modulo 40): uint8 [H,W,3]."""
    base = 30 + 5 * (number % 40) + shade
    stripes = np.where(np.arange(width) // 4 % 2, 10, -10)[None, :, None] + np.zeros((height, 1, 3))
    return np.clip(base + stripes, 0, 255).astype(np.uint8)


def image_message(ns: int, pixels: np.ndarray, encoding: str = "rgb8") -> Any:
    return TYPES["sensor_msgs/msg/Image"](
        header=header(ns),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=pixels.shape[1] * 3,
        data=np.ascontiguousarray(pixels).reshape(-1),
    )


def compressed_message(ns: int, pixels: np.ndarray, quality: int = 90) -> Any:
    jpeg = io.BytesIO()
    PIL.Image.fromarray(pixels).save(jpeg, "JPEG", quality=quality)
    data = np.frombuffer(jpeg.getvalue(), np.uint8)
    return TYPES["sensor_msgs/msg/CompressedImage"](header=header(ns), format="rgb8; jpeg compressed bgr8", data=data)


def joint_message(ns: int, names: Sequence[str], position: np.ndarray) -> Any:
    nothing = np.zeros(0)
    return TYPES["sensor_msgs/msg/JointState"](
        header=header(ns),
        name=list(names),
        position=np.array(position, float, order="C"),
        velocity=nothing,
        effort=nothing,
    )


def pose_message(ns: int, place: np.ndarray, turn: np.ndarray, frame: str) -> Any:
    """A PoseStamped at a place (x, y, z) and a quaternion (x, y, z, w)."""
    point = TYPES["geometry_msgs/msg/Point"](**dict(zip("xyz", map(float, place))))
    quaternion = TYPES["geometry_msgs/msg/Quaternion"](**dict(zip("xyzw", map(float, turn))))
    pose = TYPES["geometry_msgs/msg/Pose"](position=point, orientation=quaternion)
    framed = TYPES["std_msgs/msg/Header"](stamp=stamp(ns), frame_id=frame)
    return TYPES["geometry_msgs/msg/PoseStamped"](header=framed, pose=pose)


def unsure_pose_message(ns: int, place: np.ndarray, turn: np.ndarray, frame: str) -> Any:
    """The same as a PoseWithCovarianceStamped."""
    told = pose_message(ns, place, turn, frame)
    pose = TYPES["geometry_msgs/msg/PoseWithCovariance"](pose=told.pose, covariance=np.zeros(36))
    return TYPES["geometry_msgs/msg/PoseWithCovarianceStamped"](header=told.header, pose=pose)


def poses_message(ns: int, places: Sequence[np.ndarray], turns: Sequence[np.ndarray], frame: str) -> Any:
    """A PoseArray."""
    poses = [pose_message(ns, place, turn, frame).pose for place, turn in zip(places, turns)]
    framed = TYPES["std_msgs/msg/Header"](stamp=stamp(ns), frame_id=frame)
    return TYPES["geometry_msgs/msg/PoseArray"](header=framed, poses=poses)


def transforms_message(ns: int, *told: tuple[str, str, np.ndarray, np.ndarray]) -> Any:
    """A TFMessage of transforms: parent, child, place, quaternion."""
    transforms = []
    for parent, child, place, turn in told:
        pose = pose_message(ns, place, turn, parent)
        where = TYPES["geometry_msgs/msg/Vector3"](**dict(zip("xyz", map(float, place))))
        transform = TYPES["geometry_msgs/msg/Transform"](translation=where, rotation=pose.pose.orientation)
        transforms.append(
            TYPES["geometry_msgs/msg/TransformStamped"](header=pose.header, child_frame_id=child, transform=transform)
        )
    return TYPES["tf2_msgs/msg/TFMessage"](transforms=transforms)


def trajectory_message(ns: int, names: Sequence[str], position: np.ndarray) -> Any:
    nothing = np.zeros(0)
    point = TYPES["trajectory_msgs/msg/JointTrajectoryPoint"](
        positions=np.array(position, float, order="C"),
        velocities=nothing,
        accelerations=nothing,
        effort=nothing,
        time_from_start=TYPES["builtin_interfaces/msg/Duration"](sec=0, nanosec=0),
    )
    return TYPES["trajectory_msgs/msg/JointTrajectory"](header=header(ns), joint_names=list(names), points=[point])


def plan_message(
    ns: int, names: Sequence[str], times: Sequence[float], positions: np.ndarray, velocities: np.ndarray | None = None
) -> Any:
    """A whole trajectory: points at `times` (s), `positions` and `velocities` [P, J]."""
    speeds = np.zeros((len(times), 0)) if velocities is None else velocities
    points = [
        TYPES["trajectory_msgs/msg/JointTrajectoryPoint"](
            positions=np.array(position, float, order="C"),
            velocities=np.array(speed, float, order="C"),
            accelerations=np.zeros(0),
            effort=np.zeros(0),
            time_from_start=TYPES["builtin_interfaces/msg/Duration"](sec=int(t), nanosec=round((t - int(t)) * 1e9)),
        )
        for t, position, speed in zip(times, positions, speeds, strict=True)
    ]
    return TYPES["trajectory_msgs/msg/JointTrajectory"](header=header(ns), joint_names=list(names), points=points)


def twist(forward: float, turn: float) -> Any:
    """A geometry_msgs/Twist of a base that drives and turns."""
    vector = TYPES["geometry_msgs/msg/Vector3"]
    return TYPES["geometry_msgs/msg/Twist"](
        linear=vector(x=forward, y=0.0, z=0.0), angular=vector(x=0.0, y=0.0, z=turn)
    )


def twist_message(
    ns: int, linear: Sequence[float], angular: Sequence[float] = (0, 0, 0), frame: str = "base_link"
) -> Any:
    """A TwistStamped of a hand."""
    vector = TYPES["geometry_msgs/msg/Vector3"]
    parts = (vector(**dict(zip("xyz", map(float, part)))) for part in (linear, angular))
    told = TYPES["geometry_msgs/msg/Twist"](*parts)
    framed = TYPES["std_msgs/msg/Header"](stamp=stamp(ns), frame_id=frame)
    return TYPES["geometry_msgs/msg/TwistStamped"](header=framed, twist=told)


def array_message(values: Sequence[float]) -> Any:
    """A Float64MultiArray."""
    layout = TYPES["std_msgs/msg/MultiArrayLayout"](dim=[], data_offset=0)
    return TYPES["std_msgs/msg/Float64MultiArray"](layout=layout, data=np.array(values, float))


def odometry_message(
    ns: int, forward: float, turn: float, place: tuple[float, float] = (7.0, 8.0), heading: float = 0.0
) -> Any:
    """A base at a place (m) and heading (rad) of the frame odom, with speeds."""
    still = np.zeros(36)
    about_z = np.array([0.0, 0.0, np.sin(heading / 2), np.cos(heading / 2)])
    stamped = pose_message(ns, np.array([*place, 0.0]), about_z, "odom")
    pose = stamped.pose
    return TYPES["nav_msgs/msg/Odometry"](
        header=stamped.header,
        child_frame_id="base_link",
        pose=TYPES["geometry_msgs/msg/PoseWithCovariance"](pose=pose, covariance=still),
        twist=TYPES["geometry_msgs/msg/TwistWithCovariance"](twist=twist(forward, turn), covariance=still),
    )


def string_message(text: str) -> Any:
    return TYPES["std_msgs/msg/String"](data=text)


@dataclass(frozen=True)
class Recipe:
    """What to put into a bag.

    Message n of a stream with rate r has the stamp start + n / r and is received `delay_s` later.
    """

    seconds: float = 3.0
    camera_hz: float = 20.0
    joint_hz: float = 50.0
    delay_s: float = 0.004
    prompts: Sequence[tuple[float, str]] = ((0.0, "put the red cube in the tray"),)  # (second, text)
    custom_data: dict[str, str] = field(default_factory=dict)
    size: tuple[int, int] = (96, 96)
    storage: StoragePlugin = StoragePlugin.MCAP
    keep: Callable[[str, float], bool] = lambda topic, t_s: True  # False drops the message
    change: Callable[[str, float, Any], Any] = lambda topic, t_s, message: message
    extra: Sequence[tuple[float, str, str, Any]] = ()  # (second, topic, type, message)
    rates: dict[str, float] = field(default_factory=dict)  # cameras' topics that do not run at camera_hz
    silent: Sequence[tuple[str, str]] = ()  # (topic, type) of recorded topics without a message
    stamped: bool = True  # False: all header stamps are zero
    jitter_s: float = 0.0


def messages(robot: Robot, recipe: Recipe) -> list[tuple[int, str, str, Any]]:
    """(receive ns, topic, type, message), in order of receive time."""
    rng = np.random.default_rng(0)
    names = robot.joint_names
    found: list[tuple[int, str, str, Any]] = []

    def put(topic: str, kind: str, t_s: float, make: Callable[[int], Any]) -> None:
        if not recipe.keep(topic, t_s):
            return
        ns = START_NS + round((t_s + rng.uniform(-1, 1) * recipe.jitter_s) * 1e9)
        message = recipe.change(topic, t_s, make(ns if recipe.stamped else 0))
        found.append((ns + round(recipe.delay_s * 1e9), topic, kind, message))

    for place, camera in enumerate(robot.cameras):
        rate = recipe.rates.get(camera.topic, recipe.camera_hz)
        make = compressed_message if "Compressed" in camera.type else image_message
        for number in range(int(recipe.seconds * rate) + 1):
            pixels = image_at(number, *recipe.size, shade=3 * place)
            put(camera.topic, camera.type, number / rate, lambda ns, p=pixels, m=make: m(ns, p))
    for number in range(int(recipe.seconds * recipe.joint_hz) + 1):
        t_s = number / recipe.joint_hz
        for item in robot.state:
            # reversed: joints are found by name
            position = state_at(t_s, len(names))[::-1]
            put(item.topic, item.type, t_s, lambda ns, p=position: joint_message(ns, names[::-1], p))
        for group in robot.commands:
            goal = state_at(t_s + 0.1, len(names))
            put(group.topic, group.type, t_s, lambda ns, p=goal: trajectory_message(ns, names, p))
    for t_s, text in recipe.prompts:
        found.append((START_NS + round(t_s * 1e9), "/pi0/prompt", "std_msgs/msg/String", string_message(text)))
    for t_s, topic, kind, message in recipe.extra:
        found.append((START_NS + round(t_s * 1e9), topic, kind, message))
    return sorted(found, key=lambda item: item[0])


def make_bag(path: Path, robot: Robot, recipe: Recipe = Recipe()) -> Path:
    """Write a bag folder and return its path."""
    with Writer(path, version=9, storage_plugin=recipe.storage) as writer:
        connections: dict[str, Any] = {}
        for ns, topic, kind, message in messages(robot, recipe):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(connections[topic], ns, STORE.serialize_cdr(message, kind))
        for topic, kind in recipe.silent:
            writer.add_connection(topic, kind, typestore=STORE)
        for key, value in recipe.custom_data.items():
            writer.set_custom_data(key, value)
    return path
