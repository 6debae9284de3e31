"""The training config (`config/train/*.yaml`) as typed, strict dataclasses.

A run is a list of stages. Each stage has its own steps, batch, learning rate and loss weights; the next one starts from
its averaged weights. A key of a stage that stands at the top of the file holds for every stage that does not give it
itself; a file without `stages` has one stage. Unknown keys, wrong types and values out of range give one error that
names file, line and key.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import yaml

from pi0_ros.base.errors import InputError
from pi0_ros.base.share import config_path
from pi0_ros.base.strict_yaml import Place, Section, WrongValueError, choice_at, nearest, number_at, read

T = TypeVar("T")


SUBTASK = "subtask"  # the auxiliary loss of writing a frame's label


class RecipeError(InputError):
    """A training config that cannot be used; the message names the file, the key and what to write."""


def key(default: T, text: str) -> T:
    """A key of the config: its default and what docs/recipes.md says about it."""
    if isinstance(default, dict):
        made: T = field(default_factory=lambda: dict(default), metadata={"text": text})  # type: ignore[assignment]
        return made
    return field(default=default, metadata={"text": text})


@dataclass(frozen=True)
class Stage:
    """One stage of a run. Defaults are the published ones of pi0 (fine-tuning a large model)."""

    name: str = key("train", "shown in the log and in the curve")
    steps: int = key(30000, "optimiser steps")
    batch: int = key(32, "frames per step")
    draws: int = key(1, "(noise, time) draws per frame; they share one pass through images and prompt")
    lr: float = key(2.5e-5, "peak learning rate, reached after `warmup` steps")
    final_lr: float = key(2.5e-6, "learning rate at the end of the cosine")
    warmup: int = key(1000, "steps until the peak")
    schedule: Literal["openpi", "lerobot"] = key(
        "openpi", "lerobot: the cosine begins at step 0, and shorter runs shrink warm-up and cosine"
    )
    decay_steps: int = key(0, "step at which the cosine ends, whatever `steps` is; 0: `steps`")
    ema: float = key(0.99, "decay of the averaged weights, which are evaluated and shipped; 0: none are kept")
    weight_decay: float = key(1e-10, "AdamW's weight decay")
    flow: float = key(1.0, "weight of the flow matching loss; 0 leaves the action expert out")
    auxiliary: dict[str, float] = key(
        {}, "weights of other losses by name: `{subtask: 0.1}` (pi0.5 writes a frame's label), `{grounding: 0.1}`"
    )
    gripper: float = key(1.0, "weight of the gripper dimensions in the flow loss")
    state_noise: float = key(0.0, "standard deviation of noise on the normalised state")
    brightness: float = key(0.0, "images times 1 - b .. 1 + b")
    shift: int = key(0, "images moved by up to so many pixels")
    event_weight: float = key(1.0, "frames within `event_window_s` of a gripper event are drawn so many times as often")
    event_window_s: float = key(0.7, "seconds before and after a gripper event")
    after_weight: float = key(1.0, "the same for frames after the last closing of their episode")
    takeover_weight: float = key(
        1.0, "the same for frames that a person led instead of the policy (the dataset's column `takeover`)"
    )
    trainable: Literal["full", "expert_only", "frozen_vision", "lora"] = key(
        "full",
        "what learns: everything; the action expert and its projections; all but the vision tower; factors (see lora)",
    )
    freeze: tuple[str, ...] = key((), "parameters whose name starts with one of these stay as they are, too")
    micro_batch: int = key(0, "frames that are computed at once, gradients add up to the batch; 0: the whole batch")


@dataclass(frozen=True)
class Lora:
    """Low-rank factors, for stages that are `trainable: lora`. Defaults are openpi's.

    The language model and the expert that have factors are frozen but for these; everything else learns fully (the
    vision tower, projections), unless `freeze` names it.
    """

    style: Literal["openpi", "peft"] = key("openpi", "whose factors; LeRobot uses PEFT's")
    vlm_rank: int = key(16, "rank in the language model; 0: none, it learns fully")
    vlm_alpha: float = key(16.0, "its change counts alpha / rank")
    expert_rank: int = key(32, "rank in the action expert; 0: none, it learns fully")
    expert_alpha: float = key(32.0, "its change counts alpha / rank")
    attention: bool = key(True, "factors in the attention's projections")
    feed_forward: bool = key(True, "factors in the feed-forward")


@dataclass(frozen=True)
class Recipe:
    """A whole training run."""

    stages: tuple[Stage, ...]
    model: str = key("demo", "preset of the network's sizes; ignored where `init` is given")
    model_overrides: dict[str, Any] = key({}, "sizes that differ from the preset or from `init`")
    init: str | None = key(None, "checkpoint folder to start from (its sizes and tokenizer too)")
    tokenizer: str | None = key(None, "SentencePiece model; none: that of `init`, else made from the dataset's prompts")
    normalization: Literal["auto", "mean_std", "quantile"] = key(
        "auto", "how states and actions are normalised; auto: as `init`, else mean_std for pi0 and quantile for pi0.5"
    )
    lora: Lora = field(default=Lora(), metadata={"text": "low-rank factors"})
    recompute: float = key(0.0, "fraction of the layers that keep no activations and compute them again: less memory")
    residual: Literal["float32", "bfloat16"] = key(
        "float32", "activations between the layers of the transformers, with bfloat16 autocast"
    )
    loss_dims: Literal["all", "robot"] = key("all", "flow loss over all dimensions of the model, or over the robot's")
    num_steps: int = key(10, "Euler steps of the finished policy")
    noise_scale: float = key(
        1.0, "of the noise that the finished policy grows a chunk from; 0: of all likely chunks the middle one, calmest"
    )
    rtc_max_delay: int = key(0, "> 0: learn to continue a prefix of up to so many given actions (rtc.mode trained)")
    prompts: Literal["task", "subtask"] = key(
        "task", "subtask: a frame's label, where it has one, instead of its episode's prompt"
    )
    skip_idle: bool = key(False, "start no sample where the dataset's column `idle` is true")
    seed: int = key(0, "of all random numbers")
    device: str = key("auto", "`auto`, `cpu` or `cuda`")
    threads: int = key(0, "torch threads; 0 leaves torch's choice")
    parallel: Literal["fsdp", "ddp"] = key(
        "fsdp", "with several processes (`torchrun`): weights cut into shards, or a whole copy for each"
    )
    compile: bool = key(False, "torch.compile (needs a C++ compiler); pays off from some thousand steps on")
    precision: Literal["auto", "float32", "bfloat16"] = key(
        "auto", "bfloat16: autocast; auto: that where the processor computes in it"
    )
    clip: float = key(1.0, "limit of the gradient's global norm")
    beta1: float = key(0.9, "AdamW: decay of the mean gradient")
    beta2: float = key(0.95, "AdamW: decay of the mean squared gradient")
    held_out: float = key(0.05, "fraction of the frames, in whole episodes, kept for validation")
    validate_every: int = key(250, "steps between validations")
    validation_frames: int = key(256, "held-out frames of a validation")
    log_every: int = key(25, "steps between log lines")
    track: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = key(
        ("tensorboard",), "where numbers go beside progress.csv"
    )
    save_every: int = key(500, "steps between checkpoints")
    keep_period: int = key(0, "checkpoints at multiples of so many steps are kept in checkpoints/; 0: none")
    keep_last: int = key(1, "newest checkpoints that are kept; more than one lie in checkpoints/")
    save_async: bool = key(True, "write checkpoints in the background, from a copy in memory")
    save_dtype: Literal["auto", "float32", "bfloat16"] = key(
        "auto", "of the finished weights; auto: as `init` or preset"
    )


def learns_text(recipe: Recipe) -> bool:
    """Whether some stage learns to write subtasks."""
    return any(stage.auxiliary.get(SUBTASK, 0.0) > 0 for stage in recipe.stages)


STAGE_KEYS = tuple(f.name for f in dataclasses.fields(Stage) if f.name != "name")
RUN_KEYS = tuple(f.name for f in dataclasses.fields(Recipe))
RENAMED = {"grounding": "auxiliary: {grounding: WEIGHT}"}


def load_recipe(source: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a training config by path, or by name from the package's own; `overrides` are `key=value`.

    RecipeError names file, line, key and remedy.
    """
    changes = [_parse_override(text) for text in overrides]
    path = recipe_path(source)
    return read(_text(path), str(path), lambda root: _build(_on_base(root, path), changes), RecipeError)


