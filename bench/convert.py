"""Converting a bag: speed and CPU time per image, beside LeRobot's own writer on the same pictures in the same run.

    python bench/convert.py                                            # pi0 convert alone
    python bench/convert.py --lerobot /path/to/lerobot-env/bin/python  # and LeRobot, in the environment it lives in
    python bench/convert.py --seconds 10 --ways h264

The bag: 3 cameras 480x640 JPEG at 30 Hz, joints and commands at 100 Hz: textured background, a moving object, sensor
noise. Each way runs in a process of its own; imports do not count. CPU time is user and system time over all threads
and child processes. `pi0 convert` reads and aligns the bag; LeRobot's writer gets the decoded pictures row by row from
memory-mapped JPEGs, so reading is a gift to it. The floor is to decode every picture and to encode it, with the same
libraries and settings, and nothing else. Lost: pictures that are not in its videos.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

CAMERAS, HEIGHT, WIDTH, FPS, JOINT_HZ, JOINTS = ("base", "left", "right"), 480, 640, 30, 100, 6
START_NS = 1_700_000_000_000_000_000
OURS = ("h264", "av1")
FLOOR = {"floor h264": "h264", "floor av1": "av1"}  # nothing but decoding the JPEGs and encoding the videos
# name -> (codec, encoded while recording); the first is what LeRobot does unless told otherwise
LEROBOT = {"lerobot": ("libsvtav1", False), "lerobot h264": ("h264", False), "lerobot h264 streaming": ("h264", True)}


def draw(seconds: float, folder: Path) -> None:
    """Write all pictures as JPEG, one file per camera, with their offsets."""
    import cv2

    random = np.random.default_rng(0)
    count = int(seconds * FPS) + 1
    for place, camera in enumerate(CAMERAS):
        texture = cv2.resize(random.integers(40, 200, (60, 80, 3), np.uint8), (WIDTH, HEIGHT)).astype(np.int16)
        noise = [random.normal(0, 2, (HEIGHT, WIDTH, 3)).astype(np.int16) for _ in range(8)]
        pictures = []
        for number in range(count):
            picture = texture + noise[random.integers(8)]
            angle = 0.05 * number + place
            row, column = int(200 + 150 * np.sin(angle)), int(280 + 200 * np.cos(1.3 * angle))
            picture[row : row + 80, column : column + 80] = (200, 60, 40)
            pixels = np.clip(picture, 0, 255).astype(np.uint8)
            pictures.append(cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes())
        (folder / f"{camera}.jpgs").write_bytes(b"".join(pictures))
        np.save(folder / f"{camera}.npy", np.cumsum([0, *map(len, pictures)]))


def joints(t_s: float) -> np.ndarray:
    """Positions at a time, float64 [J]."""
    return 0.3 * np.sin(t_s + np.arange(JOINTS))


class Pictures:
    """The JPEGs of one camera."""

    def __init__(self, folder: Path, camera: str) -> None:
        self._data = np.memmap(folder / f"{camera}.jpgs", np.uint8, "r")
        self._offsets = np.load(folder / f"{camera}.npy")

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, number: int) -> np.ndarray:
        return np.array(self._data[self._offsets[number] : self._offsets[number + 1]])


def write_bag(folder: Path, seconds: float) -> None:
    """Write the bag and its robot file."""
    import dataclasses

    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    from pi0_ros.robot import load_robot, robot_to_yaml

    demo = load_robot("demo_arm")
    cameras = tuple(
        dataclasses.replace(
            demo.cameras[0],
            name=name,
            slot=slot,
            topic=f"/{name}/image/compressed",
            type="sensor_msgs/msg/CompressedImage",
        )
        for name, slot in zip(CAMERAS, ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"), strict=True)
    )
    robot = dataclasses.replace(demo, cameras=cameras, dataset_fps=float(FPS))
    (folder / "robot.yaml").write_text(robot_to_yaml(robot))
    store = get_typestore(Stores.ROS2_JAZZY)
    make = store.types
    nothing = np.zeros(0)

    def header(ns: int) -> Any:
        stamp = make["builtin_interfaces/msg/Time"](sec=ns // 10**9, nanosec=ns % 10**9)
        return make["std_msgs/msg/Header"](stamp=stamp, frame_id="")

    state, group = robot.state[0], robot.commands[0]
    zero = make["builtin_interfaces/msg/Duration"](sec=0, nanosec=0)
    found: list[tuple[int, str, str, Any]] = []
    for camera in cameras:
        pictures = Pictures(folder, camera.name)
        for number in range(len(pictures)):
            ns = START_NS + number * 10**9 // FPS
            found.append((ns, camera.topic, camera.type, (pictures, number)))
    for number in range(int(seconds * JOINT_HZ) + 1):
        ns, t_s = START_NS + number * 10**9 // JOINT_HZ, number / JOINT_HZ
        message = make[state.type](header(ns), list(robot.joint_names), joints(t_s), nothing, nothing)
        found.append((ns, state.topic, state.type, message))
        point = make["trajectory_msgs/msg/JointTrajectoryPoint"](joints(t_s + 0.1), nothing, nothing, nothing, zero)
        found.append((ns, group.topic, group.type, make[group.type](header(ns), list(robot.joint_names), [point])))
    with Writer(folder / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        topics: dict[str, Any] = {}
        for ns, topic, kind, message in sorted(found, key=lambda item: item[0]):
            if topic not in topics:
                topics[topic] = writer.add_connection(topic, kind, typestore=store)
            if isinstance(message, tuple):
                message = make[kind](header(ns), "jpeg", message[0][message[1]])
            writer.write(topics[topic], ns + 4_000_000, store.serialize_cdr(message, kind))


def convert_ours(folder: Path, out: Path, codec: str) -> dict[str, float]:
    """Run `pi0 convert` and return what it cost."""
    from pi0_ros.conversion.convert import convert
    from pi0_ros.conversion.options import Options
    from pi0_ros.robot import load_robot

    robot = load_robot(folder / "robot.yaml")
    begin, cpu = time.monotonic(), cpu_s()
    report = convert([folder / "bag"], out, robot, Options(codec=codec))
    return {"seconds": time.monotonic() - begin, "cpu": cpu_s() - cpu, "rows": report.frames}


def only_recode(folder: Path, out: Path, codec: str) -> dict[str, float]:
    """Decode the pictures and encode them, a thread for each camera, and return what it cost."""
    from pi0_ros.datasets.video import CODECS, VideoWriter
    from pi0_ros.observation.images import decode_image

    pictures = [Pictures(folder, camera) for camera in CAMERAS]
    rows = len(pictures[0]) - 1
    out.mkdir()
    begin, cpu = time.monotonic(), cpu_s()
    writers = [VideoWriter(out / f"{camera}.mp4", HEIGHT, WIDTH, FPS, CODECS[codec]) for camera in CAMERAS]
    for row in range(rows):
        for writer, jpegs in zip(writers, pictures, strict=True):
            writer.add(decode_image(SimpleNamespace(format="jpeg", data=jpegs[row])))
    for writer in writers:
        writer.close()
    return {"seconds": time.monotonic() - begin, "cpu": cpu_s() - cpu, "rows": rows}


def convert_lerobot(folder: Path, out: Path, codec: str, streaming: bool) -> dict[str, float]:
    """Have LeRobot write the same pictures and return what it cost."""
    import cv2
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    vector = {"dtype": "float32", "shape": (JOINTS,), "names": [f"joint{n}" for n in range(JOINTS)]}
    picture = {"dtype": "video", "shape": (HEIGHT, WIDTH, 3), "names": ["height", "width", "channels"]}
    features = {"observation.state": vector, "action": vector}
    features |= {f"observation.images.{camera}": picture for camera in CAMERAS}
    pictures = {camera: Pictures(folder, camera) for camera in CAMERAS}
    rows = len(pictures[CAMERAS[0]]) - 1
    options: dict[str, Any] = {"image_writer_threads": 4 * len(CAMERAS), "streaming_encoding": streaming}
    try:
        from lerobot.configs.video import RGBEncoderConfig  # 0.6 and later

        options["rgb_encoder"] = RGBEncoderConfig(vcodec=codec)
    except ImportError:
        options["vcodec"] = codec
    begin, cpu = time.monotonic(), cpu_s()
    dataset = LeRobotDataset.create("bench/convert", FPS, features, root=out, **options)
    for row in range(rows):
        decoded = {camera: cv2.imdecode(jpegs[row], cv2.IMREAD_COLOR_RGB) for camera, jpegs in pictures.items()}
        frame: dict[str, Any] = {f"observation.images.{camera}": image for camera, image in decoded.items()}
        state, action = (joints(row / FPS + lead).astype(np.float32) for lead in (0.0, 0.1))
        dataset.add_frame({**frame, "observation.state": state, "action": action, "task": "fold the towel"})
    dataset.save_episode()
    dataset.finalize()
    return {"seconds": time.monotonic() - begin, "cpu": cpu_s() - cpu, "rows": rows}


def cpu_s() -> float:
    """User and system time of this process and its children so far."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def pictures_in(dataset: Path) -> int:
    """Frames in all videos of a dataset."""
    import av

    found = 0
    for path in dataset.rglob("*.mp4"):
        with av.open(str(path)) as container:
            found += sum(1 for packet in container.demux(container.streams.video[0]) if packet.size)
    return found


