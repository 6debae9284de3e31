"""Where weights come from, and their names: the openpi torch names, and what other files call the same tensors.

A `Source` stands for the weights of any checkpoint format under the openpi torch names. Names, shapes and dtypes are
read without torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pi0_ros.checkpoints.safetensors_files import SafetensorsFile, TensorInfo, WeightsError
from pi0_ros.model.config import ModelConfig
from pi0_ros.model.shapes import parameter_shapes

if TYPE_CHECKING:
    from torch import Tensor

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
# Names of LeRobot files older than September 2025 (transformers before 4.52), tried in this order.
_OLD_NAMES = {
    f"{_PALIGEMMA}.language_model.model.": f"{_PALIGEMMA}.model.language_model.",
    f"{_PALIGEMMA}.language_model.lm_head.": f"{_PALIGEMMA}.lm_head.",
    f"{_PALIGEMMA}.vision_tower.": f"{_PALIGEMMA}.model.vision_tower.",
    f"{_PALIGEMMA}.multi_modal_projector.": f"{_PALIGEMMA}.model.multi_modal_projector.",
}
_BUFFERS = re.compile(r".*\b(rotary_emb\.(original_)?inv_freq|position_ids)")  # what older transformers saved, too
_ROPE_BASE = 10_000.0
_STATISTICS = re.compile(r"(un)?normalize_(inputs|targets|outputs)\.")
_LISTED = 12

Stored = tuple[SafetensorsFile, str]  # a tensor by its name in a file


class Source(Protocol):
    """The weights of a checkpoint of any format, under openpi torch names, read on demand."""

    @property
    def path(self) -> Path:
        """What errors name."""
        ...

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """All tensors that a model is made of, in the order in which reading is cheapest."""
        ...

    @property
    def leftovers(self) -> Mapping[str, str]:
        """What else the files hold, by its name there, and why no model needs it."""
        ...

    @property
    def merged(self) -> int:
        """How many tensors are weights of the files with low-rank factors (LoRA) merged into them."""
        ...

    @property
    def sizes(self) -> Mapping[str, int]:
        """Sizes that the file tells but the tensors above do not, such as "vlm.head_dim"."""
        ...

    def pieces(self, name: str) -> Iterable[Tensor]:
        """Yield the tensor's parts in order; each part is valid until the next one is asked for."""
        ...


def disk_name(name: str) -> str:
    """Return the name on disk of the parameter `name` of a model."""
    for own, disk in _PREFIXES.items():
        if name.startswith(own):
            return disk + name.removeprefix(own)
    return name


def canonical_name(name: str) -> str:
    """Return the openpi torch name of a tensor that a torch file calls `name`.

    LeRobot puts `model.` in front, and torch.compile `_orig_mod.` wherever it wraps a module.
    """
    name = name.replace("_orig_mod.", "").removeprefix("model.")
    for old, new in _OLD_NAMES.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


class TorchSource:
    """The weights in safetensors files of openpi torch, LeRobot (old and new) or this package."""

    def __init__(self, path: Path, files: Iterable[SafetensorsFile]) -> None:
        self.path = path
        self.merged = 0
        self.sizes: Mapping[str, int] = {}
        self.statistics: dict[str, Stored] = {}  # old LeRobot files keep theirs among the weights
        self.tensors: dict[str, TensorInfo] = {}
        self.leftovers: dict[str, str] = {}
        self._where: dict[str, Stored] = {}
        for file in files:
            for stored, info in file.tensors.items():
                name = canonical_name(stored)
                if _STATISTICS.match(name):
                    self.statistics[name] = file, stored
                    self.leftovers[stored] = "normalisation statistics, not weights"
                elif _BUFFERS.fullmatch(name):
                    _check_buffer(file, stored)
                    self.leftovers[stored] = "a constant that transformers computes, with the usual values"
                elif name in self._where:
                    raise WeightsError(f"{path}: {stored} and {self._where[name][1]} are the same tensor ({name})")
                else:
                    self.tensors[name], self._where[name] = info, (file, stored)
        self._sort_out_heads()

    def _sort_out_heads(self) -> None:
        """Let the embedding come from the head where it stands alone, and set aside what no model needs."""
        if EMBEDDING not in self.tensors and TIED_HEAD in self.tensors:
            self.tensors[EMBEDDING], self._where[EMBEDDING] = self.tensors.pop(TIED_HEAD), self._where.pop(TIED_HEAD)
        for name, why in (
            (TIED_HEAD, "the policy reads the embedding table, not this copy of it"),
            (UNUSED_HEAD, "the head of the action expert is never trained and never read"),
        ):
            if name in self.tensors:
                del self.tensors[name]
                self.leftovers[self._where[name][1]] = why

    def unused(self) -> dict[str, TensorInfo]:
        """The heads that the file has and no model reads; `pieces` reads them too."""
        return {
            name: self._where[name][0].tensors[self._where[name][1]]
            for name in (TIED_HEAD, UNUSED_HEAD)
            if name in self._where
        }

    def pieces(self, name: str) -> Iterable[Tensor]:
        file, stored = self._where[name]
        return file.pieces(stored)

    def raw(self, name: str) -> Iterable[np.ndarray]:
        """The bytes of what `pieces` yields, without torch."""
        file, stored = self._where[name]
        return file.raw(stored)


def _check_buffer(file: SafetensorsFile, name: str) -> None:
    """Refuse a buffer with other values than the models here have built in: rotary base 10000, positions 0, 1, 2."""
    found = file.numbers(name)
    count = np.arange(len(found), dtype=np.float64)
    usual = count if name.endswith("position_ids") else _ROPE_BASE ** -(count / max(1, len(found)))
    if not np.allclose(found, usual, rtol=1e-2):  # it may have been saved in bfloat16
        raise WeightsError(f"{file.path}: {name} has other values than these models compute: it is another network")


def whole(source: Source, name: str) -> Tensor:
    """Return one tensor of a source in its shape, in memory of its own."""
    import torch

    info = source.tensors[name]
    return torch.cat([piece.reshape(-1) for piece in source.pieces(name)]).view(info.shape)


def equals_embedding(source: Source, name: str) -> bool:
    """Tell whether the unused tensor `name` of a source is its embedding table bit by bit; without torch."""
    if not isinstance(source, TorchSource) or source.unused().get(name) != source.tensors[EMBEDDING]:
        return False
    return all(np.array_equal(*pair) for pair in zip(source.raw(name), source.raw(EMBEDDING), strict=True))


def model_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all tensors that a model of this config consists of, by their names on disk."""
    return {disk_name(name): shape for name, shape in parameter_shapes(config).items()}


def check_tensors(source: Source, wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Raise one WeightsError that lists what is missing, unexpected and misshapen, when `source` is not `wanted`."""
    found = {name: info.shape for name, info in source.tensors.items()}
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
        lines = [f"{source.path}: these weights do not fit the model config"]
        for kind, entries in problems.items():
            if entries:
                more = f", and {len(entries) - _LISTED} more" if len(entries) > _LISTED else ""
                lines.append(f"  {len(entries)} {kind}: {', '.join(entries[:_LISTED])}{more}")
        raise WeightsError("\n".join(lines))
