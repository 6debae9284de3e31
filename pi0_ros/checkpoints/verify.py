"""Compare the actions of two checkpoints, of whatever formats."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pi0_ros.checkpoints.describe import Sizes, open_checkpoint
from pi0_ros.checkpoints.description import Description
from pi0_ros.checkpoints.load import check_device, load_model
from pi0_ros.checkpoints.norm_stats import Stats, unnormalize
from pi0_ros.checkpoints.safetensors_files import CheckpointError
from pi0_ros.checkpoints.sources import Source, whole
from pi0_ros.model.config import ModelConfig
from pi0_ros.model.paligemma import ModelInput
from pi0_ros.model.pi0 import Pi0

_COMPARED = ("model", "vocab_size", "vlm", "expert", "vision", "action_dim", "state_dim")
_KINDS = {"state_normalization", "action_normalization"}  # formats say the same statistics in different ways
_PART = 2**24  # elements compared at once
Progress = Callable[[str, int, int], None]  # what is done, how many bytes of it, of how many; 0 where none can tell


@dataclass(frozen=True)
class Differences:
    """How far two checkpoints are apart."""

    actions: float  # largest absolute difference of sampled actions (pi0-FAST: of the logits), in model units
    scale: float  # largest absolute action of the first one
    weights: Mapping[str, float]  # tensors that differ -> largest absolute difference, largest first
    config: Mapping[str, tuple[Any, Any]]  # keys of the config that differ, where files say both
    statistics: Mapping[str, float]  # those that both have -> largest difference, in model units
    settings: Mapping[str, tuple[Any, Any]]  # settings that differ, where both say something

    @property
    def equal(self) -> bool:
        """True when all weights are the same numbers; differing configs can still make differing policies."""
        return not self.weights


def verify_checkpoints(
    a: Path | str,
    b: Path | str,
    *,
    config: Sizes = None,
    asset_id: str | None = None,
    base: Path | str | None = None,
    lerobot_release: str | None = None,
    device: torch.device | str = "cpu",
    batch: int = 2,
    num_steps: int = 10,
    seed: int = 0,
    progress: Progress = lambda what, done, total: None,
) -> Differences:
    """Compare the weights of two checkpoints and their actions on the same random inputs, in float32.

    Cameras are matched by their order, since formats name them differently. The models are loaded one after the other.
    `asset_id` chooses the statistics of the one that has several, to be compared with the only ones of the other.
    `progress` hears of every weight compared (in bytes) and of every model about to be loaded or run.
    CheckpointError when they are not models of the same sizes.
    """
    if batch < 1:
        raise CheckpointError(f"{batch} random inputs compare nothing: say 1 or more")
    check_device(device)
    opened = [_open(path, config, base, lerobot_release) for path in (a, b)]
    (first, one), (second, other) = opened
    for key in _COMPARED:
        ours, theirs = getattr(first.config, key), getattr(second.config, key)
        if ours != theirs:
            raise CheckpointError(f"{first.path} and {second.path}: {key} is {ours} and {theirs}, nothing to compare")
    if len(first.config.cameras) != len(second.config.cameras):
        raise CheckpointError(
            f"{first.path} has {len(first.config.cameras)} cameras, {second.path} {len(second.config.cameras)}; "
            "say them with --config FILE, a YAML file with {cameras: [first, second]}"
        )
    weights = _weight_differences(one, other, progress)
    del opened, one, other
    outputs = []
    for path, description in ((a, first), (b, second)):
        progress(f"loading {description.path.name}", 0, 0)
        model = load_model(path, config=description.config, device=device, base=base).model
        progress(f"running {description.path.name} on random inputs", 0, 0)
        outputs.append(_outputs(model, first.config, batch, num_steps, seed).cpu())
        del model
        gc.collect()
    difference = (outputs[0] - outputs[1]).abs().max().item()
    return Differences(
        actions=difference,
        scale=outputs[0].abs().max().item(),
        weights=weights,
        config=_differences(
            first.config.to_dict(), second.config.to_dict(), {"dtype", *first.assumed, *second.assumed}
        ),
        statistics=_statistics_differences(first, second, asset_id),
        settings=_differences(first.settings.to_dict(), second.settings.to_dict(), _KINDS),
    )


def _differences(ours: Mapping[str, Any], theirs: Mapping[str, Any], leave_out: set[str]) -> dict[str, tuple[Any, Any]]:
    """The keys of both whose values differ."""
    keys = [key for key in ours if key in theirs and key not in leave_out]
    return {key: (ours[key], theirs[key]) for key in keys if ours[key] != theirs[key]}


def _statistics_differences(first: Description, second: Description, asset_id: str | None) -> dict[str, float]:
    """What the same model units mean in robot units, by the statistics that both have."""
    pairs = {key: (stats, second.assets[key]) for key, stats in first.assets.items() if key in second.assets}
    chosen = [description.assets.get(asset_id or "", description.norm_stats) for description in (first, second)]
    listed = any(one is chosen[0] and other is chosen[1] for one, other in pairs.values())
    if chosen[0] is not None and chosen[1] is not None and not listed:
        pairs["chosen"] = chosen[0], chosen[1]
    found = {}
    for key, (ours, theirs) in pairs.items():
        for part, kind in (("state", "state_normalization"), ("actions", "action_normalization")):
            kinds = getattr(first.settings, kind), getattr(second.settings, kind)
            found[f"{key} {part}"] = _apart(getattr(ours, part), getattr(theirs, part), *kinds)
    return found


def _apart(ours: Stats, theirs: Stats, our_kind: str, their_kind: str) -> float:
    """The largest difference between -1 and 1, in model units of the first; infinite for different dimensions."""
    dim = min(ours.dim or theirs.dim, theirs.dim or ours.dim)
    if dim < max(ours.used_dim, theirs.used_dim):
        return math.inf
    ends = np.outer((-1.0, 1.0), np.ones(dim))
    one, other = unnormalize(ends, ours, our_kind), unnormalize(ends, theirs, their_kind)
    return float((np.abs(one - other) / np.maximum(np.abs(one[1] - one[0]) / 2, 1e-3)).max(initial=0.0))


def _weight_differences(one: Source, other: Source, progress: Progress) -> dict[str, float]:
    found = {}
    total, done = sum(info.nbytes for info in one.tensors.values()), 0
    for name, info in one.tensors.items():
        parts = zip(whole(one, name).flatten().split(_PART), whole(other, name).flatten().split(_PART), strict=True)
        largest = float(np.max([(x.float() - y.float()).abs().max().item() for x, y in parts], initial=0.0))
        if largest != 0:  # so is what is not a number
            found[name] = largest
        done += info.nbytes
        progress("comparing weights", done, total)
    return dict(sorted(found.items(), key=lambda item: -item[1]))


@torch.no_grad()
def _open(
    path: Path | str, config: Sizes, base: Path | str | None, lerobot_release: str | None
) -> tuple[Description, Source]:
    """Open one; `lerobot_release` is for the one that does not tell. CheckpointError where nothing tells."""
    description, source = open_checkpoint(path, config=config, base=base)
    if description.undecided and lerobot_release is not None:
        description, source = open_checkpoint(path, config=config, base=base, lerobot_release=lerobot_release)
    if description.undecided:
        raise CheckpointError(description.undecided)
    return description, source


def _outputs(model: Any, config: ModelConfig, batch: int, num_steps: int, seed: int) -> Tensor:
    """What the model makes of random inputs drawn from `seed`: actions, or for pi0-FAST the logits of an answer."""
    generator = torch.Generator().manual_seed(seed)
    size, device = config.vision.image_size, next(model.parameters()).device
    length = config.max_token_len

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    inputs = ModelInput(
        images={slot: draw(batch, size, size, 3).clamp(-1, 1) for slot in model.config.cameras},
        image_masks={slot: torch.ones(batch, dtype=torch.bool) for slot in model.config.cameras},
        prompt_tokens=torch.randint(config.vocab_size, (batch, length), generator=generator),
        prompt_mask=torch.arange(length).expand(batch, -1) < max(2, length // 2),
        state=draw(batch, config.state_width),
    ).to(device)
    if isinstance(model, Pi0):
        model.lerobot_times = False  # a matter of the format: its last bit of time shows in the actions
        noise = draw(batch, config.action_horizon, config.action_dim).to(device)
        return model.sample_actions(inputs, noise, num_steps)
    answer = (torch.arange(length) >= length // 4).expand(batch, -1) & inputs.prompt_mask.cpu()
    return torch.as_tensor(model.answer_logits(inputs, answer.to(device)))
