"""What is minimised: flow matching on the action chunk and, beside it, other losses on the same prefix."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from pi0_ros.model.config import ModelConfig
from pi0_ros.model.fast import Pi0Fast
from pi0_ros.model.paligemma import ModelInput, PaliGemma, Pictures
from pi0_ros.model.pi0 import Pi0, Prefix
from pi0_ros.robot import Robot
from pi0_ros.training.loader import TrainingData


class AuxiliaryLoss(Protocol):
    """A loss that teaches the prefix something else, through a head that is thrown away when training ends."""

    head: nn.Module

    def labels(self, rows: np.ndarray) -> tuple[np.ndarray, ...]:
        """What rows [B] of the data shall answer; the last array says how much each row counts, float32 [B]."""

    def answers(self, prefix: Prefix, inputs: ModelInput) -> Tensor:
        """The head's answers [B, ...] for this prefix."""

    def errors(self, answers: Tensor, labels: Sequence[Tensor]) -> Tensor:
        """One error per row, [B]."""

    def score(self, answers: np.ndarray, rows: np.ndarray) -> float:
        """How good answers [n, ...] for rows [n] of the data are, for the validation curve."""


@runtime_checkable
class TextLoss(Protocol):
    """A loss of what the language model itself writes after the images, in a pass of its own; the rest is as above."""

    head: nn.Module

    def labels(self, rows: np.ndarray) -> tuple[np.ndarray, ...]: ...

    def text_errors(self, model: PaliGemma, pictures: Pictures, labels: Sequence[Tensor]) -> Tensor:
        """One error per row, [B]; these are also the answers that `score` reads."""

    def score(self, answers: np.ndarray, rows: np.ndarray) -> float: ...


# Makes an auxiliary loss of the data, the robot and the rows to train on; recipes name it by its key in this mapping.
AuxiliaryLosses = Mapping[str, Callable[[TrainingData, Robot, np.ndarray, ModelConfig], AuxiliaryLoss]]


@dataclass(frozen=True)
class Batch:
    """What one step learns from.

    actions: [B,H,A] in model units, None: no flow loss; answer: bool [B,L], which of the prompt's tokens pi0-FAST shall
    write, None: none; noise: [n*B,H,A] and time: [n*B] of n draws, draw after draw.
    For training-time real-time chunking time is [n*B,H], and 0 for actions that are given: their loss does not count.
    labels: of each auxiliary loss that the step wants. rows: [B] of the data, for error messages.
    """

    rows: np.ndarray
    inputs: ModelInput
    actions: Tensor | None
    noise: Tensor
    time: Tensor
    labels: Mapping[str, tuple[Tensor, ...]]
    answer: Tensor | None = None

    @property
    def counts(self) -> Counts:
        """What the sums over this batch are divided by."""
        horizon = self.noise.shape[1] if self.noise.ndim > 1 else 0
        return count(self.time, horizon, self.labels, 0 if self.answer is None else len(self.answer))

    def parts(self, size: int) -> Iterator[Batch]:
        """The same batch in pieces of at most `size` rows."""
        total = len(self.rows)
        if size >= total:
            yield self
            return
        for start in range(0, total, size):
            rows = slice(start, start + size)
            yield replace(
                self,
                rows=self.rows[rows],
                inputs=_rows_of(self.inputs, rows),
                actions=None if self.actions is None else self.actions[rows],
                answer=None if self.answer is None else self.answer[rows],
                noise=self.noise.unflatten(0, (-1, total))[:, rows].flatten(0, 1) if len(self.noise) else self.noise,
                time=self.time.unflatten(0, (-1, total))[:, rows].flatten(0, 1) if len(self.time) else self.time,
                labels={name: tuple(values[rows] for values in labels) for name, labels in self.labels.items()},
            )


@dataclass(frozen=True)
class Counts:
    """What sums over a whole batch are divided by, where each process and micro-batch has a part of it.

    flow: how many actions the flow loss counts, or how many answers are written; labels: what the rows count together,
    at least 1, by auxiliary loss.
    """

    flow: float
    labels: Mapping[str, float]


def count(
    time: Tensor | np.ndarray, horizon: int, labels: Mapping[str, Sequence[Tensor | np.ndarray]], answers: int = 0
) -> Counts:
    """Counts of a batch with flow times [N] or [N,H], or so many answers, and these labels."""
    flow = float(answers or (time > 0).sum()) * (1 if answers or time.ndim > 1 else horizon)
    return Counts(flow, {name: max(1.0, float(values[-1].sum())) for name, values in labels.items()})


def rows_of_draws(values: np.ndarray, rows: slice, total: int) -> np.ndarray:
    """Of values [n*B, ...], draw after draw for B = `total` rows, those of some rows."""
    chosen: np.ndarray = values.reshape(-1, total, *values.shape[1:])[:, rows].reshape(-1, *values.shape[1:])
    return chosen


