"""The independent witness of the fault suite: writes down what went over the wire and when, and judges nothing.

python watcher.py OUT KIND=TOPIC ...

One record each: kind (one byte, the place in KINDS), time (int64 ns of the steady clock), number (uint64, by which its
sender counts what it publishes; 0: it does not), length (uint32), and the serialised message as it came. The time is
that at which the middleware took the message from its sender, moved from the system's clock to the steady one: a
witness that is late itself accuses nobody.
"""

from __future__ import annotations

import contextlib
import os
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped, TwistStamped
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

KINDS: dict[str, Any] = {
    "command": JointTrajectory,  # on the robot's own topic
    "sent": JointTrajectory,  # what the controller says it sent
    "state": JointState,
    "status": DiagnosticArray,
    "clock": Clock,
    "base": TwistStamped,
    "odometry": Odometry,
    "hand": PoseStamped,
    "hand_state": PoseStamped,
}
HEAD = struct.Struct("<BqQI")
DEEP = QoSProfile(depth=5000, reliability=ReliabilityPolicy.RELIABLE)


def records(data: bytes) -> Iterator[tuple[str, float, int, bytes, int]]:
    """(kind, steady time in s, number, message, where the next one begins) of each whole record."""
    names, at = list(KINDS), 0
    while len(data) - at >= HEAD.size:
        kind, time_ns, number, length = HEAD.unpack_from(data, at)
        if len(data) - at - HEAD.size < length:
            return
        begin = at + HEAD.size
        at = begin + length
        yield names[kind], time_ns * 1e-9, number, data[begin:at], at


def main() -> None:
    """Listen until killed, ahead of others where that is allowed: what is not fetched in time is lost."""
    out, *wanted = sys.argv[1:]
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    rclpy.init()
    node = Node("fault_watcher")
    with Path(out).open("ab", buffering=0) as file:

        def listener(number: int) -> Any:
            def heard(data: bytes, info: Any) -> None:
                steady = info["source_timestamp"] - time.time_ns() + time.monotonic_ns()
                count = info.get("publication_sequence_number") or 0
                file.write(HEAD.pack(number, steady, count, len(data)) + data)

            return heard

        for word in wanted:
            kind, topic = word.split("=")
            heard = listener(list(KINDS).index(kind))
            node.create_subscription(KINDS[kind], topic, heard, DEEP, raw=True)
        rclpy.spin(node)


if __name__ == "__main__":
    main()
