"""Co-training of pi0.5's high-level step: the language model learns to write what a frame is about, its subtask.

Question, attention, positions and end are those of inference (`policy/subtask.py`, `PaliGemma.generate_text`); the
answer is the frame's label in the dataset, and the loss its next-token cross entropy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from pi0_ros.model.config import ModelConfig
from pi0_ros.model.paligemma import PaliGemma, Pictures
from pi0_ros.tokens.prompts import subtask_text
from pi0_ros.training.loader import TrainingData
from pi0_ros.training.mixture import Mixture, Part
from pi0_ros.training.recipe import SUBTASK, Recipe, RecipeError, learns_text

Written = tuple[np.ndarray, np.ndarray, np.ndarray]  # tokens int64 [L], mask bool [L], where the answer is bool [L]


class SubtaskLoss:
    """The loss `auxiliary: {subtask: WEIGHT}`; frames without a label do not count."""

    def __init__(self, mixture: Mixture, config: ModelConfig, keep_length: bool = False) -> None:
        """`keep_length` leaves the padding behind the longest text, for compiled networks."""
        self.head: nn.Module = nn.Identity()  # the language model's own
        self._mixture, self._config, self._keep_length = mixture, config, keep_length
        self._written: dict[tuple[str, str], Written] = {}

    def labels(self, rows: np.ndarray) -> tuple[np.ndarray, ...]:
        """Question and answer of rows [B] of the mixture, [B,L]: tokens int64, mask and answer bool; 1 or 0, [B]."""
        texts = [self._texts(int(row)) for row in rows]
        tokens, mask, answer = (np.stack(column) for column in zip(*map(self._write, texts), strict=True))
        length = mask.shape[1] if self._keep_length else int(mask.sum(1).max())
        counts = np.array([bool(subtask) for _, subtask in texts], np.float32)
        return tokens[:, :length], mask[:, :length], answer[:, :length], counts

    def share(self, rows: np.ndarray) -> float:
        """How much of these rows of the mixture has a label."""
        return float(np.mean([bool(self._texts(int(row))[1]) for row in rows]))

    def text_errors(self, model: PaliGemma, pictures: Pictures, labels: Sequence[Tensor]) -> Tensor:
        """Mean cross entropy of each row's answer, [B]; 0 without one."""
        tokens, mask, answer = labels[:3]
        return model.text_errors(tokens, mask, answer, pictures)

    def score(self, answers: np.ndarray, rows: np.ndarray) -> float:
        """Mean of the errors [n] of the rows that have a label; NaN where none has."""
        counts = np.array([bool(self._texts(int(row))[1]) for row in rows])
        return float(answers[counts].mean()) if counts.any() else float("nan")

    def _texts(self, row: int) -> tuple[str, str]:
        part, local = self._mixture.at(row)
        return texts_of(part.data, local)

    def _write(self, texts: tuple[str, str]) -> Written:
        if texts not in self._written:
            tokenizer = self._mixture.parts[0].spec.tokenizer
            self._written[texts] = tokenizer.encode_subtask_answer(self._config, *texts)
        return self._written[texts]


def texts_of(data: TrainingData, row: int) -> tuple[str, str]:
    """The task of a row and its subtask, "" for none."""
    label = -1 if data.label is None else int(data.label[row])
    return data.prompts[data.episode[row]], data.labels[label] if label >= 0 else ""


def check_subtasks(recipe: Recipe, config: ModelConfig, parts: Sequence[Part]) -> None:
    """RecipeError where the recipe wants the subtask's text to be learned, and model, data or `trainable` forbid it."""
    stages = [stage for stage in recipe.stages if stage.auxiliary.get(SUBTASK, 0.0) > 0]
    if not stages:
        return
    if not config.is_pi05:
        raise RecipeError(f"auxiliary: subtask: a {config.model} writes no subtasks, only pi05 does: leave it out")
    for stage in stages:
        if stage.trainable == "expert_only":
            raise RecipeError(
                "auxiliary: subtask: nothing of the language model learns with trainable: expert_only: take lora, "
                "frozen_vision or full"
            )
    labelled = [part for part in parts if part.data.label is not None and (part.data.label >= 0).any()]
    if not labelled:
        names = ", ".join(part.name for part in parts)
        raise RecipeError(
            f"auxiliary: subtask: no frame of {names} has a label to learn: write them as rows with `subtask` of an "
            "annotations file, or record /pi0/subtask, and convert again (docs/data.md); or leave `subtask` out"
        )
    for part in labelled:
        for task, subtask in sorted({texts_of(part.data, row) for row in range(part.data.length)}):
            _, mask, _ = part.spec.tokenizer.encode_subtask_answer(config, task, subtask)
            if mask.all():  # the end of an answer would be cut off
                raise RecipeError(
                    f"max_token_len: {task!r} and {subtask!r} take {config.max_token_len} tokens or more: add "
                    f"`model_overrides: {{max_token_len: {2 * config.max_token_len}}}`"
                )


def questions(recipe: Recipe, data: TrainingData) -> list[str]:
    """What a vocabulary made for this data must be able to say besides the prompts."""
    return [*map(subtask_text, data.prompts), *data.labels] if learns_text(recipe) else []
