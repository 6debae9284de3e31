"""Everything a killed run needs to go on exactly: raw and averaged weights and the optimiser's moments. No pickle.

    train_state/state.safetensors   raw.<parameter>  average.<parameter>  exp_avg.<parameter>  exp_avg_sq.<parameter>
    train_state/state.json          stage, step, optimiser steps, seconds trained

Random numbers and the sampler's position are functions of (seed, stage, step), so there is nothing of them to save.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from pi0_ros.checkpoints.checkpoint import CheckpointError

FOLDER, TENSORS, POSITION = "train_state", "state.safetensors", "state.json"
MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Position:
    """Where a run stands: `step` steps of stage number `stage` are done, after `seconds` of training in all."""

    stage: int
    step: int
    seconds: float


def write_state(
    checkpoint: Path, trainee: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer, position: Position
) -> None:
    """Write `train_state/` into a checkpoint folder (that is renamed into place when complete)."""
    folder = checkpoint / FOLDER
    folder.mkdir()
    tensors = {f"raw.{name}": p.detach() for name, p in trainee.named_parameters()}
    tensors |= {f"average.{name}": p.detach() for name, p in average.named_parameters()}
    for name, parameter in trainee.named_parameters():
        moments = optimizer.state.get(parameter, {})
        tensors |= {f"{moment}.{name}": moments[moment] for moment in MOMENTS if moments}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / TENSORS)
    (folder / POSITION).write_text(json.dumps(asdict(position)) + "\n")


def read_position(checkpoint: Path) -> Position:
    """Raises CheckpointError where the folder has no train_state."""
    path = checkpoint / FOLDER / POSITION
    if not path.is_file():
        raise CheckpointError(
            f"{path}: not there, so this run can't be resumed; start from its weights with `init: {checkpoint}`"
        )
    return Position(**json.loads(path.read_text()))


@torch.no_grad()
def read_state(
    checkpoint: Path, trainee: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer, position: Position
) -> None:
    """Put what `write_state` saved back in place."""
    path = checkpoint / FOLDER / TENSORS
    tensors = load_file(path)
    try:
        for kind, module in (("raw", trainee), ("average", average)):
            for name, parameter in module.named_parameters():
                parameter.copy_(tensors[f"{kind}.{name}"])
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path}: does not fit this model ({error}); was the training config changed?") from None
    for name, parameter in trainee.named_parameters():
        if f"exp_avg.{name}" in tensors:
            moments = {moment: tensors[f"{moment}.{name}"].to(parameter.device) for moment in MOMENTS}
            steps = torch.tensor(float(position.step), device=parameter.device)  # a fused optimiser wants it there
            optimizer.state[parameter] = {"step": steps, **moments}
