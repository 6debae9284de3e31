"""Flow matching as pi0 counts it: t = 1 is noise, t = 0 is data (the papers count the other way round)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from pi0_ros.base.errors import InputError

MIN_PERIOD = 4e-3
MAX_PERIOD = 4.0


def time_embedding(time: Tensor, width: int) -> Tensor:
    """Return [sin | cos] of `time` [...] at width / 2 periods from 0.004 to 4, geometrically spaced: [..., width]."""
    fraction = torch.linspace(0, 1, width // 2, dtype=torch.float64, device=time.device)
    period = MIN_PERIOD * (MAX_PERIOD / MIN_PERIOD) ** fraction
    angle = time.double()[..., None] * (2 * math.pi / period)
    return torch.cat([angle.sin(), angle.cos()], dim=-1).float()


def sample_time(batch: int, generator: torch.Generator | None = None, device: torch.device | None = None) -> Tensor:
    """Draw training times [batch] from Beta(1.5, 1) * 0.999 + 0.001: more weight on noisy actions, never exactly 0.

    The distribution function of Beta(1.5, 1) is t^1.5, so a uniform number to the power 2/3 is a draw.
    """
    uniform = torch.rand(batch, generator=generator, device=device)
    return uniform ** (1 / 1.5) * 0.999 + 0.001


def interpolate(actions: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """Return the noisy actions `t * noise + (1 - t) * actions` [B, H, A] for `time` [B] or [B, H]."""
    time = time[:, None, None] if time.ndim == 1 else time[..., None]
    return time * noise + (1 - time) * actions


def integrate(velocity: Callable[[Tensor, Tensor], Tensor], noise: Tensor, num_steps: int) -> Tensor:
    """Follow `velocity(x, t)` from noise [B, H, A] at t = 1 to actions at t = 0 in equal Euler steps.

    The steps are summed up in float32 as in openpi: the last bit of t shows in the fastest sines of the time embedding,
    and in the actions as up to 2e-4.
    """
    if num_steps < 1:
        raise InputError(f"num_steps must be at least 1, not {num_steps}")
    x, time, step = noise, torch.ones(noise.shape[:1], device=noise.device), -1 / num_steps
    for _ in range(num_steps):
        x = x + step * velocity(x, time)
        time = time + step
    return x
