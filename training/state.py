"""Everything a killed run needs to go on exactly: raw and averaged weights and the optimiser's moments. No pickle.

    train_state/state.safetensors   raw.<parameter>  average.<parameter>  exp_avg.<parameter>  exp_avg_sq.<parameter>
    train_state/shards/             the same of several processes, each its part (`shards.py`)
    train_state/state.json          stage, step, seconds trained

Only parameters that learn in some stage are there; the others are those of the start. Random numbers and the sampler's
position are functions of (seed, stage, step), so there is nothing of them to save.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pi0_ros.checkpoints.folders import read_json
from pi0_ros.checkpoints.safetensors_files import CheckpointError, SafetensorsFile
from pi0_ros.training.optimizer import Average
from pi0_ros.training.recipe import RecipeError
from pi0_ros.training.sharding import like
from pi0_ros.training.shards import FOLDER as SHARDS
from pi0_ros.training.shards import names_in, read_shards

FOLDER, TENSORS, POSITION = "train_state", "state.safetensors", "state.json"
MOMENTS = ("exp_avg", "exp_avg_sq")
MAY_CHANGE = {  # keys that say how a run is computed, watched and saved, not what comes out
    *("device", "threads", "compile", "parallel", "recompute", "log_every", "save_every", "validate_every"),
    *("keep_last", "keep_period", "save_async", "track"),
}


@dataclass(frozen=True)
class Position:
    """Where a run stands: `step` steps of stage number `stage` are done, after `seconds` of training in all."""

    stage: int
    step: int
    seconds: float


def finished(checkpoint: Path) -> bool:
    """Whether the run that wrote this checkpoint came to its end."""
    return bool(read_json(checkpoint / "config.json")["training"]["finished"])


def check_same_run(checkpoint: Path, notes: Mapping[str, Any]) -> None:
    """RecipeError unless the checkpoint is of a run with this recipe on this data."""
    recorded_notes = read_json(checkpoint / "config.json")["training"]
    recorded, wanted = recorded_notes["recipe"], json.loads(json.dumps(notes["recipe"]))
    if missing := [name for name in wanted if name not in recorded]:
        raise RecipeError(
            f"{checkpoint}: this run was begun by another release, which knew no {', '.join(missing)}: go on with that "
            f"release, or begin anew with another --out, from its weights with --init {checkpoint}"
        )
    changed = [name for name in wanted if name not in MAY_CHANGE and recorded.get(name) != wanted[name]]
    known = ("episodes", "frames", "shares", "dataset_fingerprint", "robot_fingerprint")
    changed += [name for name in known if name in notes and recorded_notes.get(name) != notes[name]]
    if changed:
        raise RecipeError(f"{checkpoint}: was trained with other {', '.join(changed)}: use the same, or another --out")


def state_tensors(
    learning: Mapping[str, nn.Parameter], average: Average, optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """All that `write_state` writes, by name."""
    tensors = {f"raw.{name}": parameter.detach() for name, parameter in learning.items()}
    if average.enabled:
        tensors |= {f"average.{name}": tensor for name, tensor in average.tensors.items()}
    for name, parameter in learning.items():
        moments = optimizer.state.get(parameter, {})
        tensors |= {f"{moment}.{name}": moments[moment] for moment in MOMENTS if moments}
    return tensors


def write_state(checkpoint: Path, position: Position, write: Callable[[Path], None]) -> None:
    """Write `train_state/` into a checkpoint folder (that is renamed into place when complete).

    `write` puts the tensors into it: `write_whole`, or the shards of each process.
    """
    folder = checkpoint / FOLDER
    folder.mkdir()
    write(folder)
    (folder / POSITION).write_text(json.dumps(asdict(position)) + "\n")


def write_whole(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write the tensors that this process has in whole."""
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / TENSORS)


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
    checkpoint: Path,
    learning: Mapping[str, nn.Parameter],
    average: Average,
    optimizer: torch.optim.Optimizer,
    position: Position,
) -> None:
    """Put what `write_state` saved back in place, whatever number of processes saved it and reads it."""
    if (shards := checkpoint / FOLDER / SHARDS).is_dir():
        known = names_in(shards)
        restore_optimizer(optimizer, learning, known, position)
        read_shards(state_tensors(learning, average, optimizer), shards)
        return
    path = checkpoint / FOLDER / TENSORS
    file = SafetensorsFile(path)  # read one tensor after the other: memory holds the state once
    restore_optimizer(optimizer, learning, file.tensors, position)
    try:
        for name, tensor in state_tensors(learning, average, optimizer).items():
            tensor.copy_(like(tensor, file.tensor(name)))
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path}: does not fit this model ({error}); was the training config changed?") from None


def restore_optimizer(
    optimizer: torch.optim.Optimizer,
    learning: Mapping[str, nn.Parameter],
    known: Collection[str],
    position: Position,
) -> None:
    """Give AdamW room for the moments that are `known`, after so many steps."""
    for name, parameter in learning.items():
        if f"{MOMENTS[0]}.{name}" in known:
            moments = {moment: torch.zeros_like(parameter) for moment in MOMENTS}
            steps = torch.tensor(float(position.step), device=parameter.device)  # a fused optimiser wants it there
            optimizer.state[parameter] = {"step": steps, **moments}
