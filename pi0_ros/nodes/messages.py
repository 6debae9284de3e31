"""Between ROS messages and the numpy side: stamps, action chunks, joint states, commands and diagnostics."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration, Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from pi0_ros.base.errors import InputError
from pi0_ros.base.foreign import MAX_LINE_CHARS, shortened
from pi0_ros.control.chunk import ActionChunk, ChunkError
from pi0_ros.control.plan import Plan

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

NANOSECONDS = 1_000_000_000
EVEN_NS = 1_000  # of a chunk of others: its steps may differ by this or by a hundredth
STATUS = "pi0_ros: "  # begins the names of our statuses on /diagnostics
LATEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)  # chunks, commands: only the newest matters
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
SILENT = SubscriptionEventCallbacks(use_default_callbacks=False)  # where a second subscription hears what this cannot
STATES = QoSProfile(depth=20, reliability=ReliabilityPolicy.BEST_EFFORT)  # several publishers may share a topic
SENSOR = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)  # hears reliable publishers as well


@cache
def message_class(kind: str) -> Any:
    """The Python class of a message type such as `sensor_msgs/msg/Image`; InputError where it is not installed."""
    return _class(kind, "msg", f"message type {kind} is not installed")


@cache
def action_class(kind: str) -> Any:
    """The same of an action type such as `control_msgs/action/GripperCommand`."""
    package = kind.partition("/")[0]
    remedy = f"install its package (apt install ros-$ROS_DISTRO-{package.replace('_', '-')}) or source its workspace"
    return _class(kind, "action", f"action type {kind} is not installed, {remedy}")


def _class(kind: str, interface: str, absent: str) -> Any:
    package, _, name = kind.partition(f"/{interface}/")
    try:
        return getattr(importlib.import_module(f"{package}.{interface}"), name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"{absent}: {error}") from error


def stamp_to_ns(stamp: Time | Duration) -> int:
    """A message's stamp, or a duration, in nanoseconds."""
    return int(stamp.sec) * NANOSECONDS + int(stamp.nanosec)


def ns_to_stamp(nanoseconds: int) -> Time:
    """Nanoseconds as a message's stamp."""
    sec, nanosec = divmod(int(nanoseconds), NANOSECONDS)
    return Time(sec=sec, nanosec=nanosec)


def stamp_to_seconds(stamp: Time) -> float:
    """A message's stamp in seconds (float64: 0.2 microseconds at today's dates)."""
    return stamp_to_ns(stamp) * 1e-9


def seconds_to_stamp(seconds: float) -> Time:
    """Seconds as a message's stamp."""
    return ns_to_stamp(round(seconds * NANOSECONDS))


def ns_to_duration(nanoseconds: int) -> Duration:
    """Nanoseconds as a message's duration."""
    sec, nanosec = divmod(int(nanoseconds), NANOSECONDS)
    return Duration(sec=sec, nanosec=nanosec)


def seconds_to_duration(seconds: float) -> Duration:
    """Seconds as a message's duration."""
    return ns_to_duration(round(seconds * NANOSECONDS))


def chunk_to_message(chunk: ActionChunk) -> JointTrajectory:
    """A chunk as JointTrajectory: header.stamp = capture time, point i at `i * dt_ns`."""
    message = JointTrajectory(joint_names=list(chunk.names))
    message.header.stamp = ns_to_stamp(chunk.stamp_ns)
    message.points = [
        JointTrajectoryPoint(positions=row, time_from_start=ns_to_duration(i * chunk.dt_ns))
        for i, row in enumerate(chunk.actions.tolist())
    ]
    return message


def chunk_from_message(message: JointTrajectory, names: Sequence[str], receive_ns: int | None = None) -> ActionChunk:
    """The chunk in a JointTrajectory, its joints brought into the order `names`.

    `receive_ns` replaces a zero stamp. Raises `ChunkError` for unknown, missing or repeated joints, points of the
    wrong width, uneven times, or numbers that are not finite.
    """
    check_names(message.joint_names, names)
    if len(message.points) < 2:
        raise ChunkError(f"chunk has {len(message.points)} points, needs at least 2")
    widths = {len(point.positions) for point in message.points}
    if widths != {len(names)}:
        raise ChunkError(f"points have {sorted(widths)} positions, expected {len(names)} ({', '.join(names)})")
    times_ns = np.array([stamp_to_ns(point.time_from_start) for point in message.points])
    dt_ns = round((times_ns[-1] - times_ns[0]) / (len(times_ns) - 1))
    uneven_ns = np.abs(times_ns - dt_ns * np.arange(len(times_ns)))  # other publishers round as they like
    if dt_ns <= 0 or (uneven_ns > max(EVEN_NS, 0.01 * dt_ns)).any():
        raise ChunkError("time_from_start of point i must be i * dt with one positive dt")
    stamp_ns = stamp_to_ns(message.header.stamp) or receive_ns
    if stamp_ns is None:
        raise ChunkError("header.stamp is zero, expected the capture time of the observation")
    order = [message.joint_names.index(name) for name in names]
    actions = np.array([point.positions for point in message.points], dtype=np.float64)[:, order]
    return ActionChunk(stamp_ns, dt_ns, actions, tuple(names))