def recipe_from_dict(content: Any, origin: str) -> Recipe:
    """Check and convert a config given as plain values; `origin` stands in every error."""
    return read(yaml.safe_dump(content), origin, lambda root: _build(root, []), RecipeError)


def recipe_path(source: Path | str) -> Path:
    """The file of a config given by path or by name; RecipeError lists the names."""
    if Path(source).is_file():
        return Path(source)
    known = {path.stem: path for path in sorted(config_path("train").glob("*.yaml"))}
    if str(source) in known:
        return known[str(source)]
    raise RecipeError(
        f"{source}: no such config{nearest(str(source), known)}; give a file, or one of {', '.join(known)}"
    )


def _on_base(root: Any, path: Path) -> Any:
    """The file's mapping over that of the config it names as `base`."""
    if not isinstance(root, dict) or "base" not in root:
        return root
    named = Path(str(root["base"]))
    base = recipe_path(path.parent / named if (path.parent / named).is_file() else named)
    if base.resolve() == path.resolve():
        raise WrongValueError(("base",), "names the file itself")
    below = read(_text(base), str(base), lambda found: _on_base(found, base), RecipeError)
    own = {name: value for name, value in root.items() if name != "base"}
    merged = {**below, **own}
    for name in ("lora", "model_overrides", "auxiliary"):
        if isinstance(below.get(name), dict) and isinstance(own.get(name), dict):
            merged[name] = {**below[name], **own[name]}
    return merged


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read: {error}") from None


