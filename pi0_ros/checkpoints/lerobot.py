"""What lies around the weights of a LeRobot policy folder: config.json, the two processors, their statistics.

Releases before the processors (September 2025) keep the statistics as buffers among the weights.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pi0_ros.base.errors import InputError
from pi0_ros.checkpoints.description import Sidecar
from pi0_ros.checkpoints.folders import read_json
from pi0_ros.checkpoints.norm_stats import FIELDS, NormStats, Stats
from pi0_ros.checkpoints.safetensors_files import CheckpointError, SafetensorsFile
from pi0_ros.checkpoints.settings import PolicySettings
from pi0_ros.checkpoints.weights import Stored
from pi0_ros.robot import Robot, load_robot
from pi0_ros.tokens.subwords import file_in

logger = logging.getLogger(__name__)

CONFIG, ROBOT = "config.json", "robot.yaml"
PREPROCESSOR, POSTPROCESSOR = "policy_preprocessor.json", "policy_postprocessor.json"
STATE, ACTION, IMAGES = "observation.state", "action", "observation.images."
TYPES = ("pi0", "pi05", "pi0_fast")
MODES = {
    "MEAN_STD": "lerobot_mean_std",
    "QUANTILES": "lerobot_quantile",
    "QUANTILE10": "lerobot_quantile10",
    "MIN_MAX": "lerobot_min_max",
    "IDENTITY": "identity",
}
_EPSILON = 1e-8
_DEFAULT_MODES = {"pi0": "MEAN_STD", "pi05": "QUANTILES", "pi0_fast": "MEAN_STD"}
_FIXED = {"min_period": 0.004, "max_period": 4.0, "n_obs_steps": 1}  # what the networks here have built in
_MEMORY = ("use_visual_memory", "use_proprioceptive_memory")
_STEPS = {
    *("rename_observations_processor", "to_batch_processor", "device_processor", "tokenizer_processor"),
    *("normalizer_processor", "unnormalizer_processor", "relative_actions_processor", "absolute_actions_processor"),
    *("pi0_new_line_processor", "pi05_prepare_state_tokenizer_processor_step", "action_tokenizer_processor"),
    "pi0_fast_prepare_state_tokenizer_processor_step",
}


@dataclass(frozen=True)
class Step:
    """One step of a processor: its name in LeRobot's registry, its config and its statistics, if any."""

    name: str
    config: Mapping[str, Any]
    stats: Mapping[str, np.ndarray]  # such as "action.mean" -> float64
    artifacts: Mapping[str, str]


def read_lerobot(folder: Path, model: str, old_statistics: Mapping[str, Stored]) -> Sidecar:
    """Read config.json and the processors; `model` is what the weights are, the statistics those among them."""
    path = folder / CONFIG
    config = read_json(path) if path.is_file() else {}
    _check_config(path, config, model)
    steps = {step.name: step for file in (POSTPROCESSOR, PREPROCESSOR) for step in _read_processor(folder / file)}
    modes = {"STATE": _DEFAULT_MODES[model], "ACTION": _DEFAULT_MODES[model]} | _modes(config)
    features = {**(config.get("input_features") or {}), **(config.get("output_features") or {})}
    dims = {key: _dim(path, features, key) for key in (STATE, ACTION)}

    stats: dict[str, Stats | None] = {}
    buffers = _buffers(old_statistics)
    for feature, kind, name in ((STATE, "STATE", "normalizer_processor"), (ACTION, "ACTION", "unnormalizer_processor")):
        step = steps.get(name)
        if step is not None:
            modes[kind] = str((step.config.get("norm_map") or modes).get(kind, "IDENTITY"))
            _check_epsilon(folder, step)
        found = _stats(folder, feature, step.stats if step is not None else buffers)
        stats[feature], dims[feature] = found, dims[feature] or (found.dim if found else None)
        if modes[kind] not in MODES:
            raise CheckpointError(f"{folder}: normalization {modes[kind]!r} of {kind} is none of {', '.join(MODES)}")
    known = any(stats.values())
    # LeRobot leaves what has no statistics as it is; where none are shipped at all they are still to come.
    kinds = {
        feature: "identity" if known and stats[feature] is None else MODES[modes[kind]]
        for feature, kind in ((STATE, "STATE"), (ACTION, "ACTION"))
    }
    tokenizer = steps.get("tokenizer_processor")
    relative, names = _relative(config, steps.get("relative_actions_processor"), dims[ACTION])
    num_steps = _count(path, config, "num_inference_steps") or _count(path, config, "num_steps") or 10
    trained_max_delay = _count(path, config, "rtc_training_max_delay")
    try:
        settings = PolicySettings(
            state_normalization=kinds[STATE],
            action_normalization=kinds[ACTION],
            num_steps=num_steps,
            prompt_format="lerobot",
            image_resize="torch",
            pad_state_text=model == "pi05" and bool(steps) and "relative_actions_processor" not in steps,
            relative_actions=relative if known else None,  # a base model without statistics is still to be fine-tuned
            action_names=names,
            rtc_trained_max_delay=trained_max_delay,
        )
    except InputError as error:
        raise CheckpointError(f"{path}: {error}") from None
    return Sidecar(
        settings=settings,
        stated={**_sizes(path, config, tokenizer, features), "discrete_state_input": model != "pi0"},  # no choice there
        norm_stats=NormStats(stats[STATE] or Stats(), stats[ACTION] or Stats()) if known else None,
        robot=_robot(folder),
        tokenizer_path=_tokenizer(folder, tokenizer),
        state_dim=dims[STATE],
        action_dim=dims[ACTION],
    )


