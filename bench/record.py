"""Does the recorder keep up? Synthetic cameras and joints from one process, the recorder in another, losses counted.

    python bench/record.py --seconds 60 --out /data/tmp        # the disk that matters
    python bench/record.py --seconds 10 --compression zstd --pre-roll 2

Losses are counted twice: by the recorder, from the sequence numbers of the middleware, and here, from numbers that the
publishers write into every header, read back from the bag. The exit status is 1 where a message is lost.
"""

from __future__ import annotations

import argparse
import os
import shutil
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import Image, JointState

from pi0_ros.launching.launches import ros_arguments
from pi0_ros.launching.processes import ProcessGroup, private_domain, ros_environment
from pi0_ros.nodes.recorder_client import RecorderClient
from pi0_ros.nodes.sim_client import spin_until

ROBOT = """
name: bench
description: cameras and joints of a bench
control_rate_hz: 50
policy_rate_hz: 2.5
dataset_fps: 30
prompt: nothing moves
joints:
  - {name: a, unit: rad, kind: revolute, action: absolute, limits: {position: [-1, 1], velocity: 1, acceleration: 5}}
state:
  - {topic: /bench/joints, type: sensor_msgs/msg/JointState, max_age_s: 0.2}
commands:
  - {name: arm, topic: /bench/command, type: trajectory_msgs/msg/JointTrajectory}
action: {source: command, max_age_s: 0.5}
cameras:
"""
SLOTS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")


def publish(cameras: int, width: int, height: int, camera_hz: float, joints_hz: float, best_effort: bool) -> None:
    """The process of the publishers: absolute deadlines, cameras out of step, a number in every header."""
    rclpy.init()
    node = Node("bench_publishers")
    reliability = ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE
    qos = QoSProfile(depth=10, reliability=reliability)
    image = Image(height=height, width=width, encoding="rgb8", step=3 * width)
    rows, columns = np.mgrid[:height, :width]
    picture = 128 + 60 * np.sin(rows / 40)[..., None] * np.cos(columns / 25)[..., None] * [1.0, 0.8, 0.5]
    noise = np.random.default_rng(0).normal(0, 2, (height, width, 3))  # of a camera, for zstd to work on
    image.data.frombytes((picture + noise).astype(np.uint8).tobytes())
    joints = JointState(name=[f"joint_{i}" for i in range(14)], position=[0.1] * 14)
    streams = [
        (node.create_publisher(Image, f"/bench/camera_{i}", qos), image, 1.0 / camera_hz, i / cameras / camera_hz)
        for i in range(cameras)
    ]
    streams.append((node.create_publisher(JointState, "/bench/joints", qos), joints, 1.0 / joints_hz, 0.0))
    start, counts = time.monotonic() + 0.1, [0] * len(streams)
    while True:
        due = [start + phase + count * period for (_, _, period, phase), count in zip(streams, counts)]
        place = due.index(min(due))
        time.sleep(max(0.0, due[place] - time.monotonic()))
        publisher, message, _, _ = streams[place]
        message.header.stamp = node.get_clock().now().to_msg()
        message.header.frame_id = f"{counts[place]:010d}"
        publisher.publish(message)
        counts[place] += 1


