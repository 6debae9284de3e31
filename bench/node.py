"""What the policy node adds to the model: from a camera's capture to the published chunk, less the model's own time.

    python bench/node.py                          # 3 cameras 640x480, raw and JPEG, over DDS between three processes
    python bench/node.py --seconds 60 --kinds jpeg

One process plays cameras (30 Hz) and joints (100 Hz), one is the policy node, one listens. The network is small and
random, at the image size of pi0: what stands around it is what a robot has. A picture also waits for the next
inference, up to a period of its camera: that is no work and is shown apart. The stages are those of `pi0 latency`.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image, JointState
from trajectory_msgs.msg import JointTrajectory

from pi0_ros.launching.launches import ros_arguments
from pi0_ros.launching.processes import ProcessGroup, private_domain, ros_environment
from pi0_ros.nodes.messages import diagnostic_values
from pi0_ros.robot import Robot, load_robot, robot_to_yaml

WIDTH, HEIGHT, CAMERA_HZ, JOINTS_HZ, SIDE = 640, 480, 30.0, 100.0, 224
SLOTS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
KINDS = {"raw": "sensor_msgs/msg/Image", "jpeg": "sensor_msgs/msg/CompressedImage"}
STAGES = ("receive", "preprocess", "infer", "publish", "deliver", "wait", "overhead")


def bench_robot(kind: str) -> Robot:
    """The demo's arm with three cameras of this kind."""
    robot = load_robot("demo_arm")
    cameras = tuple(
        replace(
            robot.cameras[0],
            name=f"camera_{place}",
            topic=f"/camera_{place}",
            type=KINDS[kind],
            slot=slot,
            max_age_s=2.0,
        )
        for place, slot in enumerate(SLOTS)
    )
    return replace(robot, cameras=cameras, state=tuple(replace(item, max_age_s=2.0) for item in robot.state))


def write_checkpoint(folder: Path, robot: Robot) -> None:
    """A pi0 of few weights that takes pictures of 224 pixels."""
    import torch

    from pi0_ros.checkpoints.checkpoint import save_checkpoint
    from pi0_ros.checkpoints.norm_stats import NormStats, Stats
    from pi0_ros.checkpoints.settings import PolicySettings
    from pi0_ros.model.config import Expert, ModelConfig, Vision
    from pi0_ros.model.pi0 import Pi0
    from pi0_ros.training.vocabulary import make_tokenizer

    small = Expert(width=16, depth=2, mlp_dim=16, num_heads=2, num_kv_heads=1, head_dim=8)
    config = replace(
        ModelConfig.preset("pi0"),
        vocab_size=512,
        vlm=small,
        expert=small,
        vision=Vision(width=16, depth=1, mlp_dim=16, num_heads=2, patch_size=56, image_size=SIDE),
    )
    torch.manual_seed(0)
    joints = len(robot.joints)
    stats = Stats(np.zeros(joints), np.ones(joints), -np.ones(joints), np.ones(joints))
    tokenizer = make_tokenizer((robot.prompt,), folder.with_name("tokenizer.model"), config.vocab_size)
    settings = PolicySettings("mean_std", "mean_std", fps=20.0)
    save_checkpoint(folder, Pi0(config), config, settings, robot, NormStats(stats, stats), tokenizer)