def _build(root: Any, changes: Sequence[tuple[tuple[str, ...], Any]]) -> Recipe:
    for keys, value in changes:
        _apply(root, keys, value)
    for name, remedy in RENAMED.items():
        for place, mapping in _mappings(root):
            if name in mapping:
                raise WrongValueError((*place, name), f"is written `{remedy}` now")
    top = Section(root, (), (), (*RUN_KEYS, *STAGE_KEYS))
    common = {name: top.value[name] for name in STAGE_KEYS if name in top.value}
    stages: list[Stage] = []
    if "stages" in top.value:
        for entry, place in top.items("stages"):
            section = Section(entry, place, ("name",), STAGE_KEYS)
            stages.append(_typed(Stage, {**common, **section.value}, place))
            _check_stage(stages[-1], place)
    else:
        stages.append(_typed(Stage, common, ()))
        _check_stage(stages[-1], ())
    run = {name: top.value[name] for name in RUN_KEYS if name in top.value}
    recipe: Recipe = _typed(Recipe, {**run, "stages": tuple(stages)}, ())
    _check_run(recipe)
    return recipe


def _mappings(root: Any) -> list[tuple[Place, Mapping[str, Any]]]:
    """The file's mapping and those of its stages, each with its place."""
    if not isinstance(root, dict):
        return []
    stages = root.get("stages")
    listed = enumerate(stages) if isinstance(stages, list) else ()
    return [((), root), *((("stages", i), entry) for i, entry in listed if isinstance(entry, dict))]


def _check_stage(stage: Stage, place: Place) -> None:
    for name in ("steps", "batch", "draws"):
        _require(getattr(stage, name) > 0, (*place, name), "must be at least 1")
    for name in ("warmup", "decay_steps", "shift", "micro_batch"):
        _require(getattr(stage, name) >= 0, (*place, name), "must be 0 or more")
    _require(stage.lr > 0, (*place, "lr"), "must be above 0")
    _require(0 <= stage.ema < 1, (*place, "ema"), "must be from 0 to below 1")
    _require(
        stage.flow > 0 or any(weight > 0 for weight in stage.auxiliary.values()),
        (*place, "flow"),
        "is 0, and so is every auxiliary loss: nothing to learn",
    )


