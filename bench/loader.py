"""Batches for training: samples per CPU-second from a dataset on disk, beside LeRobot's own loader on the same dataset.

    python bench/loader.py                                            # ours alone
    python bench/loader.py --lerobot /path/to/lerobot-env/bin/python  # and LeRobot, in the environment it lives in

The dataset: 3 cameras 480x640 as H.264, 6 joints, 30 frames a second. A sample is a frame of each camera at 224 pixels,
the state, the prompt and a chunk of 50 actions. Ours: frames decoded once into a cache (timed apart), then what a
training step takes: tensors for the model, normalised, with tokens. LeRobot: its dataset in torch's DataLoader without
worker processes, which decodes a video for every sample, and neither resizes nor tokenises. CPU time is of all threads.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

CAMERAS, HEIGHT, WIDTH, FPS, JOINTS, HORIZON, SIDE = ("base", "left", "right"), 480, 640, 30, 6, 50, 224


def cpu_s() -> float:
    """Of this process and those that it waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def rate(draw: Callable[[int], object], batch: int, seconds: float) -> tuple[float, float]:
    """Samples per CPU-second and per second of `draw(step)`, after a first one that does not count."""
    draw(0)
    began, used, step = time.perf_counter(), cpu_s(), 0
    while time.perf_counter() - began < seconds:
        step += 1
        draw(step)
    return step * batch / (cpu_s() - used), step * batch / (time.perf_counter() - began)


def make_dataset(folder: Path, episodes: int, frames: int) -> None:
    """Write it, with this package's writer."""
    from pi0_ros.datasets.staged_episode import EpisodeStager
    from pi0_ros.datasets.video import CODECS
    from pi0_ros.datasets.writer_v30 import write_dataset

    random = np.random.default_rng(0)
    texture = {
        c: random.integers(40, 200, (HEIGHT // 8, WIDTH // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1) for c in CAMERAS
    }
    parts = []
    for number in range(episodes):
        stager = EpisodeStager(folder.with_name(f"part{number}"), FPS, CODECS["h264"])
        for row in range(frames):
            pictures = {camera: np.roll(pixels, (3 * row, 5 * number), (0, 1)) for camera, pixels in texture.items()}
            pose = 0.3 * np.sin(0.05 * row + np.arange(JOINTS)).astype(np.float32)
            stager.add(pose, pose, pictures)
        parts.append(stager.close(f"pick up block {number}"))
    write_dataset(folder, parts, bench_robot(), FPS, CODECS["h264"], {})


def bench_robot():  # type: ignore[no-untyped-def]  # LeRobot's environment has no pi0_ros
    """The demo's arm with three cameras."""
    from pi0_ros.robot import load_robot

    robot = load_robot("demo_arm")
    slots = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
    cameras = tuple(
        replace(robot.cameras[0], name=name, topic=f"/{name}", slot=slot)
        for name, slot in zip(CAMERAS, slots, strict=True)
    )
    return replace(robot, cameras=cameras, dataset_fps=FPS)


def ours(folder: Path, batch: int, seconds: float) -> None:
    """Build the cache, then draw batches; prints JSON."""
    import torch

    from pi0_ros.checkpoints.settings import PolicySettings
    from pi0_ros.checkpoints.spec import PolicySpec
    from pi0_ros.datasets.dataset import Dataset
    from pi0_ros.model.config import ModelConfig
    from pi0_ros.tokens.tokenizer import Tokenizer
    from pi0_ros.training.loader import Augmentation, load_data, make_batch
    from pi0_ros.training.statistics import compute_norm_stats
    from pi0_ros.training.vocabulary import make_tokenizer

    torch.set_num_threads(1)
    used, began = cpu_s(), time.perf_counter()
    dataset = Dataset(folder)
    data = load_data(dataset, SIDE)
    cache = {"cpu_ms": 1e3 * (cpu_s() - used) / data.length, "ms": 1e3 * (time.perf_counter() - began) / data.length}
    config = replace(ModelConfig.preset("pi0"), vocab_size=512, action_horizon=HORIZON)
    tokenizer = Tokenizer.load(make_tokenizer(data.prompts, folder / "tokenizer.model", 512))
    stats = compute_norm_stats(dataset, dataset.robot, HORIZON)
    spec = PolicySpec(config, PolicySettings("mean_std", "mean_std", FPS), dataset.robot, stats, tokenizer)

    def draw(step: int) -> object:
        random = np.random.default_rng(step)
        return make_batch(data, spec, random.integers(0, data.length, batch), Augmentation(), random)

    per_cpu, per_s = rate(draw, batch, seconds)
    print(json.dumps({"per_cpu_s": per_cpu, "per_s": per_s, "cache": cache}))


LEROBOT = """
import json, sys, time
sys.path.insert(0, {here!r})
from loader import rate, FPS, HORIZON
import torch
from torch.utils.data import DataLoader
try:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
except ImportError:
    from lerobot.common.datasets.lerobot_dataset import LeRobotDataset
torch.set_num_threads(1)
steps = {{"action": [number / FPS for number in range(HORIZON)]}}
dataset = LeRobotDataset("bench/loader", root={root!r}, delta_timestamps=steps, video_backend={backend!r})
batches = iter(())
def draw(step):
    global batches
    while (found := next(batches, None)) is None:
        batches = iter(DataLoader(dataset, batch_size={batch}, shuffle=True, drop_last=True, num_workers=0))
    return found
per_cpu, per_s = rate(draw, {batch}, {seconds})
print(json.dumps({{"per_cpu_s": per_cpu, "per_s": per_s}}))
"""


def main() -> None:
    """Run both in processes of their own and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lerobot", help="Python of an environment with lerobot")
    parser.add_argument("--backend", default="pyav", help="what LeRobot decodes videos with (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement (default: %(default)g)")
    parser.add_argument("--frames", type=int, default=150, help="in each of four episodes (default: %(default)s)")
    parser.add_argument("--ours", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.ours:
        ours(args.ours, args.batch, args.seconds)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "dataset"
        make_dataset(folder, 4, args.frames)
        common = ["--batch", str(args.batch), "--seconds", str(args.seconds)]
        runs = {"pi0 train": [sys.executable, __file__, "--ours", str(folder), *common]}
        if args.lerobot:
            values = {"here": str(Path(__file__).parent), "root": str(folder), "backend": args.backend}
            script = LEROBOT.format(**values, batch=args.batch, seconds=args.seconds)
            runs["LeRobot"] = [args.lerobot, "-c", script]
        found = {}
        for name, command in runs.items():
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"{name}: {done.stderr[-2000:]}")
            found[name] = json.loads(done.stdout.splitlines()[-1])
    print(
        "| loader | samples per CPU-second | samples per second | once, per frame of three cameras |\n|---|---|---|---|"
    )
    for name, numbers in found.items():
        cache = numbers.get("cache")
        once = f"{cache['cpu_ms']:.1f} CPU-ms ({cache['ms']:.1f} ms)" if cache else ""
        print(f"| {name} | {numbers['per_cpu_s']:.0f} | {numbers['per_s']:.0f} | {once} |")


if __name__ == "__main__":
    main()
