"""Text from the vision-language model: one token after the other through its tied head, over cached keys and values.

The rules of the two references: openpi `models/pi0_fast.py` (action tokens; the prompt is read in both directions) and
the public fork `BrunoFANG1/openpi_subtask_generation` (subtasks of pi0.5; the prompt is read causally). They move the
prompt to the right end of a fixed window; leaving it in place under its mask gives the same numbers. With one
exception: where a camera is missing, their window slides over its tokens and off the first image. Here it is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from pi0_ros.base.errors import InputError
from pi0_ros.model.config import Expert
from pi0_ros.model.layers import Rotary, attention_bias, fold_heads

if TYPE_CHECKING:
    from pi0_ros.model.paligemma import PaliGemma

EOS = 1  # PaliGemma's end of text


def prefix_positions(mask: Tensor) -> Tensor:
    """Return positions [B, P]: padding and missing cameras use none and repeat the one before (-1 at the start)."""
    return mask.cumsum(1) - 1


def causal_bias(mask: Tensor, causal: Tensor, dtype: torch.dtype, sizes: Expert) -> Tensor:
    """Return the attention bias of tokens with `mask` [B, P]: each sees the valid tokens of its block and before.

    Every `causal` [B, P] token is a block of its own; the tokens before the first of them see each other.
    """
    blocks = causal.cumsum(1)
    allowed = (blocks[:, None, :] <= blocks[:, :, None]) & mask[:, None, :]
    return fold_heads(attention_bias(allowed[:, None], dtype), sizes.num_heads // sizes.num_kv_heads)


def write(
    model: PaliGemma,
    embedded: Tensor,
    mask: Tensor,
    bias: Tensor,
    max_new_tokens: int,
    temperature: float,
    generator: torch.Generator | None,
    eos: int = EOS,
    gap: int = 0,
) -> Tensor:
    """Continue `embedded` [B, P, D] with `mask` [B, P], read under `bias`: tokens int64 [B, T], zeros behind each end.

    T is `max_new_tokens` or less: it ends when every row has written `eos`. `gap` positions are left free before the
    first written token.
    """
    if max_new_tokens < 1:
        raise InputError(f"max_new_tokens must be at least 1, not {max_new_tokens}")
    head_dim, length = model.config.vlm.head_dim, mask.sum(1, keepdim=True)
    hidden, cached = model.vlm.read(embedded, Rotary.at(prefix_positions(mask), head_dim), bias)
    last = (mask * torch.arange(mask.shape[1], device=mask.device)).argmax(1)
    hidden = hidden[torch.arange(len(last), device=mask.device), last]
    tokens: list[Tensor] = []
    done = torch.zeros(len(mask), dtype=torch.bool, device=mask.device)
    while True:
        token = _choose(model.logits(hidden), temperature, generator).masked_fill(done, 0)
        tokens.append(token)
        done = done | (token == eos)
        if len(tokens) == max_new_tokens or bool(done.all()):
            return torch.stack(tokens, dim=1)
        mask = F.pad(mask, (0, 1), value=True)
        rotary = Rotary.at(length + len(tokens) - 1 + gap, head_dim)
        bias = attention_bias(mask[:, None, None, :], embedded.dtype)
        one, cached = model.vlm.read(model.embed_tokens(token[:, None]), rotary, bias, cached)
        hidden = one[:, 0]


def _choose(logits: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    """Return one token per row of `logits` [B, vocabulary]."""
    if temperature <= 0:
        return logits.argmax(-1)
    return torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)[:, 0]
