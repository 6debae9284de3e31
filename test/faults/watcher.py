"""The independent witness of the fault suite: writes down what went over the wire and when, and judges nothing.

python watcher.py OUT TOPIC JOINT,JOINT,... STATE_TOPIC

One JSON line each for a command to the robot, what the controller says it sent, a joint state and the controller's
diagnostics. `t` is the time at which the middleware took the message (s of the system's clock, which nobody sets
meanwhile): a witness that is late itself accuses nobody.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

DEEP = QoSProfile(depth=2000, reliability=ReliabilityPolicy.RELIABLE)


def main() -> None:
    """Listen until killed."""
    out, topic, names, state_topic = sys.argv[1:5]
    joints = names.split(",")
    rclpy.init()
    node = Node("fault_watcher")
    with Path(out).open("w", buffering=1, encoding="utf-8") as file:

        def note(kind: str, info: Any, **content: Any) -> None:
            file.write(json.dumps({"k": kind, "t": info["source_timestamp"] * 1e-9, **content}) + "\n")

        def in_order(names: Any, values: Any) -> list[float] | None:
            found = dict(zip(names, values))
            return [found[joint] for joint in joints] if all(joint in found for joint in joints) else None

        def trajectory(kind: str) -> Any:
            def heard(message: JointTrajectory, info: Any) -> None:
                rows = [in_order(message.joint_names, point.positions) for point in message.points]
                speeds = [in_order(message.joint_names, point.velocities) for point in message.points]
                ends = [p.time_from_start.sec + p.time_from_start.nanosec * 1e-9 for p in message.points]
                note(kind, info, p=rows, v=speeds, at=ends)

            return heard

        def state(message: JointState, info: Any) -> None:
            note("state", info, p=in_order(message.name, message.position))

        def diagnostics(message: DiagnosticArray, info: Any) -> None:
            for status in message.status:
                if status.name.endswith(": controller"):
                    values = {pair.key: pair.value for pair in status.values}
                    level = int.from_bytes(status.level, "little")
                    note("status", info, level=level, state=values.get("state", ""), text=status.message)

        node.create_subscription(JointTrajectory, topic, trajectory("command"), DEEP)
        node.create_subscription(JointTrajectory, "pi0/command", trajectory("sent"), DEEP)
        node.create_subscription(JointState, state_topic, state, DEEP)
        node.create_subscription(DiagnosticArray, "/diagnostics", diagnostics, DEEP)
        note("ready", {"source_timestamp": 0})
        rclpy.spin(node)


if __name__ == "__main__":
    main()
