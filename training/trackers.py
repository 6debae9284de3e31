"""Where a run's numbers and pictures go beside progress.csv: TensorBoard, Weights & Biases, Trackio."""

from __future__ import annotations

import importlib.util
import sys
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pi0_ros.training.recipe import RecipeError

PROJECT = "pi0_ros"
RUN_ID = "wandb_id"  # file in the run's folder: a resumed run goes on in the same one


class Tracker(Protocol):
    """Takes a run's numbers, which belong to a step of all stages together."""

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Take numbers by name."""

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Take a picture, uint8 [H,W,3] RGB."""

    def close(self) -> None:
        """Write what is left."""


class TensorBoard:
    """Files in `<out>/tensorboard`, which `tensorboard --logdir` shows."""

    def __init__(self, out: Path, config: Mapping[str, Any], done: int) -> None:
        module = importlib.import_module("torch.utils.tensorboard")
        self._writer = module.SummaryWriter(str(out / "tensorboard"), purge_step=done + 1 if done else None)

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Take numbers by name."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Take a picture, uint8 [H,W,3] RGB."""
        self._writer.add_image(name, pixels, step, dataformats="HWC")

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


class WandB:
    """A run of Weights & Biases, named as the folder; WANDB_MODE=offline keeps it on this machine."""

    def __init__(self, out: Path, config: Mapping[str, Any], done: int) -> None:
        self._module = importlib.import_module("wandb")
        known = out / RUN_ID
        number = known.read_text().strip() if done and known.is_file() else uuid.uuid4().hex[:8]
        known.write_text(number + "\n")
        self._run = self._module.init(
            project=PROJECT, name=out.resolve().name, dir=str(out), id=number, resume="allow", config=dict(config)
        )

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Take numbers by name."""
        self._run.log(dict(numbers), step=step)

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Take a picture, uint8 [H,W,3] RGB."""
        self._run.log({name: self._module.Image(pixels)}, step=step)

    def close(self) -> None:
        """Write what is left."""
        self._run.finish()


class Trackio:
    """A run of Hugging Face's Trackio, named as the folder."""

    def __init__(self, out: Path, config: Mapping[str, Any], done: int) -> None:
        self._module = importlib.import_module("trackio")
        self._module.init(project=PROJECT, name=out.resolve().name, config=dict(config), resume="allow")

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Take numbers by name."""
        self._module.log(dict(numbers), step=step)

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Take a picture, uint8 [H,W,3] RGB."""
        self._module.log({name: self._module.Image(pixels)}, step=step)

    def close(self) -> None:
        """Write what is left."""
        self._module.finish()


KINDS: dict[str, Callable[[Path, Mapping[str, Any], int], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "trackio": Trackio,
}


def check_trackers(names: tuple[str, ...]) -> None:
    """RecipeError names a package that is missing; TensorBoard's is a note, for it is on by default."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            if name != "tensorboard":
                raise RecipeError(f"track: {name} is not installed: `pip install {name}`, or leave it out of `track`")
            print("note: no TensorBoard files, for it is not installed: `pip install tensorboard`", file=sys.stderr)


def open_trackers(names: tuple[str, ...], out: Path, config: Mapping[str, Any], done: int) -> list[Tracker]:
    """Trackers by name, of installed packages; `config` is the recipe, `done` the steps that a resumed run has done."""
    return [KINDS[name](out, config, done) for name in names if importlib.util.find_spec(name)]
