"""Fine-tuning at real size, on random weights: train, stop, resume, serve and ask for one chunk; time and peak memory.

    python bench/real_size.py                                # pi0.5 from a LeRobot folder, LoRA
    python bench/real_size.py --model pi0 --format openpi --config pi0_expert
    python bench/real_size.py --tiny                         # the same way in a minute, to see that it runs

Needs 25 GB of disk and about 20 GB of memory. The dataset is the one of the tests: one episode of the demo's arm.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench"), str(ROOT / "test" / "helpers")]

from load import write  # noqa: E402

from pi0_ros.checkpoints.checkpoint import save_checkpoint  # noqa: E402
from pi0_ros.checkpoints.convert import convert_checkpoint  # noqa: E402
from pi0_ros.checkpoints.norm_stats import load_norm_stats  # noqa: E402
from pi0_ros.checkpoints.settings import PolicySettings  # noqa: E402
from pi0_ros.inference.client import Client  # noqa: E402
from pi0_ros.model.config import ModelConfig  # noqa: E402
from pi0_ros.observation.streams import Observation  # noqa: E402
from pi0_ros.robot import Robot, load_robot  # noqa: E402
from pi0_ros.training.progress_file import read_progress  # noqa: E402

DEMO = ROOT / "pi0_ros" / "sim" / "checkpoint"
DATASET = ROOT / "test" / "fixtures" / "older" / "v30"


@dataclass(frozen=True)
class Done:
    """How a command went: seconds, bytes of memory at most, exit status."""

    seconds: float
    peak: int
    status: int


def pi0(*words: str, until: Path | None = None) -> Done:
    """Run a command of `pi0`; with `until`, SIGTERM as soon as that progress file has a row."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "pi0_ros.cli", *words], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    sent = until is None
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            return Done(time.perf_counter() - start, usage.ru_maxrss * 1024, os.waitstatus_to_exitcode(status))
        if not sent and until is not None and read_progress(until):
            process.send_signal(signal.SIGTERM)
            sent = True
        time.sleep(0.2)


def tell(what: str, done: Done, wanted: int = 0) -> None:
    """Print a line; end where the status is another than `wanted`."""
    print(f"{what:10s} {done.seconds:8.1f} s   peak memory {done.peak / 1e9:5.1f} GB", flush=True)
    if done.status != wanted:
        sys.exit(f"{what} ended with {done.status}")


def make_base(folder: Path, model: str, target: str, tiny: bool, robot: Robot) -> None:
    """Write random weights, as large as the released ones, as a folder of ours, of openpi or of LeRobot."""
    config = ModelConfig.preset(model)
    if tiny:
        small = ModelConfig.preset("demo")
        config = replace(
            small, model=model, action_horizon=config.action_horizon, action_dim=config.action_dim,
            max_token_len=config.max_token_len, discrete_state_input=config.discrete_state_input,
        )  # fmt: skip
    own = folder.with_name("own") if target != "own" else folder
    kind = "quantile" if config.is_pi05 else "mean_std"
    save_checkpoint(
        own, lambda path: write(config, path), config, PolicySettings(kind, kind, fps=20.0), robot,
        load_norm_stats(DEMO / "norm_stats.json"), DEMO / "tokenizer.model",
    )  # fmt: skip
    if target != "own":
        convert_checkpoint(own, folder, target)
        shutil.rmtree(own)


def ask_one_chunk(checkpoint: Path, address: str, robot: Robot) -> tuple[float, float]:
    """Serve the policy and ask it: seconds until it answers, and of one more chunk."""
    command = [sys.executable, "-m", "pi0_ros.cli", "serve", "--checkpoint", str(checkpoint), "--bind", address]
    server = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)})
    client = Client(address, timeout_s=1200.0, robot=robot)
    try:
        images = {camera.name: np.full((96, 96, 3), 128, np.uint8) for camera in robot.cameras}
        seen = Observation(1, images, np.zeros(len(robot.state_names)), "put the red cube in the tray", {})
        times = []
        for _ in range(2):
            start = time.perf_counter()
            chunk = client.infer(seen)
            times.append(time.perf_counter() - start)
            if not np.isfinite(chunk.actions).all():
                sys.exit("the chunk is not finite")
        return times[0], times[1]
    finally:
        client.close()
        server.terminate()
        server.wait()


def main() -> None:
    """Do it all in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pi05", choices=["pi0", "pi05"])
    parser.add_argument(
        "--format", default="lerobot", choices=["own", "lerobot", "openpi"], help="of the base model's folder"
    )
    parser.add_argument("--config", help="training config (default: MODEL_lora)")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--tiny", action="store_true", help="a small network instead, in a folder of ours")
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="more keys of the config")
    args = parser.parse_args()
    if args.tiny:
        args.format = "own"  # other formats do not tell the heads of a small vision tower
    config, robot = args.config or f"{args.model}_lora", load_robot(DATASET / "meta" / "pi0_robot.yaml")
    with tempfile.TemporaryDirectory(dir=args.folder) as place:
        folder = Path(place)
        start = time.perf_counter()
        make_base(folder / "base", args.model, args.format, args.tiny, robot)
        size = sum(path.stat().st_size for path in (folder / "base").rglob("*") if path.is_file())
        print(f"{args.model} as {args.format}: {size / 1e9:.1f} GB in {time.perf_counter() - start:.0f} s; {config}")
        shutil.copytree(DATASET, folder / "dataset")
        tell("stats", pi0("stats", str(folder / "dataset"), "--horizon", "50"))
        out = folder / "run"
        words = [
            "train", str(folder / "dataset"), "--config", config, "--init", str(folder / "base"), "--out", str(out),
            "steps=3", f"batch={args.batch}", "micro_batch=1", "recompute=1", "held_out=0", "log_every=1", "track=[]",
            f"tokenizer={DEMO / 'tokenizer.model'}", "save_async=false", *args.changes,
        ]  # fmt: skip
        tell("train", pi0(*words, until=out / "progress.csv"), 128 + signal.SIGTERM)
        tell("resume", pi0(*words, "--resume"))
        rows = read_progress(out / "progress.csv")
        steps = [after["seconds"] - before["seconds"] for before, after in zip(rows[:-1], rows[1:], strict=True)]
        print("losses", json.dumps([row["loss"] for row in rows]), "seconds a step", json.dumps(steps), flush=True)
        first, second = ask_one_chunk(out / "checkpoint", f"ipc://{folder}/policy.sock", robot)
        print(f"served: first chunk after {first:.1f} s (loading included), the next in {second:.1f} s")


if __name__ == "__main__":
    main()