def cpu_s(pid: int) -> float:
    """Processor seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def gaps(bag: Path) -> dict[str, tuple[int, list[tuple[float, int]]]]:
    """Topic -> (messages in the bag, (second, how many) of the numbers that are missing in between)."""
    found: dict[str, tuple[int, list[tuple[float, int]]]] = {}
    last: dict[str, int] = {}
    with AnyReader([bag]) as reader:
        connections = [connection for connection in reader.connections if connection.topic.startswith("/bench")]
        for connection, stamp_ns, data in reader.messages(connections):
            topic, size = connection.topic, struct.unpack_from("<I", data, 12)[0]
            number = int(data[16 : 16 + size - 1])  # CDR: 4 bytes of head, 8 of stamp, then the frame's name
            count, missing = found.get(topic, (0, []))
            if count and number > last[topic] + 1:
                missing.append(((stamp_ns - reader.start_time) * 1e-9, number - last[topic] - 1))
            last[topic], found[topic] = number, (count + 1, missing)
    return dict(sorted(found.items()))


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="of the recording (default 10)")
    parser.add_argument("--out", type=Path, help="folder for the bag, removed afterwards (default: temporary)")
    parser.add_argument("--cameras", type=int, default=3)
    parser.add_argument("--size", default="640x480", help="of the images (default 640x480)")
    parser.add_argument("--camera-hz", type=float, default=30.0)
    parser.add_argument("--joints-hz", type=float, default=100.0)
    parser.add_argument("--best-effort", action="store_true", help="the publishers' reliability (default: reliable)")
    parser.add_argument("--compression", default="none", help="none or zstd (default none)")
    parser.add_argument("--pre-roll", type=float, default=0.0, help="seconds (default 0)")
    parser.add_argument("--publish", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    width, height = map(int, args.size.split("x"))
    if args.publish:
        publish(args.cameras, width, height, args.camera_hz, args.joints_hz, args.best_effort)
    folder = Path(tempfile.mkdtemp(prefix="pi0_record_", dir=args.out))
    try:
        return measure(args, folder)
    finally:
        shutil.rmtree(folder)


def measure(args: argparse.Namespace, folder: Path) -> int:
    """Record once, print what happened; 1 where a message was lost."""
    os.environ.update(ros_environment(localhost=True, domain_id=private_domain()))
    robot = folder / "bench.yaml"
    camera = "  - {{name: c{0}, topic: /bench/camera_{0}, type: sensor_msgs/msg/Image, slot: {1}, max_age_s: 0.25}}\n"
    robot.write_text(ROBOT + "".join(camera.format(i, SLOTS[i]) for i in range(args.cameras)))
    node = ros_arguments(
        {"robot": str(robot), "out_dir": str(folder), "compression": args.compression, "pre_roll_s": args.pre_roll}
    )
    with ProcessGroup(log_dir=folder) as group:
        publisher = group.start("publishers", [sys.executable, __file__, "--publish", *sys.argv[1:]])
        recorder = group.start("recorder", [sys.executable, "-m", "pi0_ros.nodes.recorder_node", *node])
        rclpy.init()
        executor, desk = SingleThreadedExecutor(), Node("bench")
        executor.add_node(desk)
        client = RecorderClient(desk)

        def until(done: Callable[[], bool], limit_s: float) -> None:
            if not spin_until(executor, done, limit_s):
                raise TimeoutError("\n".join(f"{name}: {group.tail(name)}" for name in group.names()))

        def ask(action: str) -> str:
            until(lambda: client.act(action), 60.0)
            until(client.answered, 120.0)
            _, success, message = client.answer() or ("", False, "")
            if not success:
                raise RuntimeError(message)
            return message

        joints = "rate_hz /bench/joints"
        until(lambda: float(client.status.get(joints, 0)) > 0.8 * args.joints_hz, 60.0)
        before, start = (cpu_s(publisher), cpu_s(recorder)), time.monotonic()
        ask("start")
        queue_mb = 0.0
        while time.monotonic() - start < args.seconds:
            executor.spin_once(timeout_sec=0.5)
            queue_mb = max(queue_mb, float(client.status["queue_mb"]))
        seconds = time.monotonic() - start
        recorded = seconds + args.pre_roll
        used = cpu_s(publisher) - before[0], cpu_s(recorder) - before[1]
        asked = time.monotonic()
        summary = ask("stop").splitlines()
        stop_s = time.monotonic() - asked
        executor.shutdown()
        desk.destroy_node()
        rclpy.try_shutdown()
    bag = Path(summary[0])
    megabytes = sum(file.stat().st_size for file in bag.iterdir()) / 1e6
    found = gaps(bag)
    print("the recorder says:", *summary[1:], sep="\n  ")
    print(f"{'in the bag':<20s}{'messages':>10s}{'Hz':>8s}{'missing':>9s}")
    for topic, (count, missing) in found.items():
        places = ", ".join(f"{lost} at {at:.2f} s" for at, lost in missing[:5])
        print(f"{topic:<20s}{count:10d}{count / recorded:8.1f}{sum(n for _, n in missing):9d}  {places}".rstrip())
    print(f"{megabytes:.0f} MB of {recorded:.1f} s, {megabytes / recorded:.1f} MB/s; at most {queue_mb} MB waited")
    print(f"CPU: recorder {100 * used[1] / seconds:.0f} %, publishers {100 * used[0] / seconds:.0f} % of one core")
    print(f"stop took {stop_s:.2f} s")
    lost = any(missing for _, missing in found.values()) or any(" lost" in line for line in summary)
    print("LOST MESSAGES" if lost else "0 messages lost")
    return int(bool(lost))


if __name__ == "__main__":
    sys.exit(main())
