"""Peak memory of `pi0 convert` for a short and a long recording, and for one with a stamp of long ago.

    python bench/convert_memory.py                       # 30 s and 600 s
    python bench/convert_memory.py --seconds 30 120

Two cameras of 240x320 JPEG at 20 Hz, joints and commands at 100 Hz. Each conversion runs in a process of its own, whose
greatest resident size the kernel tells. Memory must not grow with the length: less than 10 % from 30 s to 600 s.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

HEIGHT, WIDTH, FPS, JOINT_HZ = 240, 320, 20, 100
START_NS = 1_700_000_000_000_000_000
LONG_AGO_NS = 1_000_000_000_000_000_000


def write_bag(folder: Path, seconds: float, wild: bool) -> None:
    """Write a recording and its robot file; `wild`: one picture in the middle is stamped years before."""
    import PIL.Image
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    from pi0_ros.robot import load_robot, robot_to_yaml

    demo = load_robot("demo_arm")
    kind = "sensor_msgs/msg/CompressedImage"
    robot = dataclasses.replace(demo, cameras=tuple(dataclasses.replace(camera, type=kind) for camera in demo.cameras))
    folder.mkdir(parents=True)
    (folder / "robot.yaml").write_text(robot_to_yaml(robot))
    store = get_typestore(Stores.ROS2_JAZZY)
    make = store.types
    random, nothing = np.random.default_rng(0), np.zeros(0)
    texture = random.integers(40, 200, (HEIGHT // 8, WIDTH // 8, 3), np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    jpegs = []
    for number in range(64):
        picture = texture.copy()
        picture[60:100, 4 * number : 4 * number + 40] = (200, 60, 40)
        file = io.BytesIO()
        PIL.Image.fromarray(picture).save(file, "JPEG", quality=85)
        jpegs.append(np.frombuffer(file.getvalue(), np.uint8))

    def header(ns: int) -> Any:
        stamp = make["builtin_interfaces/msg/Time"](sec=ns // 10**9, nanosec=ns % 10**9)
        return make["std_msgs/msg/Header"](stamp=stamp, frame_id="")

    state, group = robot.state[0], robot.commands[0]
    zero = make["builtin_interfaces/msg/Duration"](sec=0, nanosec=0)
    with Writer(folder / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        topics = {topic: writer.add_connection(topic, name, typestore=store) for topic, name in robot.topics.items()}

        def put(topic: str, ns: int, message: Any) -> None:
            writer.write(topics[topic], ns + 4_000_000, store.serialize_cdr(message, robot.topics[topic]))

        for number in range(int(seconds * JOINT_HZ)):
            ns, t_s = START_NS + number * 10**9 // JOINT_HZ, number / JOINT_HZ
            position = 0.3 * np.sin(t_s + np.arange(6)) + 0.35
            names = list(robot.joint_names)
            put(state.topic, ns, make[state.type](header(ns), names, position, nothing, nothing))
            point = make["trajectory_msgs/msg/JointTrajectoryPoint"](position, nothing, nothing, nothing, zero)
            put(group.topic, ns, make[group.type](header(ns), names, [point]))
            if number % (JOINT_HZ // FPS):
                continue
            for place, camera in enumerate(robot.cameras):
                middle = wild and place == 0 and number == int(seconds * JOINT_HZ) // 2
                jpeg = jpegs[(number // (JOINT_HZ // FPS) + 7 * place) % 64]
                put(camera.topic, ns, make[kind](header(LONG_AGO_NS if middle else ns), "jpeg", jpeg))


def run_one(folder: Path) -> None:
    """Convert, and print rows and the greatest resident size in MB."""
    from pi0_ros.conversion.convert import convert
    from pi0_ros.robot import load_robot

    report = convert([folder / "bag"], folder / "out", load_robot(folder / "robot.yaml"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"rows": report.frames, "peak_mb": peak}))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, nargs=2, default=(30.0, 600.0), metavar=("SHORT", "LONG"))
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        run_one(args.one)
        return 0
    short, long = args.seconds
    peaks = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, seconds, wild in (("short", short, False), ("long", long, False), ("wild", short, True)):
            write_bag(Path(scratch) / name, seconds, wild)
            command = [sys.executable, __file__, "--one", str(Path(scratch) / name)]
            done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
            if done.returncode:
                raise SystemExit(done.stderr[-2000:])
            result = json.loads(done.stdout.splitlines()[-1])
            peaks.append(result["peak_mb"])
            print(f"{name:5s} {seconds:6.0f} s: {result['rows']:6d} rows, peak {result['peak_mb']:.0f} MB")
    growth = [peak / peaks[0] - 1 for peak in peaks[1:]]
    print(f"long {growth[0]:+.1%}, wild stamp {growth[1]:+.1%} against the short one")
    return int(max(growth) > 0.10)


if __name__ == "__main__":
    sys.exit(main())
