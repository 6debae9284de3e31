"""A network's weights as the engine multiplies with them: projections of one input fused, norms ready to scale.

The plain model stays usable: its parameters become views of the fused matrices, so nothing is held twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from pi0_ros.model.layers import RMSNorm
from pi0_ros.model.lora import lora_layers
from pi0_ros.model.pi0 import Pi0
from pi0_ros.model.transformer import Transformer, TransformerLayer
from pi0_ros.model.vision import VisionLayer


@dataclass(frozen=True)
class LayerWeights:
    """One Gemma layer. Scales are `1 + weight` in float32; None where the norm is adaptive."""

    attention_scale: Tensor | None  # [D]
    qkv: Tensor  # [(heads + 2 kv heads) * head_dim, D]: queries, keys, values
    out: Tensor  # [D, heads * head_dim]
    mlp_scale: Tensor | None  # [D]
    gate_up: Tensor  # [2 F, D]: gates, then ups
    down: Tensor  # [D, F]


@dataclass(frozen=True)
class VisionLayerWeights:
    """One SigLIP layer: weights and biases in the dtype of the activations."""

    norm1: tuple[Tensor, Tensor]
    qkv: tuple[Tensor, Tensor]  # [3 W, W], [3 W]
    out: tuple[Tensor, Tensor]
    norm2: tuple[Tensor, Tensor]
    fc1: tuple[Tensor, Tensor]
    fc2: tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Weights:
    """Everything that inference reads, except what depends on the flow time alone (see `schedule.py`)."""

    patch: tuple[Tensor, Tensor]  # float32 [W, patch * patch * 3], [T, W]: kernel; bias and positions summed
    vision: list[VisionLayerWeights]
    vision_norm: tuple[Tensor, Tensor]
    projector: tuple[Tensor, Tensor]
    embedding: Tensor  # [vocabulary, D]
    vlm: list[LayerWeights]
    expert: list[LayerWeights]
    final_scale: Tensor | None  # [D] of the expert's last norm
    action_out: tuple[Tensor, Tensor]  # float32 [A, D], [A]


@torch.no_grad()
def fuse(layers: list[nn.Linear]) -> Tensor:
    """Return the weights of linear layers of one input below each other, and make theirs views of the result."""
    fused = torch.cat([layer.weight.data for layer in layers])
    rows = 0
    for layer in layers:
        layer.weight.data = fused[rows : (rows := rows + layer.out_features)]
    return fused


def _pair(layer: nn.Linear | nn.LayerNorm) -> tuple[Tensor, Tensor]:
    return layer.weight.data, layer.bias.data


def _scale(norm: nn.Module) -> Tensor | None:
    return 1 + norm.weight.data.float() if isinstance(norm, RMSNorm) else None


def _layer(layer: TransformerLayer) -> LayerWeights:
    attention, mlp = layer.self_attn, layer.mlp
    return LayerWeights(
        _scale(layer.input_layernorm),
        fuse([attention.q_proj, attention.k_proj, attention.v_proj]),
        attention.o_proj.weight.data,
        _scale(layer.post_attention_layernorm),
        fuse([mlp.gate_proj, mlp.up_proj]),
        mlp.down_proj.weight.data,
    )


def _stack(transformer: Transformer) -> list[LayerWeights]:
    return [_layer(layer) for layer in transformer._stack]


@torch.no_grad()
def prepare(model: Pi0) -> Weights:
    """Return the weights of `model`, sharing its memory. ValueError for one with low-rank factors: merge them first."""
    if lora_layers(model):
        raise ValueError("the engine takes plain weights: this model has LoRA factors that are not merged")
    tower = model.vision
    vision = []
    for layer in cast(Sequence[VisionLayer], tower.layers):
        attention = layer.self_attn
        parts = [attention.q_proj, attention.k_proj, attention.v_proj]
        qkv = fuse(parts), torch.cat([part.bias.data for part in parts])
        vision.append(
            VisionLayerWeights(
                *(_pair(layer.layer_norm1), qkv, _pair(attention.out_proj)),
                *(_pair(layer.layer_norm2), _pair(layer.mlp.fc1), _pair(layer.mlp.fc2)),
            )
        )
    kernel = tower.patch_embedding.weight.data.permute(0, 2, 3, 1).flatten(1).contiguous()
    assert tower.patch_embedding.bias is not None
    return Weights(
        (kernel, tower.patch_embedding.bias.data + tower.position_embedding.weight.data),
        vision,
        _pair(tower.post_layernorm),
        _pair(model.projector),
        model.embedding.weight.data,
        _stack(model.vlm),
        _stack(model.expert),
        _scale(model.expert.norm),
        _pair(model.action_out_proj),
    )
