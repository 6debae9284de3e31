"""Building blocks of the Gemma transformers: norms, rotary positions, grouped attention, gated feed-forward."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

T = TypeVar("T")

NORM_EPS = 1e-6
ROPE_BASE = 10000.0


def _normalize(x: Tensor) -> Tensor:
    """Return x / rms(x) over the last axis in float32."""
    x = x.float()
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + NORM_EPS)


class RMSNorm(nn.Module):
    """`x / rms(x) * (1 + weight)`: the weight is the offset from one, zero at initialisation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return the normalised `x` [B, S, D] in its own dtype, and no gate."""
        return (_normalize(x) * (1 + self.weight.float())).to(x.dtype), None


class AdaptiveRMSNorm(nn.Module):
    """adaRMS of pi0.5: scale, shift and residual gate are linear in the condition (the flow time)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, 3 * width)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return the modulated `x` [B, S, D] and the gate, for a `condition` [B, 1 or S, D]."""
        assert condition is not None, "the adaptive norm needs the flow time as its condition"
        scale, shift, gate = self.dense(condition.to(self.dense.weight.dtype)).float().chunk(3, dim=-1)
        return (_normalize(x) * (1 + scale) + shift).to(x.dtype), gate.to(x.dtype)


def recomputed(layer: Callable[..., T], enabled: bool, *inputs: Any) -> T:
    """Return `layer(*inputs)`; with `enabled`, its activations are not kept for the backward pass but made again."""
    if not enabled or not torch.is_grad_enabled():
        return layer(*inputs)
    result: T = checkpoint(layer, *inputs, use_reentrant=False, preserve_rng_state=False)
    return result


def residual(x: Tensor, update: Tensor, gate: Tensor | None) -> Tensor:
    """Add `update` to the residual stream, scaled by the gate where there is one."""
    return x + update if gate is None else torch.addcmul(x, update, gate)


@dataclass(frozen=True)
class Rotary:
    """Rotary positions in the split-half convention, ready to be applied to [B, S, heads, head_dim]."""

    cos: Tensor  # [B, S, 1, head_dim], both halves equal
    sin: Tensor  # [B, S, 1, head_dim], first half negated

    @staticmethod
    def at(positions: Tensor, head_dim: int) -> Rotary:
        """Return the rotation by `position / 10000^(2i / head_dim)` for integer `positions` [B, S]."""
        exponents = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim
        angles = positions.float()[..., None, None] / ROPE_BASE**exponents
        sin = angles.sin()
        return Rotary(angles.cos().repeat(1, 1, 1, 2), torch.cat([-sin, sin], dim=-1))

    def __call__(self, x: Tensor) -> Tensor:
        """Rotate `x` = [x1 | x2] into [x1 cos - x2 sin | x2 cos + x1 sin], in float32 and back."""
        exact = x.float()
        swapped = exact.roll(x.shape[-1] // 2, dims=-1)
        return torch.addcmul(exact * self.cos, swapped, self.sin).to(x.dtype)


def attention_bias(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the additive form of a boolean mask: 0 where attention is allowed, hugely negative elsewhere.

    The finite number keeps a query that may see nothing at a uniform distribution instead of NaN.
    """
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill_(
        ~allowed, 0.7 * torch.finfo(dtype).min
    )


def fold_heads(bias: Tensor, group: int) -> Tensor:
    """Repeat a bias [B, 1, S, T] for queries that carry their `group` heads in the sequence: [B, 1, S * group, T]."""
    return bias if bias.shape[2] == 1 else bias.repeat_interleave(group, dim=2)


def attend(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
    """Return softmax(q k^T / sqrt(head_dim) + bias) v for [B, heads, S, head_dim] and [B, heads, T, head_dim].

    Training in bfloat16 on a CPU multiplies in the open: torch's fused backward is two to four times slower there.
    """
    if not (torch.is_grad_enabled() and queries.device.type == "cpu" and queries.dtype == torch.bfloat16):
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)
    logits = queries * queries.shape[-1] ** -0.5 @ keys.transpose(-1, -2)
    logits = logits if bias is None else logits + bias.to(logits.dtype)
    return logits.softmax(-1).to(values.dtype) @ values


class Attention(nn.Module):
    """Grouped-query attention without biases; several query heads share each key/value head."""

    def __init__(self, width: int, num_heads: int, num_kv_heads: int, head_dim: int) -> None:
        super().__init__()
        self.num_kv_heads = num_kv_heads
        self.group = num_heads // num_kv_heads
        self.head_dim = head_dim
        self.q_proj = nn.Linear(width, num_heads * head_dim, bias=False)
        self.k_proj = nn.Linear(width, num_kv_heads * head_dim, bias=False)
        self.v_proj = nn.Linear(width, num_kv_heads * head_dim, bias=False)
        self.o_proj = nn.Linear(num_heads * head_dim, width, bias=False)

    def keys_values(self, x: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor]:
        """Return rotated keys and values of `x` [B, S, D], each [B, kv heads, S, head_dim]."""
        keys = self.k_proj(x).unflatten(-1, (self.num_kv_heads, self.head_dim))
        values = self.v_proj(x).unflatten(-1, (self.num_kv_heads, self.head_dim))
        return rotary(keys).transpose(1, 2), values.transpose(1, 2)

    def forward(self, x: Tensor, rotary: Rotary, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        """Attend from `x` [B, S, D] to keys and values [B, kv heads, T, head_dim].

        The heads that share keys are folded into the sequence, in which they need no copy: `bias` is
        [B, 1, 1 or S * group, T], see `fold_heads`.
        """
        batch, length, _ = x.shape
        queries = rotary(self.q_proj(x).unflatten(-1, (-1, self.head_dim)))
        queries = queries.unflatten(2, (self.num_kv_heads, self.group)).transpose(1, 2).flatten(2, 3)
        out = attend(queries, keys, values, bias)
        out = out.unflatten(2, (length, self.group)).transpose(1, 2)
        return self.o_proj(out.reshape(batch, length, -1))


class GatedMLP(nn.Module):
    """GeGLU feed-forward: `down(gelu_tanh(gate(x)) * up(x))`."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, hidden, bias=False)
        self.up_proj = nn.Linear(width, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., width] to [..., width]."""
        return self.down_proj(F.gelu(self.gate_proj(x), approximate="tanh") * self.up_proj(x))