def _check_run(recipe: Recipe) -> None:
    _require(recipe.rtc_max_delay >= 0, ("rtc_max_delay",), "must be 0 or more actions")
    _require(0 <= recipe.noise_scale <= 1, ("noise_scale",), "must be from 0 to 1")
    _require(0 <= recipe.recompute <= 1, ("recompute",), "must be a fraction from 0 to 1")
    _require(recipe.keep_period >= 0, ("keep_period",), "must be 0 or more steps")
    _require(recipe.keep_last >= 1, ("keep_last",), "must be at least 1")
    _require(min(recipe.lora.vlm_rank, recipe.lora.expert_rank) >= 0, ("lora",), "ranks must be 0 or more")
    lora = [stage.trainable == "lora" for stage in recipe.stages]
    _require(all(lora) or not any(lora), ("trainable",), "lora must hold for every stage or for none")
    factors = max(recipe.lora.vlm_rank, recipe.lora.expert_rank) * (recipe.lora.attention or recipe.lora.feed_forward)
    _require(not any(lora) or factors > 0, ("lora",), "says no factors at all: set vlm_rank or expert_rank")
    _require(0 <= recipe.held_out < 1, ("held_out",), "must be a fraction from 0 to below 1")
    for name in ("validate_every", "log_every", "save_every", "num_steps", "validation_frames"):
        _require(getattr(recipe, name) > 0, (name,), "must be at least 1")
    names = [stage.name for stage in recipe.stages]
    for i, name in enumerate(names):
        _require(name not in names[:i], ("stages", i, "name"), f"{name!r} stands twice: give each stage its own")


def _require(holds: bool, place: Place, message: str) -> None:
    if not holds:
        raise WrongValueError(place, message)


def _typed(kind: type[T], values: Mapping[str, Any], place: Place) -> T:
    """A dataclass from checked keys, each value of the field's type (int where float is meant is fine)."""
    hints = get_type_hints(kind)
    return kind(**{name: _value(value, hints[name], (*place, name)) for name, value in values.items()})


def _value(value: Any, hint: Any, place: Place) -> Any:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return None if value is None else _value(value, inner[0], place)
    if dataclasses.is_dataclass(hint):
        return _typed(cast("type[Any]", hint), Section(value, place, (), [f.name for f in fields(hint)]).value, place)
    if origin is Literal:
        return choice_at(value, place, inner)
    if origin is tuple and isinstance(value, list):
        return tuple(_value(item, inner[0], (*place, i)) for i, item in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {name: _value(item, inner[1], (*place, name)) for name, item in value.items()}
    if hint is float:
        return number_at(value, place)
    if hint is Any or type(value) is hint or (origin is tuple and isinstance(value, tuple)):
        return value
    expected = {int: "a whole number", bool: "true or false", str: "text"}.get(hint) or (
        "a list" if origin is tuple else "a mapping"
    )
    raise WrongValueError(place, f"{value!r} stands where {expected} is needed")


def _parse_override(text: str) -> tuple[tuple[str, ...], Any]:
    """`stages.act.lr=1e-4` -> (("stages", "act", "lr"), 0.0001)."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise RecipeError(f"{text!r}: expected key=value, such as steps=5000")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise RecipeError(f"{text!r}: the value is not YAML: {str(error).splitlines()[0]}") from None
    if isinstance(parsed, str):
        with contextlib.suppress(ValueError):
            parsed = float(parsed)  # YAML reads 1e-4 as text
    return tuple(name.split(".")), parsed


def _apply(root: Any, keys: tuple[str, ...], value: Any) -> None:
    """Set one key of the file; keys of a stage are `stages.NAME.KEY`, where the file has stages."""
    target: Any = root
    place: Place = ()
    if not isinstance(root, dict):
        return
    stages = [entry for entry in root.get("stages") or () if isinstance(entry, dict)]
    named = {str(entry.get("name")): entry for entry in stages}
    if keys[0] == "stages" and len(keys) > 2:
        if keys[1] not in named:
            raise WrongValueError(keys, f"there is no stage {keys[1]!r}; stages are {', '.join(named) or 'none'}")
        target, place, keys = named[keys[1]], keys[:2], keys[2:]
    elif hiding := [name for name, entry in named.items() if keys[0] in entry]:
        wanted = " and ".join(f"stages.{name}.{keys[0]}" for name in hiding)
        raise WrongValueError(keys, f"the stages give it themselves: set {wanted} instead")
    for part in keys[:-1]:
        target, place = target.setdefault(part, {}), (*place, part)
        if not isinstance(target, dict):
            raise WrongValueError(place, f"has no keys to set: {target!r}")
    target[keys[-1]] = value
