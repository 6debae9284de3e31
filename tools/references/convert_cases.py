"""Convert the checkpoints of the case folders with pi0_ros, for the references to load (`--check` of their scripts).

    python convert_cases.py cases --out converted --tokenizer tiny.model [--only PART]

Every checkpoint goes into our own format and from there into LeRobot's and, for pi0 and pi0.5, openpi's PyTorch
format. Tensors of LeRobot's own folders must come back bit for bit.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from compare import unsaid
from safetensors import safe_open

from pi0_ros.checkpoints.convert import convert_checkpoint
from pi0_ros.checkpoints.safetensors_files import CheckpointError


def bit_equal(before: Path, after: Path) -> str:
    """Say how the tensors of two safetensors files differ; heads that LeRobot never reads may be missing."""
    with safe_open(before, "pt") as one, safe_open(after, "pt") as other:
        ours, theirs = set(other.keys()), set(one.keys())
        unequal = [name for name in ours & theirs if not _same(one.get_tensor(name), other.get_tensor(name))]
    others = f"missing {sorted(theirs - ours)}, new {sorted(ours - theirs)}"
    return f"{len(ours & theirs)} shared, {len(unequal)} unequal, {others}"


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and torch.equal(a, b)


if __name__ == "__main__":
    command = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    command.add_argument("cases", type=Path)
    command.add_argument("--out", type=Path, required=True)
    command.add_argument("--tokenizer", type=Path, required=True)
    command.add_argument("--only", default="", help="part of the names of the cases to convert")
    options = command.parse_args()
    for folder in sorted(options.cases.iterdir()):
        if options.only not in folder.name or not (folder / "case.json").is_file():
            continue
        case = json.loads((folder / "case.json").read_text())
        target = options.out / folder.name
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        source, config = folder / "checkpoint", unsaid(case)
        tokenizer = None if (source / "tokenizer").exists() else options.tokenizer
        try:
            own = convert_checkpoint(source, target / "pi0_ros", config=config, tokenizer=tokenizer)
            for to in ("lerobot", "openpi"):
                convert_checkpoint(own, target / to, to)
        except CheckpointError as error:
            print(f"{folder.name}: {error}")
            continue
        weights = source / "model.safetensors"
        if case["reference"] == "lerobot" and weights.is_file():
            print(f"{folder.name}: {bit_equal(weights, target / 'lerobot' / 'model.safetensors')}")
