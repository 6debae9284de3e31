"""What the reference scripts share: sizes, weights, inputs and statistics drawn from a seed, and the case folder.

A case folder holds `case.json` (which reference, model, sizes, versions), `checkpoint/` in the reference's own format
and `expected.npz` (inputs and the reference's outputs). `compare.py` reads it. numpy only.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

CAMERAS = {
    "pi0": ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"),
    "pi05": ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"),
    "pi0_fast": ("base_0_rgb", "base_1_rgb", "wrist_0_rgb"),
}
BATCH = 3


def parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options that every reference script has."""
    parsed = argparse.ArgumentParser(description=description)
    parsed.add_argument("--out", type=Path, required=True, help="folder in which the case folders are made")
    parsed.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parsed.add_argument("--models", nargs="+", default=["pi0", "pi05"], choices=sorted(CAMERAS))
    return parsed


def draw_sizes(rng: np.random.Generator, model: str, *, num_heads: int | None = None) -> dict[str, Any]:
    """Draw a small network; the keys are those of `pi0_ros.model.ModelConfig.to_dict`.

    `num_heads` is fixed where a reference has the released number written into its code.
    """

    def pick(options: Sequence[int]) -> int:
        return int(rng.choice(options))

    heads = num_heads or pick([3, 4, 6, 8])
    kv_heads = pick([k for k in (1, 1, 2) if heads % k == 0])
    shared = {"depth": pick([2, 3, 4]), "num_heads": heads, "num_kv_heads": kv_heads, "head_dim": pick([8, 12, 16])}
    vision_heads = pick([2, 3, 4])
    patch = pick([14, 16, 28, 32])
    return {
        "model": model,
        "vocab_size": 512,
        "vlm": {"width": pick([32, 48, 64, 72, 96]), "mlp_dim": pick([40, 64, 96, 130]), **shared},
        "expert": {"width": pick([16, 24, 32, 48]), "mlp_dim": pick([24, 40, 64]), **shared},
        "vision": {
            "width": vision_heads * pick([8, 12, 16]),
            "depth": pick([1, 2, 3]),
            "mlp_dim": pick([40, 56, 80]),
            "num_heads": vision_heads,
            "patch_size": patch,
            "image_size": 224,
            "num_positions": (224 // patch) ** 2,
        },
        "action_dim": pick([8, 14, 20, 32]),
        "action_horizon": pick([4, 7, 10, 16]),
        "max_token_len": pick([8, 12, 20, 31]),
        "cameras": list(CAMERAS[model]),
        "discrete_state_input": model == "pi05",
        "dtype": "float32",
    }


def draw_weight(rng: np.random.Generator, kind: str, shape: tuple[int, ...], fan_in: int) -> np.ndarray:
    """Draw a tensor whose effect shows in the output: norms, biases and heads are random too. float32."""
    normal = rng.standard_normal(shape, dtype=np.float32)
    if kind == "layer_norm":
        return 1 + 0.3 * normal
    scale = {"norm": 0.3, "bias": 0.3, "position": 0.5, "embedding": 0.5, "adaptive": 0.5 / math.sqrt(fan_in)}
    return normal * np.float32(scale.get(kind, 1.2 / math.sqrt(fan_in)))


def draw_inputs(rng: np.random.Generator, sizes: dict[str, Any]) -> dict[str, np.ndarray]:
    """Draw a batch with real pixels behind masked cameras and padded prompts of every length, one of them full."""
    size, length = sizes["vision"]["image_size"], sizes["max_token_len"]
    chunk = (BATCH, sizes["action_horizon"], sizes["action_dim"])
    arrays: dict[str, np.ndarray] = {}
    masks = rng.random((len(sizes["cameras"]), BATCH)) < 0.6
    masks[:, 0] = True
    masks[0, 1] = False  # positions of this row start at -1
    for camera, mask in zip(sizes["cameras"], masks, strict=True):
        arrays[f"image_{camera}"] = rng.integers(0, 256, (BATCH, size, size, 3), dtype=np.uint8)
        arrays[f"image_mask_{camera}"] = mask
    valid = rng.integers(1, length + 1, BATCH)
    valid[0] = length
    arrays["token_mask"] = np.arange(length) < valid[:, None]
    arrays["tokens"] = np.where(arrays["token_mask"], rng.integers(3, sizes["vocab_size"], (BATCH, length)), 0)
    arrays["state"] = rng.standard_normal((BATCH, sizes["action_dim"])).astype(np.float32)
    for name in ("actions", "noise_train", "noise_sample"):
        arrays[name] = rng.standard_normal(chunk).astype(np.float32)
    arrays["time_train"] = (rng.random(BATCH) * 0.999 + 0.001).astype(np.float32)
    return arrays


def draw_stats(rng: np.random.Generator, dim: int) -> dict[str, np.ndarray]:
    """Draw plausible statistics of a vector of `dim` numbers, float64."""
    mean, std = rng.normal(0, 0.5, dim), rng.uniform(0.1, 1.5, dim)
    low, high = mean - rng.uniform(1, 2, dim) * std, mean + rng.uniform(1, 2, dim) * std
    spread = rng.uniform(0.1, 0.5, dim) * std
    return {
        "mean": mean,
        "std": std,
        "q01": low,
        "q99": high,
        "q10": low + 0.5 * spread,
        "q90": high - 0.5 * spread,
        "min": low - spread,
        "max": high + spread,
    }


def draw_text(rng: np.random.Generator) -> str:
    """Draw an instruction: words, underscores, line breaks, digits, other scripts, sometimes nothing or very long."""
    words = ["pick", "up", "the", "Red_block", "fold\nit", "  ", "_", "\n", "42", "Tür", "開けて", "🤖", ";"]
    words += ["Action:", "\t", "<eos>"]
    return str(rng.choice([" ", "", "_"])).join(rng.choice(words, int(rng.choice([0, 1, 3, 6, 10, 60]))))


def new_case(out: Path, name: str) -> Path:
    """Return an empty case folder; an earlier one of the same name is removed."""
    folder = out / name
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


def save_case(folder: Path, case: dict[str, Any], packages: Sequence[str], arrays: dict[str, np.ndarray]) -> None:
    """Write `case.json` and `expected.npz`."""
    np.savez_compressed(folder / "expected.npz", **arrays)  # type: ignore[arg-type]  # numpy's stub: allow_pickle
    text = json.dumps(case | {"versions": {package: _version(package) for package in packages}}, indent=1)
    (folder / "case.json").write_text(text + "\n")
    print(folder.name, flush=True)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "from source"
