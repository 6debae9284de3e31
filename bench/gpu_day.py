"""Everything there is to know of this package on one GPU, from one command and the source tree alone.

    python bench/gpu_day.py --out runs/gpu_day
    python bench/gpu_day.py --out /tmp/day --device cpu --small    # the same from start to end, in miniature

Needs torch, triton, numpy and what the model imports (safetensors, sentencepiece); no network, no installation. Each
stage ends within `--seconds` and writes what it found to OUT/gpu_day.json; a run that was stopped goes on with the
stages that are missing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]
STAGES = ("ceilings", "correctness", "inference", "training")


def environment(device: Any) -> dict[str, Any]:
    """Hardware and versions."""
    import torch

    found: dict[str, Any] = {"python": platform.python_version(), "torch": torch.__version__, "cpus": os.cpu_count()}
    try:
        import triton

        found["triton"] = triton.__version__
    except ImportError:
        found["triton"] = None
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {"device": properties.name, "multiprocessors": properties.multi_processor_count}
        found |= {"memory_gb": properties.total_memory / 1e9, "cuda": torch.version.cuda}
        query = [
            "nvidia-smi",
            "--query-gpu=driver_version,clocks.sm,clocks.mem,temperature.gpu",
            "--format=csv,noheader",
        ]
        try:
            found["nvidia_smi"] = subprocess.run(query, capture_output=True, text=True, timeout=20).stdout.strip()
        except OSError:
            found["nvidia_smi"] = "not there"
    else:
        found["device"] = f"CPU, {torch.get_num_threads()} threads"
    return found


def main() -> int:
    """Run the stages that are missing and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of gpu_day.json and what is made of it")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="small models, a few repeats: to try the program itself")
    parser.add_argument("--quick", action="store_true", help="full size, few repeats")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--again", action="store_true", help="also the stages that are there already")
    parser.add_argument("--seconds", type=float, default=420.0, help="a stage may take")
    args = parser.parse_args()
    import logging

    import torch

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("pi0 engine").setLevel(logging.INFO)
    from gpu import ceilings, correctness, ladder, report, training
    from gpu.measure import Run

    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device here; --device cpu --small tries the program itself")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    run = Run(torch.device(args.device), args.small, args.seconds, args.quick)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "gpu_day.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    found["environment"] = environment(run.device)
    found["command"] = " ".join(["python", "bench/gpu_day.py", *sys.argv[1:]])
    stages = {
        "ceilings": lambda: ceilings.measure(run),
        "correctness": lambda: correctness.measure(run),
        "inference": lambda: ladder.measure(run, found["ceilings"]),
        "training": lambda: training.measure(run),
    }
    for name, stage in stages.items():
        if name not in args.stages or (name in found and not args.again):
            continue
        if name == "inference" and "ceilings" not in found:
            parser.error("the stage inference needs the ceilings of the same machine: add the stage ceilings")
        print(f"== {name}", flush=True)
        start = time.monotonic()
        found[name] = stage()
        found.setdefault("seconds", {})[name] = time.monotonic() - start
        path.write_text(json.dumps(found, indent=1) + "\n")
    for written in [path, *report.write(args.out)]:
        print(f"written: {written}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