def measure(python: str, folder: Path, way: str) -> dict[str, float]:
    """Run one way in a process of its own."""
    out = folder / way.replace(" ", "-")
    command = [python, "-W", "ignore", __file__, "--run", way, "--folder", str(folder), "--out", str(out)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(folder / "cache"), "SVT_LOG": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{way}: {done.stderr.strip()[-2000:]}")
    result: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    result["lost"] = result["rows"] * len(CAMERAS) - pictures_in(out)
    result["mb"] = sum(path.stat().st_size for path in out.rglob("*.mp4")) / 1e6
    return result


def main() -> None:
    """Make the bag, run every way and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument(
        "--lerobot", metavar="PYTHON", help="the interpreter of an environment with LeRobot 0.4 or later"
    )
    parser.add_argument("--ways", nargs="+", choices=(*OURS, *FLOOR, *LEROBOT), default=(*OURS, *FLOOR, *LEROBOT))
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run in LEROBOT:
        print(json.dumps(convert_lerobot(arguments.folder, arguments.out, *LEROBOT[arguments.run])))
        return
    if arguments.run in FLOOR:
        print(json.dumps(only_recode(arguments.folder, arguments.out, FLOOR[arguments.run])))
        return
    if arguments.run:
        print(json.dumps(convert_ours(arguments.folder, arguments.out, arguments.run)))
        return
    ways = [way for way in arguments.ways if way not in LEROBOT or arguments.lerobot]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        draw(arguments.seconds, folder)
        write_bag(folder, arguments.seconds)
        print(f"{arguments.seconds:g} s, {len(CAMERAS)} x {HEIGHT}x{WIDTH} JPEG at {FPS} Hz, {os.cpu_count()} CPUs")
        print(f"{'':24s} seconds  x real time  CPU-ms/image     MB  lost")
        found = {}
        for way in ways:
            found[way] = one = measure(arguments.lerobot if way in LEROBOT else sys.executable, folder, way)
            images = one["rows"] * len(CAMERAS)
            speed, cost = one["rows"] / FPS / one["seconds"], one["cpu"] / images * 1e3
            name = f"pi0 convert {way}" if way in OURS else way
            print(f"{name:24s} {one['seconds']:7.1f} {speed:12.2f} {cost:13.1f} {one['mb']:6.1f} {one['lost']:5.0f}")
        for ours in set(ways) & set(OURS):
            for way in (way for way in ways if way in LEROBOT):
                ratio = found[way]["seconds"] / found[way]["rows"] * found[ours]["rows"] / found[ours]["seconds"]
                print(f"pi0 convert {ours} is {ratio:.1f} times as fast as {way}")


if __name__ == "__main__":
    main()