def sent_from_message(message: JointTrajectory, names: Sequence[str]) -> np.ndarray:
    """The positions float64 [J] in a message of `pi0/command`, of the joints `names`; `ChunkError` where one lacks."""
    positions = dict(zip(message.joint_names, message.points[0].positions if message.points else ()))
    try:
        return np.array([positions[name] for name in names], dtype=np.float64)
    except KeyError as error:
        raise ChunkError(f"no position of {error.args[0]}; the robot file has {', '.join(names)}") from None


def plan_from_message(message: JointTrajectory, names: Sequence[str]) -> tuple[int, Plan | None]:
    """When a plan of `pi0/plan` begins (ns) and what it is, its joints in the order `names`; None: nothing is sent.

    `ChunkError` for other joints, points of the wrong width, times that do not rise, or numbers that are not finite.
    """
    check_names(message.joint_names, names)
    begins_ns = stamp_to_ns(message.header.stamp)
    if not message.points:
        return begins_ns, None
    if {len(x) for point in message.points for x in (point.positions, point.velocities)} != {len(names)}:
        raise ChunkError(f"every point needs {len(names)} positions and velocities")
    order = [message.joint_names.index(name) for name in names]
    positions = np.array([point.positions for point in message.points], np.float64)[:, order]
    velocities = np.array([point.velocities for point in message.points], np.float64)[:, order]
    times = np.array([stamp_to_ns(point.time_from_start) for point in message.points]) * 1e-9
    if not (np.isfinite(positions).all() and np.isfinite(velocities).all() and (np.diff(times) > 0).all()):
        raise ChunkError("its times do not rise, or its numbers are not finite")
    return begins_ns, Plan(times, positions, velocities)


def check_names(found: Sequence[str], expected: Sequence[str]) -> None:
    """Raise `ChunkError` unless `found` holds every name of `expected` once and no other."""
    counts = Counter(found)
    unknown = [name for name in counts if name not in expected]
    missing = [name for name in expected if name not in counts]
    repeated = sorted(name for name, count in counts.items() if count > 1)
    complaints = [("unknown", unknown), ("missing", missing), ("repeated", repeated)]
    if unknown or missing or repeated:
        listed = [(word, shortened(", ".join(names), MAX_LINE_CHARS)) for word, names in complaints if names]
        text = "; ".join(f"{word} joints: {names}" for word, names in listed)
        raise ChunkError(f"{text}; the robot file has {', '.join(expected)}")


def own_name(node: Node) -> str:
    """What a node calls itself on /diagnostics: its full name, so that two robots in one domain are two."""
    return str(node.get_fully_qualified_name()).removeprefix("/")


def status_name(node: Node, name: str) -> str:
    """The name of the status of the node `name`, which lives in the namespace of `node` unless it begins with /."""
    return f"{STATUS}{node.resolve_topic_name(name).removeprefix('/')}"


def hardware_id(node: Node, robot: str) -> str:
    """The robot's name, with the namespace of `node` before it: two robots of one kind are two."""
    return f"{node.get_namespace()}/{robot}".lstrip("/")


def diagnostic_status(
    name: str, level: bytes, message: str, values: Mapping[str, object], hardware_id: str = ""
) -> DiagnosticStatus:
    """One status named `pi0_ros: <name>`; `level` is DiagnosticStatus.OK, WARN, ERROR or STALE."""
    pairs = [
        KeyValue(key=key, value=f"{value:.6g}" if isinstance(value, float) else shortened(str(value)))
        for key, value in values.items()
    ]
    text = shortened(message)
    return DiagnosticStatus(name=f"{STATUS}{name}", level=level, message=text, hardware_id=hardware_id, values=pairs)


def diagnostic_array(stamp: Time, statuses: Sequence[DiagnosticStatus]) -> DiagnosticArray:
    """Statuses as one message for `/diagnostics`."""
    array = DiagnosticArray(status=list(statuses))
    array.header.stamp = stamp
    return array


def diagnostic_values(status: DiagnosticStatus) -> dict[str, str]:
    """The key-value pairs of a status as a dict."""
    return {pair.key: pair.value for pair in status.values}
