"""What is minimised: flow matching on the action chunk, and beside it the grounding loss on the same prefix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pi0_ros.model.pi0 import ModelInput, Pi0
from pi0_ros.sim.grounding import GroundingHead, grounding_loss


class Trainee(nn.Module):
    """The policy's network and the throw-away grounding head (None where no stage wants it)."""

    def __init__(self, model: Pi0, arm_joints: int) -> None:
        super().__init__()
        self.model = model
        self.head = GroundingHead(model.config.vlm.width, arm_joints) if arm_joints else None


@dataclass(frozen=True)
class GraspLabel:
    """A batch of GraspTargets: joints float32 [B,K], event int64 [B], valid bool [B]."""

    joints: Tensor
    event: Tensor
    valid: Tensor


@dataclass(frozen=True)
class Target:
    """What one batch is to learn. A None leaves that loss out.

    actions: [B,H,A] in model units; noise: [n*B,H,A] and time: [n*B] of n draws, draw after draw. For training-time
    real-time chunking time is [n*B,H], and 0 for actions that are given: their loss does not count.
    """

    actions: Tensor | None
    noise: Tensor
    time: Tensor
    grasp: GraspLabel | None


def losses(trainee: Trainee, inputs: ModelInput, target: Target) -> tuple[Tensor, Tensor, Tensor]:
    """One prefix for everything: flow loss per dimension [A], grounding loss (scalar) and the head's output [B,2,K].

    What the target leaves out is 0 (the output: empty).
    """
    prefix = trainee.model.encode_prefix(inputs)
    zero = prefix.hidden.new_zeros(())
    grounding, predicted = zero, prefix.hidden.new_zeros(0)
    if trainee.head is not None and target.grasp is not None:
        with torch.autocast(prefix.hidden.device.type, enabled=False):
            predicted = trainee.head(prefix.hidden.float(), inputs.prompt_mask)
        grounding = grounding_loss(predicted, target.grasp.joints, target.grasp.event, target.grasp.valid)
    if target.actions is None:
        return zero.expand(trainee.model.config.action_dim), grounding, predicted
    draws = len(target.time) // len(target.actions)
    state, actions = inputs.state.repeat(draws, 1), target.actions.repeat(draws, 1, 1)
    flow = trainee.model.flow_loss(prefix.repeat(draws), state, actions, target.noise, target.time)
    if target.time.ndim == 1:
        return flow.mean((0, 1)), grounding, predicted
    predicts = target.time[..., None] > 0
    return (flow * predicts).sum((0, 1)) / predicts.sum(), grounding, predicted


def draw_noise_and_time(
    random: np.random.Generator, batch: int, draws: int, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Standard normal noise float32 [n*B,H,A] and flow times float32 [n*B], as pi0: t ~ Beta(1.5, 1) * 0.999 + 0.001.

    The n draws of one frame are stratified, one from each n-th part of the distribution: less noise in the gradient.
    """
    noise = random.standard_normal((draws * batch, *shape), np.float32)
    uniform = (np.arange(draws)[:, None] + random.random((draws, batch))) / draws
    time = uniform.reshape(-1) ** (1 / 1.5) * 0.999 + 0.001  # Beta(a, 1) has the inverse distribution function u^(1/a)
    return noise, time.astype(np.float32)


def draw_delays(random: np.random.Generator, time: np.ndarray, max_delay: int, horizon: int) -> np.ndarray:
    """Flow times per action float32 [N,H] from those per row [N]: 0 for the first 0 .. max_delay actions, all alike
    likely (training-time real-time chunking, arXiv 2512.05964)."""
    delays = random.integers(0, max_delay, len(time), endpoint=True)
    return np.where(np.arange(horizon) < delays[:, None], np.float32(0), time[:, None])


def as_tensor(array: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)
