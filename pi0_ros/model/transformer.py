"""One Gemma transformer: run alone over the prefix, or as the action expert on top of a prefix's keys and values.

pi0 attends jointly over [prefix | suffix], but no prefix token may see the suffix. So the prefix runs once and leaves
its keys and values per layer, and the suffix attends to [cached | own]: the same numbers, for training and sampling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from pi0_ros.model.config import Expert
from pi0_ros.model.layers import AdaptiveRMSNorm, Attention, GatedMLP, RMSNorm, Rotary, recomputed, residual

KeysValues = tuple[Tensor, Tensor]  # each [B, kv heads, tokens, head_dim], keys already rotated


def extend(cached: Tensor, own: Tensor) -> Tensor:
    """Append `own` [n * B, heads, S, head_dim] to `cached` [B, heads, P, head_dim], shared by n suffixes per row.

    Row i of the suffix belongs to row i % B of the prefix. The result is new: a cache never grows.
    """
    draws = own.shape[0] // cached.shape[0]
    if draws == 1:
        return torch.cat([cached, own], dim=2)
    return torch.cat([cached.expand(draws, *cached.shape), own.unflatten(0, (draws, -1))], dim=3).flatten(0, 1)


class TransformerLayer(nn.Module):
    """One expert's half of a joint layer."""

    def __init__(self, sizes: Expert, adaptive: bool) -> None:
        super().__init__()
        norm = AdaptiveRMSNorm if adaptive else RMSNorm
        self.input_layernorm = norm(sizes.width)
        self.self_attn = Attention(sizes.width, sizes.num_heads, sizes.num_kv_heads, sizes.head_dim)
        self.post_attention_layernorm = norm(sizes.width)
        self.mlp = GatedMLP(sizes.width, sizes.mlp_dim)

    def attend(
        self, x: Tensor, rotary: Rotary, bias: Tensor, cached: KeysValues | None, condition: Tensor | None
    ) -> tuple[Tensor, KeysValues]:
        """Run the layer on `x` [B, S, D] over [cached | own] keys and values; return the result and all of those."""
        hidden, gate = self.input_layernorm(x, condition)
        keys, values = self.self_attn.keys_values(hidden, rotary)
        if cached is not None:
            keys, values = extend(cached[0], keys), extend(cached[1], values)
        x = residual(x, self.self_attn(hidden, rotary, keys, values, bias), gate)
        hidden, gate = self.post_attention_layernorm(x, condition)
        return residual(x, self.mlp(hidden), gate), (keys, values)


class Transformer(nn.Module):
    """A stack of layers and a final norm."""

    def __init__(self, sizes: Expert, adaptive: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TransformerLayer(sizes, adaptive) for _ in range(sizes.depth))
        self.norm = (AdaptiveRMSNorm if adaptive else RMSNorm)(sizes.width)
        self.recomputed_layers = 0  # in training, so many layers keep no activations and make them again
        self.activations: torch.dtype | None = None  # of the residual stream; None: that of the weights

    @property
    def _stack(self) -> Sequence[TransformerLayer]:
        return cast(Sequence[TransformerLayer], self.layers)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the activations."""
        return self.activations or self._stack[0].mlp.down_proj.weight.dtype

    def cache(self, x: Tensor, rotary: Rotary, bias: Tensor) -> tuple[list[KeysValues], Tensor]:
        """Return keys and values per layer for `x` [B, S, D], and the normed input of the last layer [B, S, D].

        No action reads what the last layer puts out, so of that layer only the keys and values are computed.
        """
        *layers, last = self._stack
        cached = []
        for index, layer in enumerate(layers):
            again = index < self.recomputed_layers
            x, keys_values = recomputed(layer.attend, again, x, rotary, bias, None, None)
            cached.append(keys_values)
        hidden, _ = last.input_layernorm(x)
        cached.append(last.self_attn.keys_values(hidden, rotary))
        return cached, hidden

    def read(
        self, x: Tensor, rotary: Rotary, bias: Tensor, cached: Sequence[KeysValues] | None = None
    ) -> tuple[Tensor, list[KeysValues]]:
        """Run `x` [B, S, D] through all layers behind what was `cached`; return [B, S, D] and the longer cache.

        For text: the tied head turns the result into tokens, which `cache` leaves out.
        """
        longer = []
        for index, layer in enumerate(self._stack):
            again = cached is None and index < self.recomputed_layers
            x, keys_values = recomputed(
                layer.attend, again, x, rotary, bias, None if cached is None else cached[index], None
            )
            longer.append(keys_values)
        return self.norm(x)[0], longer

    def forward(
        self, x: Tensor, rotary: Rotary, bias: Tensor, cached: Sequence[KeysValues], condition: Tensor | None
    ) -> Tensor:
        """Run `x` [B, S, D] through all layers over the cached keys and values of a prefix; return [B, S, D]."""
        for index, (layer, prefix) in enumerate(zip(self._stack, cached, strict=True)):
            again = index < self.recomputed_layers
            x, _ = recomputed(layer.attend, again, x, rotary, bias, prefix, condition)
        return self.norm(x, condition)[0]
