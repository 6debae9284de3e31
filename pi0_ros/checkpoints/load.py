"""Any checkpoint into a model: locate, read what lies around the weights, compare, fill."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch

from pi0_ros.checkpoints.describe import Sizes, open_checkpoint
from pi0_ros.checkpoints.description import Description
from pi0_ros.checkpoints.safetensors_files import CheckpointError
from pi0_ros.checkpoints.weights import filled_model
from pi0_ros.model.config import DTYPES
from pi0_ros.model.fast import Pi0Fast
from pi0_ros.model.pi0 import Pi0
from pi0_ros.tokens.action_tokens import FOLDER as ACTION_TOKENS
from pi0_ros.tokens.action_tokens import ActionCodec, ActionTokens
from pi0_ros.tokens.subwords import TokenizerError
from pi0_ros.tokens.tokenizer import Tokenizer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedModel(Description):
    """A checkpoint with its network, on its device and in evaluation mode."""

    model: Pi0 | Pi0Fast
    tokenizer: Tokenizer | None


def load_model(
    path: Path | str,
    *,
    config: Sizes = None,
    device: torch.device | str = "cpu",
    dtype: str = "float32",
    asset_id: str | None = None,
    base: Path | str | None = None,
    dtypes: Callable[[str], torch.dtype] | None = None,
    lerobot_release: str | None = None,
) -> LoadedModel:
    """Load the network of a checkpoint of any format, or raise one CheckpointError; no weight is ever left random.

    Formats: our own folder, LeRobot (any release, PEFT adapters too), openpi PyTorch, openpi JAX, one .safetensors.
    `config` says what no file does (a `ModelConfig`, or a mapping with some of its keys: each key given wins, unless
    the tensors show otherwise). `dtype` is float32, or bfloat16 with the parts that the reference keeps in float32.
    `asset_id` chooses among several statistics; `base` is the folder of the model that a PEFT adapter changes;
    `lerobot_release` says which LeRobot trained it where no file does.
    `dtypes` tells the dtype of each parameter instead of `dtype` (for training: of a model whose parts differ).

    Weights go from the file straight to `device`. Nothing here turns TF32 on: multiplications in float32 are exact
    unless the process asked for less with `torch.set_float32_matmul_precision`, which is logged.
    """
    if dtype not in DTYPES:
        raise CheckpointError(f"dtype is {dtype!r}; models run in {' or '.join(DTYPES)}")
    description, source = open_checkpoint(
        path, config=config, asset_id=asset_id, base=base, lerobot_release=lerobot_release
    )
    description = replace(description, config=replace(description.config, dtype=dtype))
    tokenizer = _tokenizer(description.tokenizer_path)
    warn_of_tf32(check_device(device).type, dtype)
    model = filled_model(description.config, source, device, dtypes)
    if isinstance(model, Pi0Fast) and tokenizer is not None and (description.path / ACTION_TOKENS).is_dir():
        model.codec = ActionCodec(tokenizer, _action_tokens(description.path / ACTION_TOKENS))
    if isinstance(model, Pi0):
        settings = description.settings
        model.lerobot_times = settings.prompt_format == "lerobot" and not settings.times_summed
    known = {field.name: getattr(description, field.name) for field in fields(Description)}
    return LoadedModel(**known, model=model, tokenizer=tokenizer)


def check_device(device: torch.device | str) -> torch.device:
    """Return a device that works; CheckpointError where it does not exist here."""
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise CheckpointError(f"device {str(device)!r} cannot be used: {str(error).splitlines()[0]}") from None


def warn_of_tf32(device: str, dtype: str) -> None:
    """Say it when float32 was asked for, but the process multiplies with less (TF32: 10 bits instead of 23)."""
    if device == "cuda" and dtype == "float32" and torch.get_float32_matmul_precision() != "highest":
        logger.warning(
            "float32 models run in TF32 in this process, because something set the precision of multiplications to %r; "
            "torch.set_float32_matmul_precision('highest') makes them exact",
            torch.get_float32_matmul_precision(),
        )


def _tokenizer(path: Path | None) -> Tokenizer | None:
    try:
        return Tokenizer.load(path) if path is not None else None
    except (TokenizerError, OSError) as error:  # names the file
        raise CheckpointError(str(error)) from error


def _action_tokens(folder: Path) -> ActionTokens:
    try:
        return ActionTokens.load(folder)
    except (TokenizerError, OSError) as error:  # names the file
        raise CheckpointError(str(error)) from error
