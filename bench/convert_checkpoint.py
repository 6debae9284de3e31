"""Convert a full-size pi0 in openpi's JAX format and see how much memory that takes.

    python bench/convert_checkpoint.py                     # float32, 13 GB; every weight of all layers is one chunk
    python bench/convert_checkpoint.py --chunks layer --to lerobot
    python bench/convert_checkpoint.py --random            # weights that do not compress: the worst case, 13 GB more

Without --random the checkpoint is almost empty on disk, since its numbers are all the same, but as large as the
released ones when it is read. Needs disk for the result (13 GB, with LeRobot's heads 16 GB); everything is deleted.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from pi0_ros.checkpoints.convert import TARGETS, convert_checkpoint

TESTS = Path(__file__).parents[1] / "test"
sys.path.insert(0, str(TESTS / "helpers"))


def write_checkpoint(folder: Path, model: str, chunks: str, random: bool) -> None:
    """Write a released model's leaves as orbax does, each as one chunk or one chunk a layer."""
    from orbax_files import write_orbax

    shapes = json.loads((TESTS / "fixtures" / "keys" / f"{model}_jax.json").read_text())
    rng = np.random.default_rng(0)

    def leaf(shape: list[int]) -> np.ndarray:
        if random:
            return rng.standard_normal(shape, dtype=np.float32)
        return np.broadcast_to(np.float32(0.01), shape)

    class Leaves(dict):  # drawn one at a time
        def items(self) -> Any:
            return ((name, leaf(shape)) for name, shape in shapes.items())

    def cut(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        stacked = "/layers/" in name or "/encoderblock/" in name
        return (1, *shape[1:]) if chunks == "layer" and stacked else shape

    write_orbax(folder / "params", Leaves(), chunks=cut)


def convert(src: Path, dst: Path, to: str) -> None:
    """Convert in this process and print its peak memory."""
    start = time.perf_counter()
    convert_checkpoint(src, dst, to)
    seconds = time.perf_counter() - start
    found = re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())
    print(json.dumps({"seconds": seconds, "peak": int(found[1]) * 1024 if found else 0}))


def main() -> None:
    """Make the checkpoint, convert it in a process of its own, delete both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pi0", choices=["pi0", "pi05"])
    parser.add_argument("--to", default="pi0_ros", choices=tuple(TARGETS))
    parser.add_argument("--chunks", default="whole", choices=["whole", "layer"])
    parser.add_argument("--random", action="store_true", help="weights that do not compress")
    parser.add_argument("--folder", type=Path, help="where to work; default: the system's temporary folder")
    parser.add_argument("--step", choices=["write", "convert"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step == "write":
        write_checkpoint(args.folder / "src", args.model, args.chunks, args.random)
    elif args.step == "convert":
        convert(args.folder / "src", args.folder / "dst", args.to)
    else:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            command = [sys.executable, *sys.argv, "--folder", folder, "--step"]
            subprocess.run([*command, "write"], check=True)
            stored = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
            done = subprocess.run([*command, "convert"], check=True, stdout=subprocess.PIPE, text=True)
            found = json.loads(done.stdout)
            size = (Path(folder) / "dst" / "model.safetensors").stat().st_size
            print(
                f"{args.model}, chunks of a {args.chunks if args.chunks == 'layer' else 'whole leaf'}, "
                f"{stored / 1e9:.2f} GB on disk -> {args.to}, {size / 1e9:.2f} GB: "
                f"{found['seconds']:.0f} s, peak memory {found['peak'] / 2**30:.2f} GiB"
            )


if __name__ == "__main__":
    main()
