"""Weights in models: models filled from a source, and models written.

A source is checked against the model as a whole before anything is read: a model is filled completely from it, or not
at all.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from pi0_ros.checkpoints.safetensors_files import SafetensorsFile, TensorInfo, write_safetensors
from pi0_ros.checkpoints.sources import Source, TorchSource, check_tensors, disk_name
from pi0_ros.model.config import ModelConfig
from pi0_ros.model.fast import Pi0Fast, build_model
from pi0_ros.model.pi0 import Pi0


def named_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters of `model` under their names on disk."""
    return {disk_name(name): parameter for name, parameter in model.named_parameters()}


def save_model(model: nn.Module, path: str | Path) -> None:
    """Write the weights of `model` as safetensors; an existing file is replaced only once the new one is whole."""
    weights = named_weights(model)
    infos = {name: TensorInfo.of(weight) for name, weight in weights.items()}
    write_safetensors(path, infos, lambda name: [weights[name]])


class _NoNormal(TorchFunctionMode):
    """Leaves out normal first weights: they say nothing on the meta device, and drawing them loads torch's compiler."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do everything else."""
        return None if func is nn.init.normal_ else func(*args, **(kwargs or {}))


def meta_model(config: ModelConfig) -> Pi0 | Pi0Fast:
    """Build a model without memory: its names, shapes and dtypes."""
    with torch.device("meta"), _NoNormal():
        return build_model(config)


def filled_model(
    config: ModelConfig,
    source: Source,
    device: torch.device | str = "cpu",
    dtypes: Callable[[str], torch.dtype] | None = None,
) -> Pi0 | Pi0Fast:
    """Build a model on `device` with the weights of `source`, cast to `config.dtype`, in evaluation mode.

    `dtypes` tells the dtype of each parameter instead.

    Raises WeightsError before anything is allocated when `source` is not exactly this model.
    Nothing is computed on the meta device (`to_empty` would): torch imports its compiler and sympy for that, seconds.
    """
    model = meta_model(config)
    check_tensors(source, {name: tuple(weight.shape) for name, weight in named_weights(model).items()})
    memory = {
        name: torch.empty(p.shape, dtype=dtypes(name) if dtypes else p.dtype, device=device)
        for name, p in model.named_parameters()
    }
    model.load_state_dict(memory, assign=True)
    fill(model, source)
    return model.eval()


def load_model(config: ModelConfig, path: str | Path, device: torch.device | str = "cpu") -> Pi0 | Pi0Fast:
    """Build a model of known sizes on `device` with the weights in one safetensors file, in evaluation mode."""
    return filled_model(config, TorchSource(Path(path), [SafetensorsFile(path)]), device)


@torch.no_grad()
def fill(model: nn.Module, source: Source) -> None:
    """Copy all weights of `source` into `model`, casting to its dtypes; the two must have been checked."""
    weights = named_weights(model)
    for name in source.tensors:
        flat, filled = weights[name].view(-1), 0
        for piece in source.pieces(name):
            flat[filled : filled + piece.numel()].copy_(piece.reshape(-1))
            filled += piece.numel()
