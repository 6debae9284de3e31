"""What to do about a loss that is no number: find out why, keep the batch, and say what to change."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from pi0_ros.base.errors import InputError
from pi0_ros.training.loader import TrainingData
from pi0_ros.training.mixture import Mixture
from pi0_ros.training.objective import Batch
from pi0_ros.training.world import ALONE, World

FOLDER = "not_finite"


class NotFiniteError(InputError):
    """The loss or its gradient is not finite; the weights are those before the step."""


def check_data(data: TrainingData) -> None:
    """InputError that names episode and frame, if any state or action is not a finite number."""
    for name, values in (("state", data.state), ("action", data.action)):
        wrong = np.argwhere(~np.isfinite(values))
        if len(wrong):
            row, joint = (int(i) for i in wrong[0])
            episode = int(data.episode[row])
            raise InputError(
                f"{name} {joint} of episode {episode}, frame {row - data.spans[episode][0]} is {values[row, joint]} "
                f"({len(wrong)} such numbers): repair the dataset (`pi0 dataset check`) before training"
            )


def keep_batch(out: Path, batch: Batch, mixture: Mixture, stage: str, step: int, world: World = ALONE) -> Path:
    """Write everything that the step computed with, and which frames these are; returns the folder.

    Each of several processes has rows of its own, and a folder for them.
    """
    folder = out / FOLDER / f"process_{world.rank}" if world.size > 1 else out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"image.{slot}": image for slot, image in batch.inputs.images.items()}
    tensors |= {"prompt_tokens": batch.inputs.prompt_tokens, "prompt_mask": batch.inputs.prompt_mask}
    tensors |= {"state": batch.inputs.state, "noise": batch.noise, "time": batch.time}
    if batch.actions is not None:
        tensors["actions"] = batch.actions
    save_file(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, folder / "batch.safetensors"
    )
    content = {
        "stage": stage,
        "step": step,
        "episode_and_frame": [mixture.episode_and_frame(row) for row in batch.rows],
        "dataset": [mixture.at(row)[0].name for row in batch.rows],
    }
    (folder / "batch.json").write_text(json.dumps(content) + "\n")
    return folder


def explain(out: Path, batch: Batch, mixture: Mixture, stage: str, step: int, world: World = ALONE) -> NotFiniteError:
    """The error for a step whose loss or gradient is not finite."""
    folder = keep_batch(out, batch, mixture, stage, step, world)
    begin = f"stage {stage}, step {step}: the loss is not finite"
    named = {**batch.inputs.images, "state": batch.inputs.state, "actions": batch.actions}
    for name, tensor in named.items():
        if tensor is not None and not torch.isfinite(tensor).all():
            row = int(torch.nonzero(~torch.isfinite(tensor.flatten(1)).all(1))[0])
            return NotFiniteError(
                f"{begin}: {name} of {mixture.where(batch.rows[row])} is not; the batch is in {folder}"
            )
    return NotFiniteError(
        f"{begin}, though its inputs are: lower `lr` or raise `warmup`; the last save is whole, the batch in {folder}"
    )
