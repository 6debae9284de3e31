"""Real-time chunking: sample a chunk that continues what is already being executed while the model thinks.

Three ways. `SoftPrefix` guides any flow policy at sampling time, as in "Real-Time Execution of Action Chunking Flow
Policies" (arXiv 2506.07339) and the authors' kinetix code, or as LeRobot does it, without the network's Jacobian.
`CleanPrefix` is for checkpoints trained with clean prefixes ("Training-Time Action Conditioning", arXiv 2512.05964).
Time is counted as everywhere here: t = 1 is noise, t = 0 is data. B batch, H action horizon, A action dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pi0_ros.base.choices import RTC_SCHEDULES
from pi0_ros.base.errors import InputError
from pi0_ros.model.flow import integrate

Velocity = Callable[[Tensor, Tensor], Tensor]  # (x [B, H, A], time [B] or [B, H]) -> [B, H, A]


class Guidance(Protocol):
    """How a chunk is grown from noise when part of it is known."""

    def integrate(self, velocity: Velocity, noise: Tensor, num_steps: int) -> Tensor:
        """Follow `velocity` from `noise` [B, H, A] to actions in equal Euler steps."""


def soft_mask(schedule: str, delay: int, end: int, horizon: int) -> Tensor:
    """Return how much each action of the new chunk shall agree with the previous one, float32 [horizon].

    1 for the `delay` actions that are executed meanwhile, from there falling to 0 at `end`: along c (e^c - 1)/(e - 1)
    (`exp`), along c (`linear`), staying 1 (`ones`) or dropping at once (`zeros`), with c = (end - i)/(end - delay + 1).
    `end` is the paper's H - s and may exceed the horizon, as in kinetix; LeRobot's is `min(end, horizon)`, and it calls
    that end the execution horizon.
    """
    if schedule not in RTC_SCHEDULES:
        raise InputError(f"schedule is {schedule!r}, expected one of {', '.join(RTC_SCHEDULES)}")
    if min(delay, end) < 0:
        raise ValueError(f"delay {delay} and end {end} must not be negative")
    start = min(delay, end)
    ramp = torch.linspace(1, 0, end - start + 2)[1:-1]
    if schedule == "exp":
        ramp = ramp * (ramp.expm1() / (math.e - 1))
    elif schedule != "linear":
        ramp = torch.full_like(ramp, float(schedule == "ones"))
    weights = torch.cat([torch.ones(start), ramp, torch.zeros(max(0, horizon - end))])
    return weights[:horizon]


def guidance_weight(time: Tensor, max_weight: float) -> Tensor:
    """Return the strength of the correction at `time`: ((1 - t)^2 + t^2) / (t (1 - t)), at most `max_weight`."""
    return (((1 - time).square() + time.square()) / (time * (1 - time))).clamp(max=max_weight)


@dataclass(frozen=True)
class SoftPrefix:
    """Pulls the clean chunk that each step foresees, x - t v, toward known actions: v' = v - w g.

    With `jacobian`, g is the weighted error's vector-Jacobian product through the network (paper, kinetix): about one
    more expert pass backward per step. Without, g is the weighted error itself, as LeRobot computes it.
    """

    actions: Tensor  # [B, H, A] in model units; whatever stands where the weight is 0 (NaN, too) has no influence
    weights: Tensor  # float32, broadcast to [B, H, A]: `soft_mask(...)[:, None]`, 0 where nothing is known
    max_weight: float = 5.0  # kinetix: 5 (with 5 steps), LeRobot: 10
    jacobian: bool = True

    def integrate(self, velocity: Velocity, noise: Tensor, num_steps: int) -> Tensor:
        """Follow the guided velocity from `noise` [B, H, A] to actions."""
        return integrate(lambda x, time: self.guided(velocity, x, time), noise, num_steps)

    def guided(self, velocity: Velocity, x: Tensor, time: Tensor) -> Tensor:
        """Return the guided velocity [B, H, A] at `x` [B, H, A] and `time` [B]."""
        t = time[:, None, None]
        with torch.set_grad_enabled(self.jacobian):
            x = x.clone().requires_grad_(self.jacobian)
            v = velocity(x, time)
        with torch.no_grad():
            error = torch.where(self.weights > 0, self.weights * (self.actions - (x - t * v)), 0.0)
            correction = error
            if self.jacobian:  # e^T d(x - t v)/dx, from the very pass that gave v
                correction = error - t * torch.autograd.grad(v, x, error)[0]
            return v - guidance_weight(t, self.max_weight) * correction


@dataclass(frozen=True)
class CleanPrefix:
    """The first d actions are given, stand still at flow time 0, and come out as they are."""

    actions: Tensor  # [B, d, A] in model units, zeros in padded dimensions (as in training), d < H

    def integrate(self, velocity: Velocity, noise: Tensor, num_steps: int) -> Tensor:
        """Follow the velocity of the remaining actions from `noise` [B, H, A]."""
        delay, horizon = self.actions.shape[1], noise.shape[1]
        if delay >= horizon:
            raise ValueError(f"a prefix of {delay} actions leaves nothing to predict in a chunk of {horizon}")

        def of_the_rest(x: Tensor, time: Tensor) -> Tensor:
            v = velocity(x, prefix_times(time, torch.full_like(time, delay), horizon))
            return torch.cat([torch.zeros_like(v[:, :delay]), v[:, delay:]], dim=1)

        return integrate(of_the_rest, torch.cat([self.actions, noise[:, delay:]], dim=1), num_steps)


def prefix_times(time: Tensor, delay: Tensor, horizon: int) -> Tensor:
    """Return one flow time per action [B, H]: 0 for the first `delay` [B] actions, `time` [B] for the others.

    For training, too: `flow_loss` then sees a clean prefix, whose own loss is left out by `time > 0`.
    """
    known = torch.arange(horizon, device=time.device) < delay[:, None]
    return torch.where(known, 0.0, time[:, None])
