"""The training config (`config/train/*.yaml`) as typed, strict dataclasses.

A run is a list of stages. Each stage has its own steps, batch, learning rate and loss weights; the next one starts from
its averaged weights. Every key is described beside its field; unknown keys, wrong types and values out of range give
one error that names file and key.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import yaml


class RecipeError(ValueError):
    """A training config that cannot be used; the message names the file, the key and what to write."""


@dataclass(frozen=True)
class Stage:
    """One stage of a run. Defaults are the published ones of pi0 (fine-tuning a large model)."""

    name: str  # shown in the log and in the curve
    steps: int = 30000
    batch: int = 32  # frames per step
    draws: int = 1  # (noise, time) draws per frame; they share one pass through images and prompt
    lr: float = 2.5e-5  # peak learning rate, reached after `warmup` steps
    final_lr: float = 2.5e-6  # reached along a cosine at the last step
    warmup: int = 1000
    ema: float = 0.99  # decay of the averaged weights; these are what is evaluated and shipped
    weight_decay: float = 1e-10
    flow: float = 1.0  # weight of the flow matching loss; 0 leaves the action expert out
    grounding: float = 0.0  # weight of the grounding loss (see grounding.py); 0 leaves its head out
    gripper: float = 1.0  # weight of the gripper dimensions in the flow loss
    state_noise: float = 0.0  # standard deviation added to the normalised state
    brightness: float = 0.0  # images times 1 - b .. 1 + b
    shift: int = 0  # images moved by up to so many pixels
    event_weight: float = 1.0  # frames within `event_window_s` of a gripper event are drawn so many times as often
    event_window_s: float = 0.7
    after_weight: float = 1.0  # the same for frames after the last closing of their episode
    freeze: tuple[str, ...] = ()  # parameters whose name starts with one of these stay as they are


@dataclass(frozen=True)
class Recipe:
    """A whole training run."""

    stages: tuple[Stage, ...]
    model: str = "demo"  # preset of the network's sizes; ignored where `init` is given
    model_overrides: dict[str, Any] = dataclasses.field(default_factory=dict)  # keys that differ from the preset
    init: str | None = None  # checkpoint folder to start from (its sizes and tokenizer too)
    tokenizer: str | None = None  # SentencePiece model; none: that of `init`, else made from the dataset's prompts
    normalization: str = "mean_std"  # "mean_std" | "quantile"
    num_steps: int = 10  # Euler steps of the finished policy
    rtc_max_delay: int = 0  # > 0: learn to continue a prefix of up to so many given actions (rtc.mode trained)
    prompts: str = "task"  # "task" | "subtask": a frame's label, where it has one, instead of its episode's prompt
    skip_idle: bool = False  # start no sample where the dataset's column `idle` is true
    seed: int = 0
    device: str = "auto"  # "auto" | "cpu" | "cuda"
    threads: int = 0  # torch threads; 0 leaves torch's choice
    compile: bool = False  # torch.compile (needs a C++ compiler); pays off from some thousand steps on
    precision: str = "auto"  # "float32" | "bfloat16" (autocast) | "auto": bfloat16 where the processor computes in it
    clip: float = 1.0  # limit of the gradient's global norm
    beta1: float = 0.9  # AdamW: decay of the mean gradient
    beta2: float = 0.95  # and of the mean squared gradient
    held_out: float = 0.05  # fraction of the episodes of each prompt kept for validation
    validate_every: int = 250
    validation_frames: int = 256
    log_every: int = 25
    save_every: int = 500


def load_recipe(path: Path | str) -> Recipe:
    """Read a training config; RecipeError names file, key and remedy."""
    try:
        content = yaml.safe_load(Path(path).read_text())
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: not YAML: {error}") from None
    return recipe_from_dict(content, str(path))


def recipe_from_dict(content: Any, origin: str) -> Recipe:
    """Check and convert a parsed config; `origin` (a file name) stands in every error."""
    if not isinstance(content, dict) or not isinstance(content.get("stages"), list) or not content["stages"]:
        raise RecipeError(f"{origin}: 'stages' must be a list with at least one stage, such as `- {{name: flow}}`")
    stages = tuple(_build(Stage, entry, f"{origin}: stages[{i}]") for i, entry in enumerate(content["stages"]))
    recipe: Recipe = _build(Recipe, {**content, "stages": stages}, origin)
    checks = [
        (recipe.normalization in ("mean_std", "quantile"), "normalization: expected mean_std or quantile"),
        (recipe.precision in ("auto", "float32", "bfloat16"), "precision: expected auto, float32 or bfloat16"),
        (recipe.prompts in ("task", "subtask"), "prompts: expected task or subtask"),
        (recipe.rtc_max_delay >= 0, "rtc_max_delay: expected 0 or more actions"),
        (0 <= recipe.held_out < 1, "held_out: expected 0 <= fraction < 1"),
        (min(recipe.validate_every, recipe.log_every, recipe.save_every) > 0, "*_every: expected at least 1"),
    ]
    for stage in stages:
        checks += [
            (
                min(stage.steps, stage.batch, stage.draws) > 0,
                f"stage {stage.name}: steps, batch, draws: expected at least 1",
            ),
            (stage.flow > 0 or stage.grounding > 0, f"stage {stage.name}: flow and grounding are 0: nothing to learn"),
            (stage.lr > 0 and stage.warmup >= 0, f"stage {stage.name}: expected lr > 0 and warmup >= 0"),
            (0 <= stage.ema < 1, f"stage {stage.name}: ema: expected 0 <= decay < 1"),
        ]
    for fine, message in checks:
        if not fine:
            raise RecipeError(f"{origin}: {message}")
    return recipe


def _fits(value: Any, hint: Any) -> bool:
    """Whether a YAML value is of a field's type; True is no int."""
    allowed = [get_origin(part) or part for part in (get_args(hint) if isinstance(hint, UnionType) else (hint,))]
    return type(value) in allowed


def _build(kind: Any, entry: Any, origin: str) -> Any:
    """A dataclass from a mapping whose values have the fields' types (int where float is meant is fine)."""
    if not isinstance(entry, dict):
        raise RecipeError(f"{origin}: expected a mapping, got {entry!r}")
    hints = get_type_hints(kind)
    if unknown := [str(key) for key in entry if key not in hints]:
        raise RecipeError(f"{origin}: unknown key(s) {', '.join(unknown)}; known: {', '.join(hints)}")
    required = [f.name for f in dataclasses.fields(kind) if f.default is f.default_factory is dataclasses.MISSING]
    if missing := [key for key in required if key not in entry]:
        raise RecipeError(f"{origin}: missing key(s) {', '.join(missing)}")
    values: dict[str, Any] = {}
    for key, value in entry.items():
        hint = hints[key]
        default = next(f.default for f in dataclasses.fields(kind) if f.name == key)
        if hint is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
            try:
                values[key] = float(value)  # YAML reads 1e-3 as text
            except ValueError:
                raise RecipeError(f"{origin}: {key}: expected a number, got {value!r}") from None
        elif isinstance(default, tuple) and isinstance(value, (list, tuple)):
            values[key] = tuple(value)
        elif _fits(value, hint):
            values[key] = value
        else:
            raise RecipeError(f"{origin}: {key}: expected {getattr(hint, '__name__', hint)}, got {value!r}")
    return kind(**values)
