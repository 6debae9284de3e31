"""openpi's LoRA leaves merged into the weights they belong to, as its layers compute them (`models/lora.py`).

alpha equals the rank in every variant that openpi ships, so the factors count once; no file states another alpha.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pi0_ros.checkpoints.safetensors_files import TensorInfo, WeightsError

_OUTPUT_PROJECTION = "attn_vec_einsum"


def factor_names(leaf: str) -> tuple[str, str] | None:
    """Return the names of the leaves with the low-rank factors of `leaf`, None for leaves that never have any."""
    if leaf.endswith("/w"):
        return f"{leaf[:-1]}lora_a", f"{leaf[:-1]}lora_b"
    if leaf.endswith(("/gating_einsum", "/linear")):
        return f"{leaf}_lora_a", f"{leaf}_lora_b"
    return None


def check_factors(path: Path, leaf: str, leaves: Mapping[str, TensorInfo], pair: tuple[str, str]) -> None:
    """Raise WeightsError unless the factors are shaped like the weight, but for the rank that joins them."""
    weight, a, b = (leaves[name].shape for name in (leaf, *pair))
    rank = a[-1] if a else 0
    if len(weight) < 2 or (a, b) != ((*weight[:-1], rank), (*weight[:-2], rank, weight[-1])):
        raise WeightsError(f"{path}: LoRA factors {list(a)} and {list(b)} do not belong to {leaf} {list(weight)}")


def merge_leaf(leaf: str, weight: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the weight with its factors merged, in float32; all three are the same slice of their leaves.

    The output projection [heads, head_dim, width] is special: the einsum that applies its factors sums over the heads
    in both of them, so every head gets the second factor of all heads together.
    """
    weight, a, b = (array.astype(np.float32) for array in (weight, a, b))
    if f"/{_OUTPUT_PROJECTION}" in leaf:
        b = b.sum(0)
    merged: np.ndarray = weight + a @ b
    return merged
