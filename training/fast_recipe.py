"""What a training config may say of pi0-FAST, which writes its actions as text and has neither flow nor expert."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pi0_ros.model.config import ModelConfig
from pi0_ros.robot import Robot
from pi0_ros.training.loader import prompt_masks
from pi0_ros.training.mixture import Mixture
from pi0_ros.training.recipe import Recipe, RecipeError, Stage

SAMPLES = 128  # frames of each dataset whose answers are written before training


def check_fast(recipe: Recipe, config: ModelConfig, robots: Sequence[Robot]) -> None:
    """RecipeError for a key that means nothing here, and for robots whose actions are not the model's."""
    if recipe.init is None and recipe.tokenizer is None:
        raise RecipeError("tokenizer: a pi0_fast without `init` needs a SentencePiece model: it writes actions as text")
    for stage in recipe.stages:
        if stage.trainable == "expert_only":
            raise RecipeError("trainable: a pi0_fast has no action expert: take full, frozen_vision or lora")
        if not stage.flow or any(stage.auxiliary.values()):
            raise RecipeError("auxiliary: a pi0_fast learns its actions alone: leave `flow` at 1, and this out")
        _check_usual(stage, {"draws": 1, "gripper": 1.0, "state_noise": 0.0})
    _check_usual(recipe, {"rtc_max_delay": 0, "noise_scale": 1.0, "loss_dims": "all"})
    for robot in robots:
        places = robot.action_places.tolist()
        if places != list(range(config.action_dim)):
            raise RecipeError(
                f"model_overrides: the actions of '{robot.name}' take {len(places)} dimensions, the model writes "
                f"{config.action_dim}, all of them: add `model_overrides: {{action_dim: {len(places)}}}`"
            )


def _check_usual(section: Recipe | Stage, usual: Mapping[str, object]) -> None:
    for name, value in usual.items():
        if (found := getattr(section, name)) != value:
            raise RecipeError(f"{name}: {found} says nothing to a pi0_fast, which writes its actions as text: {value}")


def check_answers(mixture: Mixture) -> None:
    """RecipeError where some of the answers have no room behind their question."""
    for part in mixture.parts:
        rows = np.unique(np.linspace(0, part.data.length - 1, SAMPLES).astype(int))
        mask, _ = prompt_masks(part.data, part.spec, rows, mixture.tokens)
        full = mask.all(1)  # an answer that just fits is as rare as it is harmless
        if full.any():
            length = part.spec.config.max_token_len
            raise RecipeError(
                f"max_token_len: {int(full.sum())} of {len(rows)} frames of {part.name} have a prompt and actions of "
                f"{length} tokens or more: add `model_overrides: {{max_token_len: {2 * length}}}`, or predict fewer "
                "actions"
            )