def _rows_of(inputs: ModelInput, rows: slice) -> ModelInput:
    return ModelInput(
        {slot: image[rows] for slot, image in inputs.images.items()},
        {slot: mask[rows] for slot, mask in inputs.image_masks.items()},
        inputs.prompt_tokens[rows],
        inputs.prompt_mask[rows],
        inputs.state[rows],
    )


@dataclass(frozen=True)
class Sums:
    """Losses summed over a batch, not yet divided by what counts: so the parts of a batch add up to the whole.

    flow: [A] per action dimension, or [1] of written answers; auxiliary: scalars by name; answers: of the
    heads by name, without gradients.
    """

    flow: Tensor
    auxiliary: Mapping[str, Tensor]
    answers: Mapping[str, Tensor]


class Learner(nn.Module):
    """The policy's network and the throw-away heads of the auxiliary losses."""

    def __init__(self, model: Pi0 | Pi0Fast, auxiliary: Mapping[str, AuxiliaryLoss | TextLoss]) -> None:
        super().__init__()
        self.model = model
        self.heads = nn.ModuleDict({name: loss.head for name, loss in auxiliary.items()})
        self.auxiliary = dict(auxiliary)

    def forward(self, batch: Batch) -> Sums:
        """All losses of the batch from one pass through images and prompt."""
        if isinstance(self.model, Pi0Fast):
            assert batch.answer is not None
            return Sums(self.model.loss(batch.inputs, batch.answer).sum()[None], {}, {})
        auxiliary, answers = {}, {}
        pictures = self.model.embed_images(batch.inputs) if any(map(self._is_text, batch.labels)) else None
        read = batch.actions is not None or not all(map(self._is_text, batch.labels))
        prefix = self.model.encode_prefix(batch.inputs, pictures) if read else None
        for name, labels in batch.labels.items():
            loss = self.auxiliary[name]
            if isinstance(loss, TextLoss):
                assert pictures is not None
                errors = answer = loss.text_errors(self.model, pictures, labels)
            else:
                assert prefix is not None
                with torch.autocast(batch.inputs.state.device.type, enabled=False):
                    answer = loss.answers(prefix, batch.inputs)
                    errors = loss.errors(answer, labels)
            auxiliary[name] = (errors * labels[-1]).sum()
            answers[name] = answer.detach()
        if batch.actions is None:
            return Sums(batch.inputs.state.new_zeros(self.model.config.action_dim), auxiliary, answers)
        assert prefix is not None
        error = self.model.loss(batch.inputs, batch.actions, batch.noise, batch.time, prefix=prefix)
        if batch.time.ndim == 2:
            error = error * (batch.time > 0)[..., None]
        return Sums(error.sum((0, 1)), auxiliary, answers)

    def _is_text(self, name: str) -> bool:
        return isinstance(self.auxiliary[name], TextLoss)


def draw_noise_and_time(
    random: np.random.Generator, batch: int, draws: int, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Standard normal noise float32 [n*B,H,A] and flow times float32 [n*B], as pi0: t ~ Beta(1.5, 1) * 0.999 + 0.001.

    The n draws of one frame are stratified, one from each n-th part of the distribution: less noise in the gradient.
    """
    noise = random.standard_normal((draws * batch, *shape), np.float32)
    uniform = (np.arange(draws)[:, None] + random.random((draws, batch))) / max(draws, 1)
    time = uniform.reshape(-1) ** (1 / 1.5) * 0.999 + 0.001  # Beta(a, 1) has the inverse distribution function u^(1/a)
    return noise, time.astype(np.float32)


def draw_delays(random: np.random.Generator, time: np.ndarray, max_delay: int, horizon: int) -> np.ndarray:
    """Flow times per action float32 [N,H] from those per row [N]: 0 for the first 0 .. max_delay actions, all alike
    likely (training-time real-time chunking, arXiv 2512.05964)."""
    delays = random.integers(0, max_delay, len(time), endpoint=True)
    return np.where(np.arange(horizon) < delays[:, None], np.float32(0), time[:, None])


def without_padding(inputs: ModelInput, keep_length: bool = False) -> ModelInput:
    """The same observations without what no row has: absent cameras, and the padding behind the longest prompt.

    Neither has any influence on the others. `keep_length` leaves the prompt's length, for compiled networks.
    """
    present = {slot: image for slot, image in inputs.images.items() if inputs.image_masks[slot].any()}
    length = inputs.prompt_mask.shape[1] if keep_length else int(inputs.prompt_mask.sum(1).max())
    return ModelInput(
        present,
        {slot: inputs.image_masks[slot] for slot in present},
        inputs.prompt_tokens[:, :length],
        inputs.prompt_mask[:, :length],
        inputs.state,
    )


def as_tensor(array: np.ndarray, device: torch.device) -> Tensor:
    """The array on a device."""
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)