class Drivers(Node):
    """Cameras and joints as their drivers publish them."""

    def __init__(self, robot: Robot) -> None:
        super().__init__("drivers")
        random = np.random.default_rng(0)
        coarse = random.integers(40, 200, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
        self._pixels = coarse.repeat(8, 0).repeat(8, 1)
        self._joints = JointState(name=list(robot.joint_names), position=((robot.lower + robot.upper) / 2).tolist())
        self._states = self.create_publisher(JointState, robot.state[0].topic, 5)
        self.create_timer(1.0 / JOINTS_HZ, self._feel)
        for camera in robot.cameras:
            message = self._picture(camera.type)
            publisher = self.create_publisher(type(message), camera.topic, 5)
            self.create_timer(1.0 / CAMERA_HZ, lambda m=message, p=publisher: self._send(m, p))

    def _picture(self, kind: str) -> Image | CompressedImage:
        if kind == KINDS["raw"]:
            shape = {"height": HEIGHT, "width": WIDTH, "step": 3 * WIDTH}
            message = Image(encoding="rgb8", **shape)
            message.data.frombytes(self._pixels.tobytes())  # assigning to `data` looks at every byte
            return message
        from PIL import Image as Pillow

        encoded = io.BytesIO()
        Pillow.fromarray(self._pixels).save(encoded, "JPEG", quality=90)
        return CompressedImage(format="jpeg", data=encoded.getvalue())

    def _send(self, message: Image | CompressedImage, publisher: object) -> None:
        message.header.stamp = self.get_clock().now().to_msg()
        publisher.publish(message)  # type: ignore[attr-defined]

    def _feel(self) -> None:
        self._joints.header.stamp = self.get_clock().now().to_msg()
        self._states.publish(self._joints)


class Listener(Node):
    """Joins what the policy says of each chunk with when the chunk came."""

    def __init__(self) -> None:
        super().__init__("listener")
        self.rows: list[dict[str, float]] = []
        self._came: dict[int, int] = {}
        self.create_subscription(JointTrajectory, "pi0/chunk", self._chunk, 10)
        self.create_subscription(DiagnosticArray, "pi0/latency", self._latency, 10)

    def _chunk(self, message: JointTrajectory) -> None:
        stamp = message.header.stamp
        self._came[stamp.sec * 1_000_000_000 + stamp.nanosec] = self.get_clock().now().nanoseconds

    def _latency(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = diagnostic_values(status)
            came = self._came.pop(int(values.get("chunk", 0)), None)
            if came is None or "published" not in values:
                continue
            row = {name: float(values[f"{name}_ms"]) for name in ("receive", "wait", "preprocess", "infer", "publish")}
            row["deliver"] = max(0.0, (came - int(values["published"])) * 1e-6)
            row["overhead"] = sum(row[name] for name in ("receive", "preprocess", "publish", "deliver"))
            self.rows.append(row)


def measure(kind: str, seconds: float, rate: float) -> list[dict[str, float]]:
    """The stages (ms) of every chunk in so many seconds, after the first two."""
    folder = Path(tempfile.mkdtemp(prefix="pi0_node_"))
    os.environ.update(ros_environment(localhost=True, domain_id=private_domain()))
    robot, file = bench_robot(kind), folder / "robot.yaml"
    file.write_text(robot_to_yaml(robot))
    write_checkpoint(folder / "checkpoint", robot)
    given = {"robot": str(file), "checkpoint": str(folder / "checkpoint"), "policy_rate": rate, "rtc.mode": "off"}
    with ProcessGroup(log_dir=folder) as group:
        group.start("drivers", [sys.executable, __file__, "--drivers", str(file)])
        group.start("policy", [sys.executable, "-m", "pi0_ros.nodes.start", "policy", *ros_arguments(given)])
        rclpy.init()
        listener, executor = Listener(), SingleThreadedExecutor()
        executor.add_node(listener)

        def spin(until: float, rows: int) -> None:
            while time.monotonic() < until and len(listener.rows) < rows:
                executor.spin_once(timeout_sec=0.1)
                if group.poll():
                    raise RuntimeError("\n".join(f"{name}: {group.tail(name)}" for name in group.names()))

        spin(time.monotonic() + 60.0, 1)
        spin(time.monotonic() + 2.0, sys.maxsize)
        listener.rows.clear()
        spin(time.monotonic() + seconds, sys.maxsize)
        executor.shutdown()
        listener.destroy_node()
        rclpy.try_shutdown()
    return listener.rows


def table(found: dict[str, list[dict[str, float]]]) -> str:
    """Milliseconds of each stage, median and 99 %, a row per kind of picture."""
    lines = [f"| pictures | chunks | {' | '.join(STAGES)} |", "|---" * (len(STAGES) + 2) + "|"]
    for kind, rows in found.items():
        cells = [np.percentile([row[name] for row in rows], (50, 99)) for name in STAGES]
        text = " | ".join(f"{middle:.1f} / {high:.1f}" for middle, high in cells)
        lines.append(f"| 3 x {WIDTH}x{HEIGHT} {kind} | {len(rows)} | {text} |")
    return "\n".join(lines)


def main() -> None:
    """Parse the command line; print the table (ms, p50 / p99)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each kind of picture (default: %(default)g)")
    parser.add_argument("--rate", type=float, default=5.0, help="inferences per second (default: %(default)g)")
    parser.add_argument("--kinds", nargs="+", choices=tuple(KINDS), default=tuple(KINDS))
    parser.add_argument("--drivers", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.drivers:
        rclpy.init()
        rclpy.spin(Drivers(load_robot(str(args.drivers))))
        return
    found = {kind: measure(kind, args.seconds, args.rate) for kind in args.kinds}
    print(f"milliseconds, p50 / p99; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n\n{table(found)}")


if __name__ == "__main__":
    main()
