"""openpi's JAX leaves under openpi torch names: which slice of which leaf is which tensor, and how it is turned.

A leaf below holds one weight of all layers, so its tensors follow each other: leaf by leaf, layer by layer. Mapping as
in openpi's `examples/convert_jax_model_to_pytorch.py`, except that output projections are right for every width.
LoRA leaves are merged into the weights they belong to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pi0_ros.checkpoints.lora import check_factors, factor_names, merge_leaf
from pi0_ros.checkpoints.orbax import OrbaxLeaves
from pi0_ros.checkpoints.safetensors_files import TensorInfo
from pi0_ros.checkpoints.sources import disk_name

if TYPE_CHECKING:
    from torch import Tensor

Turn = Callable[[np.ndarray], np.ndarray]
_ROWS = 64 * 2**20  # bytes of a large table that are read at once


@dataclass(frozen=True)
class Rule:
    """One tensor (or one per layer, with {i} in its name) that a leaf holds."""

    target: str  # our parameter's name
    turn: Turn
    part: int | None = None  # index on the axis behind the layers, where several weights share the leaf


@dataclass(frozen=True)
class _Slice:
    leaf: str
    index: tuple[int, ...]
    turn: Turn
    factors: tuple[str, str] | None  # LoRA leaves to merge


def _same(x: np.ndarray) -> np.ndarray:
    return x


def _transposed(x: np.ndarray) -> np.ndarray:
    return x.T


def _kernel(x: np.ndarray) -> np.ndarray:
    """[height, width, in, out] -> [out, in, height, width]"""
    return x.transpose(3, 2, 0, 1)


def _positions(x: np.ndarray) -> np.ndarray:
    positions: np.ndarray = x[0]
    return positions


def _flat(x: np.ndarray) -> np.ndarray:
    return x.reshape(-1)


def _into_heads(x: np.ndarray) -> np.ndarray:
    """[width, heads, head_dim] -> [heads * head_dim, width]"""
    return x.reshape(x.shape[0], -1).T


def _each_head(x: np.ndarray) -> np.ndarray:
    """[heads, width, head_dim] -> [heads * head_dim, width]"""
    return x.transpose(0, 2, 1).reshape(-1, x.shape[1])


def _out_of_heads(x: np.ndarray) -> np.ndarray:
    """[heads, head_dim, width] -> [width, heads * head_dim]"""
    return x.reshape(-1, x.shape[-1]).T


def _vision_rules() -> Iterator[tuple[str, Rule]]:
    image, block, layer = "PaliGemma/img", "PaliGemma/img/Transformer/encoderblock", "vision.layers.{i}"
    yield f"{image}/embedding/kernel", Rule("vision.patch_embedding.weight", _kernel)
    yield f"{image}/embedding/bias", Rule("vision.patch_embedding.bias", _same)
    yield f"{image}/pos_embedding", Rule("vision.position_embedding.weight", _positions)
    for n, (norm, dense) in enumerate((("layer_norm1", "fc1"), ("layer_norm2", "fc2"))):
        yield f"{block}/LayerNorm_{n}/scale", Rule(f"{layer}.{norm}.weight", _same)
        yield f"{block}/LayerNorm_{n}/bias", Rule(f"{layer}.{norm}.bias", _same)
        yield f"{block}/MlpBlock_0/Dense_{n}/kernel", Rule(f"{layer}.mlp.{dense}.weight", _transposed)
        yield f"{block}/MlpBlock_0/Dense_{n}/bias", Rule(f"{layer}.mlp.{dense}.bias", _same)
    attention = f"{block}/MultiHeadDotProductAttention_0"
    for theirs, ours in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj")):
        yield f"{attention}/{theirs}/kernel", Rule(f"{layer}.self_attn.{ours}.weight", _into_heads)
        yield f"{attention}/{theirs}/bias", Rule(f"{layer}.self_attn.{ours}.bias", _flat)
    yield f"{attention}/out/kernel", Rule(f"{layer}.self_attn.out_proj.weight", _out_of_heads)
    yield f"{attention}/out/bias", Rule(f"{layer}.self_attn.out_proj.bias", _same)
    yield f"{image}/Transformer/encoder_norm/scale", Rule("vision.post_layernorm.weight", _same)
    yield f"{image}/Transformer/encoder_norm/bias", Rule("vision.post_layernorm.bias", _same)
    yield f"{image}/head/kernel", Rule("projector.weight", _transposed)
    yield f"{image}/head/bias", Rule("projector.bias", _same)


def _expert_rules(suffix: str, own: str) -> Iterator[tuple[str, Rule]]:
    stack, layer = "PaliGemma/llm/layers", f"{own}.layers.{{i}}"
    attention = f"{layer}.self_attn"
    yield f"{stack}/attn/q_einsum{suffix}/w", Rule(f"{attention}.q_proj.weight", _each_head)
    for part, name in enumerate(("k_proj", "v_proj")):
        yield f"{stack}/attn/kv_einsum{suffix}/w", Rule(f"{attention}.{name}.weight", _each_head, part)
    for part, name in enumerate(("q_proj", "k_proj", "v_proj")):  # where every head has its own key and value
        yield f"{stack}/attn/qkv_einsum{suffix}/w", Rule(f"{attention}.{name}.weight", _each_head, part)
    yield f"{stack}/attn/attn_vec_einsum{suffix}/w", Rule(f"{attention}.o_proj.weight", _out_of_heads)
    for part, name in enumerate(("gate_proj", "up_proj")):
        yield f"{stack}/mlp{suffix}/gating_einsum", Rule(f"{layer}.mlp.{name}.weight", _transposed, part)
    yield f"{stack}/mlp{suffix}/linear", Rule(f"{layer}.mlp.down_proj.weight", _transposed)
    norms = {
        f"{stack}/pre_attention_norm{suffix}": f"{layer}.input_layernorm",
        f"{stack}/pre_ffw_norm{suffix}": f"{layer}.post_attention_layernorm",
        f"PaliGemma/llm/final_norm{suffix}": f"{own}.norm",
    }
    for theirs, ours in norms.items():
        yield f"{theirs}/scale", Rule(f"{ours}.weight", _same)
        yield f"{theirs}/Dense_0/kernel", Rule(f"{ours}.dense.weight", _transposed)
        yield f"{theirs}/Dense_0/bias", Rule(f"{ours}.dense.bias", _same)


def _rules() -> dict[str, list[Rule]]:
    found: dict[str, list[Rule]] = {}
    pairs = [*_vision_rules(), *_expert_rules("", "vlm"), *_expert_rules("_1", "expert")]
    pairs.append(("PaliGemma/llm/embedder/input_embedding", Rule("embedding.weight", _same)))
    for name in ("state_proj", "action_in_proj", "action_out_proj", "time_mlp_in", "time_mlp_out"):
        pairs += [
            (f"{name}/kernel", Rule(f"{name}.weight", _transposed)),
            (f"{name}/bias", Rule(f"{name}.bias", _same)),
        ]
    for name in ("action_time_mlp_in", "action_time_mlp_out"):
        pairs += [
            (f"{name}/kernel", Rule(f"{name}.weight", _transposed)),
            (f"{name}/bias", Rule(f"{name}.bias", _same)),
        ]
    for leaf, rule in pairs:
        found.setdefault(leaf, []).append(rule)
    return found


RULES = _rules()


class JaxSource:
    """The weights in an orbax folder, under openpi torch names. A leaf that nobody knows keeps its own name."""

    def __init__(self, params: OrbaxLeaves) -> None:
        self._params = params
        self.path: Path = params.path
        self.leftovers: Mapping[str, str] = {}
        self.tensors: dict[str, TensorInfo] = {}
        self._slices: dict[str, _Slice] = {}
        self._factors: tuple[str, list[np.ndarray]] = "", []
        leaves = params.leaves
        merged = {leaf: pair for leaf in leaves if (pair := factor_names(leaf)) and {*pair} <= leaves.keys()}
        factors = {name for pair in merged.values() for name in pair}
        for leaf, info in leaves.items():
            if leaf in merged:
                check_factors(self.path, leaf, leaves, merged[leaf])
            if leaf not in factors and not self._add(leaf, info, merged.get(leaf)):
                self.tensors[leaf] = info

    @property
    def merged(self) -> int:
        """Tensors with LoRA factors."""
        return sum(piece.factors is not None for piece in self._slices.values())

    @property
    def sizes(self) -> Mapping[str, int]:
        """Heads, which JAX keeps as axes of their own."""
        leaves = self._params.leaves
        places = {
            "vision.num_heads": (
                "PaliGemma/img/Transformer/encoderblock/MultiHeadDotProductAttention_0/query/kernel",
                2,
            ),
            "vlm.num_kv_heads": ("PaliGemma/llm/layers/attn/kv_einsum/w", 2),
            "vlm.head_dim": ("PaliGemma/llm/layers/attn/attn_vec_einsum/w", 2),
        }
        return {
            size: leaves[leaf].shape[axis]
            for size, (leaf, axis) in places.items()
            if leaf in leaves and axis < len(leaves[leaf].shape)
        }

    def pieces(self, name: str) -> Iterator[Tensor]:
        """Yield the tensor: whole, or a large table by rows."""
        piece = self._slices[name]
        info = self._params.leaves[piece.leaf]
        if piece.turn is _same and not piece.index and info.nbytes > _ROWS:
            rows = max(1, _ROWS * info.shape[0] // info.nbytes)
            for start in range(0, info.shape[0], rows):
                yield _tensor(self._params.read(piece.leaf, slice(start, min(start + rows, info.shape[0]))))
            return
        if piece.factors is None:
            yield _tensor(piece.turn(self._params.read(piece.leaf, *piece.index)))
            return
        if self._factors[0] != piece.leaf:  # whole, and before the weight: reading takes turns leaf by leaf
            self._factors = piece.leaf, [self._params.read(factor) for factor in piece.factors]
        a, b = (factor[piece.index] for factor in self._factors[1])
        yield _tensor(piece.turn(merge_leaf(piece.leaf, self._params.read(piece.leaf, *piece.index), a, b)))

    def _add(self, leaf: str, info: TensorInfo, factors: tuple[str, str] | None) -> bool:
        """Enter the tensors of a leaf; False when it is unknown, has other axes than it should or repeats another."""
        dtype = "float32" if factors else info.dtype
        found: dict[str, tuple[TensorInfo, _Slice]] = {}
        stacked = any("{i}" in rule.target for rule in RULES.get(leaf, ()))
        shared = sum(rule.part is not None for rule in RULES.get(leaf, ()))
        if shared and info.shape[1:2] != (shared,):
            return False
        for layer in range(info.shape[0] if stacked and info.shape else 1):
            for rule in RULES.get(leaf, ()):
                index = ((layer,) if stacked else ()) + (() if rule.part is None else (rule.part,))
                blank = np.broadcast_to(np.zeros((), np.float32), info.shape)  # has the shape, but no memory
                try:
                    shape = tuple(rule.turn(blank[index]).shape)
                except (IndexError, ValueError):
                    return False
                name = disk_name(rule.target.format(i=layer))
                found[name] = TensorInfo(shape, dtype), _Slice(leaf, index, rule.turn, factors)
        if found.keys() & self.tensors.keys():
            return False
        self.tensors |= {name: info for name, (info, _) in found.items()}
        self._slices |= {name: piece for name, (_, piece) in found.items()}
        return bool(found)


def _tensor(array: np.ndarray) -> Tensor:
    """The array as a tensor in the same memory."""
    import torch

    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view("int16")).view(torch.bfloat16)
    return torch.from_numpy(array)
