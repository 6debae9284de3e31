"""What each kernel of `kernels.py` computes, in plain torch: the oracle of their tests, on equal arguments.

Where a kernel leaves partial results for the next one, its twin gives their sum in float32.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pi0_ros.engine.plain import rotate
from pi0_ros.model.layers import NORM_EPS
from pi0_ros.model.vision import NORM_EPS as VISION_EPS


def project(x: Tensor, w: Tensor) -> Tensor:
    """`project_kernel`, PARTIAL: x [rows, K], w [N, K] -> float32 [rows, N]."""
    return x.float() @ w.float().T


def geglu(both: Tensor) -> Tensor:
    """`geglu_kernel`, and `project_kernel` with GEGLU: [rows, gate | up] -> [rows, F]."""
    gate, up = both.chunk(2, dim=-1)
    return F.gelu(gate.float(), approximate="tanh").to(both.dtype) * up


def settle(
    update: Tensor | None, x: Tensor, scale: Tensor, shift: Tensor | None = None, gate: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """`settle_kernel`: the residual stream [rows, D] with `update` added, and its norm; the others [D] or [rows, D]."""
    if update is not None:
        update = update.to(x.dtype).float()
        x = (x.float() + (update if gate is None else update * gate.float())).to(x.dtype)
    normal = F.rms_norm(x.float(), x.shape[-1:], None, NORM_EPS) * scale
    return x, (normal if shift is None else normal + shift).to(x.dtype)


def turn(qkv: Tensor, cos: Tensor, sin: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """`turn_kernel` and `rotate_kernel`: [S, (heads + 2) * head_dim], cos and sin [S, head_dim / 2] -> q, k, v."""
    split = qkv.unflatten(-1, (heads + 2, -1))
    turned = rotate(split[:, :-1], cos.repeat(1, 2)[:, None], torch.cat([-sin, sin], 1)[:, None])
    return turned[:, :heads].flatten(1), turned[:, heads], split[:, heads + 1]


def attend(queries: Tensor, keys: Tensor, values: Tensor, seen: Tensor) -> Tensor:
    """`attend_kernel` and `prefix_attend_kernel`: queries [S, heads * head_dim], keys and values [T, head_dim],
    seen bool [S, T] -> [S, heads * head_dim] in float32."""
    dim = keys.shape[-1]
    logits = torch.einsum("shd,td->sht", queries.unflatten(-1, (-1, dim)).float(), keys.float()) * dim**-0.5
    weights = logits.masked_fill(~seen[:, None], -torch.inf).softmax(-1)
    return torch.einsum("sht,td->shd", weights, values.float()).flatten(1)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`layer_norm_kernel` of the sum."""
    return F.layer_norm(x.float(), x.shape[-1:], weight.float(), bias.float(), VISION_EPS).to(x.dtype)


def embed(x: Tensor, first: Tensor, bias: Tensor, second: Tensor | None = None) -> Tensor:
    """`embed_kernel`, `embed_mlp_kernel`: noisy actions float32 [H, A] to tokens [H, D]; `bias` [D] or [H, D]."""
    out = F.linear(x, first) + bias
    return out if second is None else F.linear(F.silu(out), second)


def finish(x: Tensor, hidden: Tensor, w: Tensor, bias: Tensor, step: float) -> tuple[Tensor, Tensor]:
    """`finish_kernel` behind its norm: velocity float32 [H, A] of `hidden` [H, D], and the actions one step further."""
    velocity = F.linear(hidden.float(), w, bias)
    return velocity, x + step * velocity
