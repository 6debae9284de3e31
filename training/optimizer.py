"""Learning-rate schedule, gradient clipping and weight averaging as in openpi (optax's rules)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def learning_rate(step: int, warmup: int, steps: int, peak: float, final: float) -> float:
    """Linear from peak/(warmup+1) to `peak` at step `warmup`, then a cosine down to `final` at step `steps`."""
    if step < warmup:
        start = peak / (warmup + 1)
        return start + (peak - start) * step / warmup
    progress = min(1.0, (step - warmup) / max(1, steps - warmup))
    return final + (peak - final) * 0.5 * (1.0 + math.cos(math.pi * progress))


def clip_gradients(parameters: Sequence[Tensor], limit: float) -> Tensor:
    """Scale all gradients by limit / norm where their global norm exceeds `limit`; returns the norm before (scalar)."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.stack(torch._foreach_norm(gradients)).norm()
    torch._foreach_mul_(gradients, (limit / norm).clamp(max=1.0))
    return norm


@torch.no_grad()
def update_average(average: Sequence[Tensor], current: Sequence[Tensor], decay: float) -> None:
    """average = decay * average + (1 - decay) * current, in place."""
    torch._foreach_lerp_(list(average), list(current), 1.0 - decay)


def computes_bfloat16(device: torch.device) -> bool:
    """Whether the processor has bfloat16 arithmetic, so that autocast to it is faster and not slower."""
    if device.type == "cpu":
        return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())  # torch has no public name
    return bool(torch.cuda.is_bf16_supported())
