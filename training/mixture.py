"""Several datasets as one: each with its robot, its statistics and its share of the frames that are drawn.

Rows of all sources are numbered one after the other. What comes out is one network and, for each robot, all that it
takes to deploy it there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pi0_ros.base.errors import InputError
from pi0_ros.checkpoints.norm_stats import NormStats
from pi0_ros.checkpoints.spec import PolicySpec
from pi0_ros.model.paligemma import ModelInput
from pi0_ros.robot import Robot
from pi0_ros.tokens.action_tokens import ActionTokens
from pi0_ros.training.loader import Augmentation, TrainingData, make_batch

POWER = 0.43  # a dataset of n frames counts n ** POWER (pi0, arXiv 2410.24164)


@dataclass(frozen=True)
class Source:
    """One dataset: frames, robot and statistics; `weight`: how often it is drawn (None: by its size)."""

    name: str
    data: TrainingData
    robot: Robot
    norm_stats: NormStats
    weight: float | None = None


@dataclass(frozen=True)
class Part:
    """A source as the model sees it; `share` of all frames that are drawn, `first` of its rows in the mixture."""

    name: str
    data: TrainingData
    spec: PolicySpec
    share: float
    first: int


@dataclass(frozen=True)
class Mixture:
    """The parts; one alone is the usual case."""

    parts: tuple[Part, ...]
    tokens: ActionTokens | None = None  # of a pi0-FAST

    def at(self, row: int) -> tuple[Part, int]:
        """The part of a row of the mixture, and its row there."""
        part = [part for part in self.parts if part.first <= row][-1]
        return part, int(row) - part.first

    def episode_and_frame(self, row: int) -> tuple[int, int]:
        """Where a row stands in its dataset."""
        part, local = self.at(row)
        episode = int(part.data.episode[local])
        return episode, local - part.data.spans[episode][0]

    def where(self, row: int) -> str:
        """The same in words, for people."""
        episode, frame = self.episode_and_frame(row)
        of = f" of {self.at(row)[0].name}" if len(self.parts) > 1 else ""
        return f"episode {episode}, frame {frame}{of}"

    def split(self, rows: np.ndarray) -> Iterator[tuple[Part, np.ndarray, np.ndarray]]:
        """Each part with the places [k] of its rows among `rows` [B], and these rows as it numbers them."""
        number = np.searchsorted([part.first for part in self.parts], rows, side="right") - 1
        for index, part in enumerate(self.parts):
            places = np.flatnonzero(number == index)
            yield part, places, rows[places] - part.first


def shares(sources: Sequence[Source]) -> list[float]:
    """How much of what is drawn comes from each source; InputError where some weights are given, or none is above 0."""
    given = [source.weight for source in sources if source.weight is not None]
    if not given:
        given = [float(source.data.length) ** POWER for source in sources]
    if len(given) != len(sources) or not all(np.isfinite(weight) and weight > 0 for weight in given):
        raise InputError(
            f"weights {', '.join(f'{w:g}' for w in given)}: one above 0 for each of {len(sources)} datasets"
        )
    return [weight / sum(given) for weight in given]


def make_mixed_batch(
    mixture: Mixture,
    rows: np.ndarray,
    augmentation: Augmentation,
    random: np.random.Generator,
    device: torch.device | str = "cpu",
    share: slice = slice(None),
) -> tuple[ModelInput, torch.Tensor]:
    """`make_batch` for rows [B] of a mixture, in their order."""
    if len(mixture.parts) == 1:
        part = mixture.parts[0]
        return make_batch(part.data, part.spec, rows, augmentation, random, device, share, mixture.tokens)
    mine = np.zeros(len(rows), bool)
    mine[share] = True
    found, places = [], []
    for part, where, local in mixture.split(rows):
        own = np.random.default_rng(random.integers(2**63))  # drawn by every process, whether it has such rows or not
        if mine[where].any():
            wanted = np.flatnonzero(mine[where])
            made = make_batch(part.data, part.spec, local, augmentation, own, device, wanted, mixture.tokens)
            found.append(made)
            places.append(where[wanted])
    order = torch.from_numpy(np.argsort(np.concatenate(places))).to(device)
    inputs = [inputs for inputs, _ in found]
    return (
        ModelInput(
            {slot: torch.cat([i.images[slot] for i in inputs])[order] for slot in inputs[0].images},
            {slot: torch.cat([i.image_masks[slot] for i in inputs])[order] for slot in inputs[0].images},
            torch.cat([i.prompt_tokens for i in inputs])[order],
            torch.cat([i.prompt_mask for i in inputs])[order],
            torch.cat([i.state for i in inputs])[order],
        ),
        torch.cat([target for _, target in found])[order],
    )