def _check_config(path: Path, config: Mapping[str, Any], model: str) -> None:
    """Refuse what this package would compute differently."""
    lists = dict.fromkeys(("relative_exclude_joints", "action_feature_names"), list)
    _check_kinds(path, config, input_features=dict, output_features=dict, **lists)
    if config and config.get("type") not in TYPES:
        raise CheckpointError(f"{path}: a policy of type {config.get('type')!r}, this package reads {', '.join(TYPES)}")
    if config and config["type"] != model:
        raise CheckpointError(f"{path}: 'type' is {config['type']!r}, but the tensors are those of a {model} model")
    for key, value in _FIXED.items():
        if config.get(key, value) != value:
            raise CheckpointError(f"{path}: '{key}' is {config[key]!r}, this package's models have {value} built in")
    for key in _MEMORY:
        if config.get(key):
            raise CheckpointError(f"{path}: '{key}' is on; models with memory of past observations cannot be read")


def _read_processor(path: Path) -> Iterable[Step]:
    """Read a processor's steps with their state files; a missing processor file has none."""
    if not path.is_file():
        return []
    content = read_json(path)
    steps = content.get("steps")
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise CheckpointError(f"{path}: 'steps' must be a list of mappings")
    found = []
    for entry in steps:
        _check_step(path, entry)
        name = str(entry.get("registry_name", entry.get("class", "")))
        if name not in _STEPS:
            logger.warning("%s: the step %r is unknown and will not be done here", path, name)
        stats = {}
        if state_file := entry.get("state_file"):
            file = SafetensorsFile(path.parent / state_file)
            stats = {key: _array(file, key) for key in file.tensors}
        found.append(Step(name, entry.get("config") or {}, stats, entry.get("artifacts") or {}))
    return found


def _check_step(path: Path, entry: Mapping[str, Any]) -> None:
    """CheckpointError where a key that is read here holds another kind of value than LeRobot writes."""
    _check_kinds(path, entry, config=dict, artifacts=dict, state_file=str)
    _check_kinds(path, entry.get("artifacts") or {}, tokenizer_name=str)
    _check_kinds(path, entry.get("config") or {}, norm_map=dict, exclude_joints=list, action_names=list)


def _check_kinds(path: Path, content: Mapping[str, Any], **kinds: type) -> None:
    for key, kind in kinds.items():
        if not isinstance(content.get(key) or kind(), kind):
            raise CheckpointError(f"{path}: '{key}' is {content[key]!r}, expected a {kind.__name__}")


def _array(file: SafetensorsFile, name: str) -> np.ndarray:
    pieces = [piece.double() for piece in file.pieces(name)]
    return torch.cat(pieces).numpy() if pieces else np.zeros(0)


def _buffers(statistics: Mapping[str, Stored]) -> dict[str, np.ndarray]:
    """The statistics that old files keep among the weights: `normalize_inputs.buffer_observation_state.mean`."""
    found = {}
    for name, (file, stored) in statistics.items():
        feature, _, field = name.partition(".buffer_")[2].rpartition(".")
        key = {"observation_state": STATE, "action": ACTION}.get(feature)
        if key is not None:
            found[f"{key}.{field}"] = _array(file, stored)
    return found


def _stats(folder: Path, feature: str, arrays: Mapping[str, np.ndarray]) -> Stats | None:
    """The statistics of one feature, None without any. Old files fill those they never had with infinities."""
    found = {field: arrays[f"{feature}.{field}"] for field in FIELDS if f"{feature}.{field}" in arrays}
    found = {field: array for field, array in found.items() if not np.isinf(array).any()}
    try:
        return Stats(**found) if found else None
    except InputError as error:
        raise CheckpointError(f"{folder}: statistics of {feature}: {error}") from error


