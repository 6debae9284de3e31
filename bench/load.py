"""Loading a checkpoint: seconds and peak memory beside safetensors' own load_file, on a file made for the purpose.

    python bench/load.py                        # 4 GB of float32, on the CPU
    python bench/load.py --gb 12 --dtype bfloat16 --device cuda
    python bench/load.py --path model.safetensors --config sizes.json

Each way runs in a process of its own, twice, and the second time counts: the file is in the page cache then. Memory is
the growth of the process's peak (VmHWM) while it loads, as a multiple of the file. On a CPU `load_file` only maps
the file: its pages are read, and counted, when somebody touches them, as copying into a model does.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pi0_ros.checkpoints.load import load_model
from pi0_ros.checkpoints.safetensors_files import TensorInfo, write_safetensors
from pi0_ros.checkpoints.weights import meta_model, named_weights
from pi0_ros.model.config import ModelConfig

WAYS = ("load_model", "load_file", "load_file + model")
_PIECE = 2**24


def synthetic(gigabytes: float, dtype: str) -> ModelConfig:
    """pi0 with fewer layers and words, about as large as asked for."""
    fraction = gigabytes / (13.0 if dtype == "float32" else 6.5)
    full = replace(ModelConfig.preset("pi0"), dtype=dtype)
    depth = max(1, round(full.vlm.depth * fraction))
    return replace(
        full,
        vocab_size=max(512, int(full.vocab_size * fraction)),
        vlm=replace(full.vlm, depth=depth),
        expert=replace(full.flow_expert, depth=depth),
        vision=replace(full.vision, depth=max(1, round(full.vision.depth * fraction))),
    )


def write(config: ModelConfig, path: Path) -> None:
    """Write random weights of these sizes."""
    weights = named_weights(meta_model(config))
    infos = {name: TensorInfo.of(weight) for name, weight in weights.items()}
    noise = torch.randn(_PIECE) * 0.01

    def pieces(name: str) -> Iterator[torch.Tensor]:
        left = weights[name].numel()
        while left > 0:
            yield noise[:left]
            left -= _PIECE

    write_safetensors(path, infos, pieces)


def peak() -> int:
    """Return this process's peak memory in bytes."""
    found = re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


def measure(way: str, path: Path, config: dict[str, Any], dtype: str, device: str) -> dict[str, float]:
    """Load once, in this process; return seconds and bytes."""
    from safetensors.torch import load_file

    if device != "cpu":
        torch.zeros(1, device=device)  # the driver's own memory and time do not count
    before, start = peak(), time.perf_counter()
    if way == "load_model":
        kept: Any = load_model(path, config=config, device=device, dtype=dtype)
    else:
        kept = load_file(path, device=device)
        if way != "load_file":
            memory = {name: torch.empty_like(tensor) for name, tensor in kept.items()}
            for name, tensor in kept.items():
                memory[name].copy_(tensor)
    if device != "cpu":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    del kept
    return {"seconds": seconds, "bytes": peak() - before}


def main() -> None:
    """Make the file, run every way twice in a process of its own, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gb", type=float, default=4.0, help="size of the file that is made")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--path", type=Path, help="an existing file instead")
    parser.add_argument("--config", type=Path, help="JSON with the sizes that the existing file does not tell")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        config = json.loads(args.config.read_text()) if args.config else {}
        print(json.dumps(measure(args.way, args.path, config, args.dtype, args.device)))
        return
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--dtype", args.dtype, "--device", args.device]
        if args.path is None:
            args.path, args.config = Path(folder) / "model.safetensors", Path(folder) / "sizes.json"
            config = synthetic(args.gb, args.dtype)
            args.config.write_text(json.dumps(config.to_dict()))
            write(config, args.path)
        command += ["--path", str(args.path), *(["--config", str(args.config)] if args.config else [])]
        size = args.path.stat().st_size
        print(
            f"{args.path.name}: {size / 1e9:.2f} GB, {args.dtype} on {args.device}, {torch.get_num_threads()} threads"
        )
        for way in WAYS:
            runs = [
                subprocess.run([*command, "--way", way], capture_output=True, text=True, check=True) for _ in range(2)
            ]
            found = json.loads(runs[-1].stdout)
            print(f"  {way:20} {found['seconds']:7.2f} s   peak memory {found['bytes'] / size:5.2f} x the file")


if __name__ == "__main__":
    main()
