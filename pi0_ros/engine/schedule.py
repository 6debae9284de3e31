"""What depends on the flow time alone, computed once for the times of a chunk's steps.

pi0 reads the time through the first layer of its action MLP: a bias per step. That layer also follows the action
projection without a nonlinearity between, so the two are one matrix. pi0.5 reads it through its adaptive norms: a
scale, a shift and a gate per norm and step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from pi0_ros.model.flow import time_embedding
from pi0_ros.model.layers import AdaptiveRMSNorm
from pi0_ros.model.pi0 import Pi0


def flow_times(num_steps: int, lerobot: bool) -> Tensor:
    """Return the times [num_steps] at which `flow.integrate` asks for the velocity, to the last bit."""
    times = [torch.ones(1)]
    for _ in range(num_steps - 1):
        times.append(times[-1] + -1 / num_steps)
    stacked = torch.cat(times)
    return (stacked * num_steps).round() / num_steps if lerobot else stacked


@dataclass(frozen=True)
class Modulation:
    """Adaptive norms of pi0.5, [times, norms, D]: two norms per layer, and the last one."""

    scale: Tensor  # float32, with the one added
    shift: Tensor  # float32
    gate: Tensor  # in the dtype of the activations


@dataclass(frozen=True)
class Schedule:
    """A chunk's steps. The last row of everything is for time 0: given actions of a clean prefix stand still there."""

    num_steps: int
    action_in: tuple[Tensor, Tensor]  # float32 [D, A], and the bias [times, D] (equal at all times for pi0.5)
    action_out: tuple[Tensor, Tensor] | None  # pi0: second layer of the action MLP, float32 [D, D], [D]
    state_in: tuple[Tensor, Tensor] | None  # pi0: float32 [D, A], [D]
    modulation: Modulation | None  # pi0.5


@torch.no_grad()
def make_schedule(model: Pi0, num_steps: int) -> Schedule:
    """Compute the steps of `model` for `num_steps` Euler steps."""
    device, width = model.action_in_proj.weight.device, model.sizes.width
    times = torch.cat([flow_times(num_steps, model.lerobot_times), torch.zeros(1)]).to(device)
    embedded = time_embedding(times, width)
    action = model.action_in_proj.weight.data, model.action_in_proj.bias.data
    if model.config.is_pi05:
        condition = F.silu(model.time_mlp_out(F.silu(model.time_mlp_in(embedded))))
        layers = model.expert._stack
        norms = [norm for layer in layers for norm in (layer.input_layernorm, layer.post_attention_layernorm)]
        dense = [cast(AdaptiveRMSNorm, norm).dense for norm in [*norms, model.expert.norm]]
        made = [linear(condition.to(linear.weight.dtype)).float() for linear in dense]
        scale, shift, gate = torch.stack(made, dim=1).chunk(3, dim=-1)
        modulation = Modulation((1 + scale).contiguous(), shift.contiguous(), gate.to(model.expert.dtype).contiguous())
        bias = action[1].expand(len(times), width).contiguous()
        return Schedule(num_steps, (action[0], bias), None, None, modulation)
    first = model.action_time_mlp_in
    of_action, of_time = first.weight.data[:, :width].double(), first.weight.data[:, width:].double()
    folded = (of_action @ action[0].double()).float()
    bias = embedded.double() @ of_time.T + first.bias.data.double() + of_action @ action[1].double()
    return Schedule(
        num_steps,
        (folded, bias.float()),
        (model.action_time_mlp_out.weight.data, model.action_time_mlp_out.bias.data),
        (model.state_proj.weight.data, model.state_proj.bias.data),
        None,
    )
