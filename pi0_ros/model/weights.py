"""Weights on disk: safetensors whose tensors carry the names of the openpi torch checkpoints."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pi0_ros.model.config import ModelConfig
from pi0_ros.model.pi0 import Pi0

_PALIGEMMA = "paligemma_with_expert.paligemma"
_VISION = f"{_PALIGEMMA}.model.vision_tower.vision_model"
# Prefix of our module -> prefix on disk. Names without such a prefix are equal.
_PREFIXES = {
    "vision.patch_embedding.": f"{_VISION}.embeddings.patch_embedding.",
    "vision.position_embedding.": f"{_VISION}.embeddings.position_embedding.",
    "vision.layers.": f"{_VISION}.encoder.layers.",
    "vision.post_layernorm.": f"{_VISION}.post_layernorm.",
    "projector.": f"{_PALIGEMMA}.model.multi_modal_projector.linear.",
    "embedding.": f"{_PALIGEMMA}.model.language_model.embed_tokens.",
    "vlm.": f"{_PALIGEMMA}.model.language_model.",
    "expert.": "paligemma_with_expert.gemma_expert.model.",
}
EMBEDDING = f"{_PALIGEMMA}.model.language_model.embed_tokens.weight"
TIED_HEAD = f"{_PALIGEMMA}.lm_head.weight"  # the embedding table again; files that drop one of the two keep this one
UNUSED_HEAD = "paligemma_with_expert.gemma_expert.lm_head.weight"  # never trained, never read
_DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
_LISTED = 12


class WeightsError(ValueError):
    """A weights file that cannot be used; the message names the file and the tensors."""


def disk_name(name: str) -> str:
    """Return the name on disk of the parameter `name` of a `Pi0`."""
    for own, disk in _PREFIXES.items():
        if name.startswith(own):
            return disk + name.removeprefix(own)
    return name


def named_weights(model: Pi0) -> dict[str, nn.Parameter]:
    """Return the parameters of `model` under their names on disk."""
    return {disk_name(name): parameter for name, parameter in model.named_parameters()}


def save_model(model: Pi0, path: str | Path) -> None:
    """Write the weights of `model` as safetensors; an existing file is replaced only once the new one is whole."""
    write_safetensors(named_weights(model), path)


def write_safetensors(tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Stream `tensors` to `path` one after the other, so that no second copy of a large model is held."""
    path = Path(path)
    if other := {str(tensor.dtype) for tensor in tensors.values()} - {str(dtype) for dtype in _DTYPES}:
        raise WeightsError(f"{path}: cannot write weights as {', '.join(sorted(other))}; cast them to torch.float32")
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))  # widest first keeps all aligned
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in names:
        tensor = tensors[name]
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            file.write(struct.pack("<Q", len(encoded)) + encoded)
            for name in names:
                data = tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8)
                file.write(data.numpy().data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


class _NoNormal(TorchFunctionMode):
    """Leaves out normal first weights: they say nothing on the meta device, and drawing them loads torch's compiler."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do everything else."""
        return None if func is nn.init.normal_ else func(*args, **(kwargs or {}))


def load_model(config: ModelConfig, path: str | Path, device: torch.device | str = "cpu") -> Pi0:
    """Build a `Pi0` on `device` with the weights in `path`, in evaluation mode.

    Nothing is computed on the meta device (`to_empty` would): torch imports its compiler and sympy for that, seconds.
    """
    with torch.device("meta"), _NoNormal():
        model = Pi0(config)
    memory = {name: torch.empty(p.shape, dtype=p.dtype, device=device) for name, p in model.named_parameters()}
    model.load_state_dict(memory, assign=True)
    load_weights(model, path)
    return model.eval()


@torch.no_grad()
def load_weights(model: Pi0, path: str | Path) -> None:
    """Copy the weights in `path` into `model`, casting to its dtypes, tensor by tensor.

    Raises WeightsError, before anything is copied, when the file is not whole or its tensors are not the model's.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such weights file")
    weights = named_weights(model)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            stored = {name: name for name in file.keys() if name not in (TIED_HEAD, UNUSED_HEAD)}  # noqa: SIM118
            if EMBEDDING not in stored and TIED_HEAD in file.keys():  # noqa: SIM118
                stored[EMBEDDING] = TIED_HEAD
            shapes = {name: tuple(file.get_slice(source).get_shape()) for name, source in stored.items()}
            _check_tensors(path, {name: tuple(weight.shape) for name, weight in weights.items()}, shapes)
            for name, source in stored.items():
                weights[name].copy_(file.get_tensor(source))
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path}: not a whole safetensors file ({error}); copy it again, or write it with save_model"
        ) from error


def _check_tensors(path: Path, wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> None:
    problems = {
        "missing": [name for name in wanted if name not in found],
        "unexpected": [name for name in found if name not in wanted],
        "of another shape": [
            f"{name} is {list(found[name])}, the model needs {list(shape)}"
            for name, shape in wanted.items()
            if name in found and found[name] != shape
        ],
    }
    if any(problems.values()):
        lines = [f"{path}: these weights do not fit the model config"]
        for kind, entries in problems.items():
            if entries:
                more = f", and {len(entries) - _LISTED} more" if len(entries) > _LISTED else ""
                lines.append(f"  {len(entries)} {kind}: {', '.join(entries[:_LISTED])}{more}")
        raise WeightsError("\n".join(lines))
