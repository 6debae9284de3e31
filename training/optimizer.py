"""Learning-rate schedule, AdamW and averaged weights as in openpi (optax's rules)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from pi0_ros.training.recipe import Stage


def learning_rate(step: int, warmup: int, decay_steps: int, peak: float, final: float) -> float:
    """Linear from peak/(warmup+1) to `peak` at step `warmup`, then a cosine down to `final` at step `decay_steps`."""
    if step < warmup:
        start = peak / (warmup + 1)
        return start + (peak - start) * step / warmup
    progress = min(1.0, (step - warmup) / max(1, decay_steps - warmup))
    return final + (peak - final) * 0.5 * (1.0 + math.cos(math.pi * progress))


def stage_rate(step: int, stage: Stage) -> float:
    """A stage's learning rate, by openpi's schedule or LeRobot's."""
    decay_steps, warmup = stage.decay_steps or stage.steps, stage.warmup
    if stage.schedule == "openpi":
        return learning_rate(step, warmup, decay_steps, stage.lr, stage.final_lr)
    if stage.steps < decay_steps:  # LeRobot shrinks both for a shorter run
        warmup, decay_steps = int(warmup * stage.steps / decay_steps), stage.steps
    if step < warmup:
        return learning_rate(step, warmup, decay_steps, stage.lr, stage.final_lr)
    cosine = 0.5 * (1.0 + math.cos(math.pi * min(step, decay_steps) / decay_steps))
    return stage.final_lr + (stage.lr - stage.final_lr) * cosine


class Average:
    """The exponential moving average of parameters: it starts as their copy, with its full decay from the start.

    Only what ever learns is averaged, so frozen parts of a large model cost nothing.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], enabled: bool = True) -> None:
        """Not `enabled`, the average is the network itself and costs nothing."""
        self.parameters, self.enabled = dict(parameters), enabled
        self.tensors = {n: p.detach().clone() if enabled else p.detach() for n, p in self.parameters.items()}

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """average = decay * average + (1 - decay) * parameters."""
        if not self.enabled:
            return
        current = [p.detach() for p in self.parameters.values()]
        get_ema_multi_avg_fn(decay)(list(self.tensors.values()), current, 0)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The network has the averaged weights inside this block, its own again behind it."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        if not self.enabled:
            return
        for name, parameter in self.parameters.items():  # the memory stays: a sharded network knows it by its place
            own = parameter.detach().clone()
            parameter.copy_(self.tensors[name])
            self.tensors[name].copy_(own)

    @torch.no_grad()
    def load_into_network(self) -> None:
        """Make the averaged weights the network's own, for the start of a stage."""
        for name, parameter in self.parameters.items():
            parameter.copy_(self.tensors[name])


def clip_gradients(parameters: list[nn.Parameter], limit: float) -> Tensor:
    """Scale all gradients so that their global norm is at most `limit`; returns the norm before (scalar)."""
    return nn.utils.clip_grad_norm_(parameters, limit)


def computes_bfloat16(device: torch.device) -> bool:
    """Whether the processor has bfloat16 arithmetic, so that autocast to it is faster and not slower."""
    if device.type == "cpu":
        return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())  # torch has no public name
    return bool(torch.cuda.is_bf16_supported())
