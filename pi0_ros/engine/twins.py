"""What each kernel of `kernels.py` computes, in plain torch: the oracle of their tests, with equal arguments."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pi0_ros.engine.plain import geglu, rotate
from pi0_ros.model.layers import NORM_EPS


def project(x: Tensor, w: Tensor, split: int, gated: bool) -> Tensor:
    """x [rows, K], w [N, K] -> partial products float32 [split, rows, N]; `gated`: GeGLU [rows, N / 2] in x's dtype."""
    if gated:
        return geglu(F.linear(x, w))
    pieces = zip(x.float().chunk(split, 1), w.float().chunk(split, 1), strict=True)
    return torch.stack([a @ b.T for a, b in pieces])


def settle(
    partials: Tensor | None, x: Tensor, scale: Tensor, shift: Tensor | None = None, gate: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The residual stream [rows, D] with the sum of `partials` added, and its norm; scale, shift, gate [D] or [rows, D]."""
    if partials is not None:
        update = partials.sum(0).to(x.dtype).float()
        x = (x.float() + (update if gate is None else update * gate.float())).to(x.dtype)
    normal = F.rms_norm(x.float(), x.shape[-1:], None, NORM_EPS) * scale
    return x, (normal if shift is None else normal + shift).to(x.dtype)


def attend(qkv: Tensor, keys: Tensor, values: Tensor, cos: Tensor, sin: Tensor, heads: int, state: bool) -> Tensor:
    """Attention of the suffix over [cached | own] keys: [S, heads * head_dim] in the dtype of `keys` [P, head_dim].

    qkv float32 [parts, S, (heads + 2) * head_dim], cos and sin [S, head_dim / 2].
    """
    dim = keys.shape[-1]
    own = qkv.sum(0).to(keys.dtype).unflatten(-1, (-1, dim))
    turned = rotate(own[:, :-1], cos.repeat(1, 2)[:, None], torch.cat([-sin, sin], 1)[:, None])
    all_keys = torch.cat([keys, turned[:, heads]]).float()
    all_values = torch.cat([values, own[:, heads + 1]]).float()
    logits = torch.einsum("shd,td->sht", turned[:, :heads].float(), all_keys) * dim**-0.5
    if state:
        logits[0, :, len(keys) + 1 :] = -torch.inf
    return torch.einsum("sht,td->shd", logits.softmax(-1), all_values).flatten(1).to(keys.dtype)


def gather(mixed: Tensor, w: Tensor, heads: int) -> Tensor:
    """Output projection by head: mixed [S, heads * head_dim], w [D, heads * head_dim] -> float32 [heads, S, D]."""
    return project(mixed, w, heads, False)


def embed(x: Tensor, first: Tensor, bias: Tensor, second: tuple[Tensor, Tensor] | None, state: Tensor | None) -> Tensor:
    """Noisy actions float32 [H, A] to the suffix, float32 [(1 +) H, D]; `bias` [D] or [H, D]."""
    out = F.linear(x, first) + bias
    out = out if second is None else F.linear(F.silu(out), *second)
    return out if state is None else torch.cat([state.float(), out])


def finish(x: Tensor, hidden: Tensor, w: Tensor, bias: Tensor, step: float) -> tuple[Tensor, Tensor]:
    """Velocity float32 [H, A] of the normed suffix `hidden` [H, D], and the noisy actions one step further."""
    velocity = F.linear(hidden.float(), w, bias)
    return velocity, x + step * velocity