def _modes(config: Mapping[str, Any]) -> dict[str, str]:
    mapping = config.get("normalization_mapping")
    return {str(kind): str(mode) for kind, mode in mapping.items()} if isinstance(mapping, Mapping) else {}


def _check_epsilon(folder: Path, step: Step) -> None:
    if step.config.get("eps", _EPSILON) != _EPSILON:
        raise CheckpointError(f"{folder}: {step.name} has eps {step.config['eps']}, only {_EPSILON} can be read")


def _count(path: Path, config: Mapping[str, Any], key: str) -> int:
    """A whole number from 0 on; 0 where there is none."""
    value = config.get(key) or 0
    if type(value) is not int or not 0 <= value < 2**31:
        raise CheckpointError(f"{path}: '{key}' is {value!r}, expected a whole number")
    return value


def _shape(path: Path, key: str, value: Any) -> list[int]:
    """A list of sizes."""
    if not isinstance(value, list) or not all(type(size) is int and 0 < size < 2**31 for size in value):
        raise CheckpointError(f"{path}: '{key}' is {value!r}, expected a list of sizes")
    return value


def _dim(path: Path, features: Mapping[str, Any], key: str) -> int | None:
    shape = features[key].get("shape") if isinstance(features.get(key), Mapping) else None
    return _shape(path, f"{key}.shape", shape)[0] if shape else None


def _sizes(
    path: Path, config: Mapping[str, Any], tokenizer: Step | None, features: Mapping[str, Any]
) -> dict[str, Any]:
    """The sizes that files say, with the keys of ModelConfig."""
    stated: dict[str, Any] = {}
    for theirs, ours in (("chunk_size", "action_horizon"), ("max_action_dim", "action_dim")):
        if theirs in config:
            stated[ours] = config[theirs]
    length = tokenizer.config.get("max_length") if tokenizer is not None else None
    if length or "tokenizer_max_length" in config:
        stated["max_token_len"] = length or config["tokenizer_max_length"]
    images = [key for key, value in features.items() if isinstance(value, Mapping) and value.get("type") == "VISUAL"]
    images += [f"{IMAGES}empty_camera_{i}" for i in range(_count(path, config, "empty_cameras"))]
    if images:
        stated["cameras"] = list(dict.fromkeys(slot_of(key) for key in images))
    if resolution := config.get("image_resolution"):
        stated["vision"] = {"image_size": _shape(path, "image_resolution", resolution)[0]}
    return stated


def slot_of(feature: str) -> str:
    """`observation.images.cam_high` -> `cam_high`."""
    return feature.removeprefix(IMAGES) if feature.startswith(IMAGES) else feature.rpartition(".")[2]


def _relative(
    config: Mapping[str, Any], step: Step | None, action_dim: int | None
) -> tuple[tuple[bool, ...] | None, tuple[str, ...] | None]:
    """Which action dimensions are relative to the state, and what they are called; None where nothing says it.

    A dimension stays absolute when its name contains an excluded word; without names every dimension is relative.
    """
    if step is not None:
        enabled, excluded, names = (step.config.get(key) for key in ("enabled", "exclude_joints", "action_names"))
    else:
        keys = ("use_relative_actions", "relative_exclude_joints", "action_feature_names")
        enabled, excluded, names = (config.get(key) for key in keys)
    called = tuple(map(str, names)) if names else None
    if enabled is None or action_dim is None:
        return None, called
    absolute = absolute_names([str(word) for word in excluded or ()], called or ())[:action_dim]
    absolute += [False] * (action_dim - len(absolute))
    return tuple(bool(enabled) and not stays for stays in absolute), called


def absolute_names(words: Sequence[str], names: Sequence[str]) -> list[bool]:
    """Tell for each name whether it contains one of the words, whatever the case: that action stays absolute."""
    return [any(word.lower() in name.lower() for word in words if word) for name in names]


def _robot(folder: Path) -> Robot | None:
    path = folder / ROBOT
    if not path.is_file():
        return None
    try:
        return load_robot(path)
    except InputError as error:  # names the file
        raise CheckpointError(str(error)) from error


def _tokenizer(folder: Path, step: Step | None) -> Path | None:
    """The tokenizer that the folder ships, if it does."""
    name = step.artifacts.get("tokenizer_name") if step is not None else None
    if name and not (folder / name).exists():
        raise CheckpointError(
            f"{folder / PREPROCESSOR}: its tokenizer {folder / name} is missing; copy the whole folder"
        )
    return (file_in(folder / name) if name else None) or file_in(folder)
