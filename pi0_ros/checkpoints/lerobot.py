"""What lies around the weights of a LeRobot policy folder, meant as the release that trained it meant it.

config.json, the two processors (`lerobot_steps`) and their statistics, train_config.json. Releases before the
processors (September 2025) keep the statistics as buffers among the weights. What the releases do differently:

    0.3         letterbox at the top and left only
    0.3, 0.4.2  flow times added up instead of multiplied: differences of rounding
    0.4         letterbox before pixels become -1 .. 1, so its bars are -3; pi0.5's state padded in the prompt
    0.5, 0.6    neither; 0.5.1 brought relative actions and their keys
    0.7         not compared with this package: refused until somebody says that it is meant as 0.6
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pi0_ros.base.errors import InputError
from pi0_ros.checkpoints.description import Sidecar
from pi0_ros.checkpoints.folders import read_json
from pi0_ros.checkpoints.lerobot_keys import NEWEST, trained_by_a_newer_one, unknown_keys
from pi0_ros.checkpoints.lerobot_steps import ACTION, PADDED_TO, PREPROCESSOR, STATE, Program, read_program
from pi0_ros.checkpoints.norm_stats import FIELDS, NormStats, Stats
from pi0_ros.checkpoints.safetensors_files import CheckpointError
from pi0_ros.checkpoints.settings import PolicySettings
from pi0_ros.checkpoints.sources import Stored
from pi0_ros.robot import Robot, load_robot
from pi0_ros.tokens.subwords import file_in

CONFIG, ROBOT, TRAINING = "config.json", "robot.yaml", "train_config.json"
OBSERVATION, IMAGES = "observation.", "observation.images."
TYPES = ("pi0", "pi05", "pi0_fast")
RELEASES = ("0.3", "0.4", "0.5")  # the last means 0.5 and 0.6
MODES = {
    "MEAN_STD": "lerobot_mean_std",
    "QUANTILES": "lerobot_quantile",
    "QUANTILE10": "lerobot_quantile10",
    "MIN_MAX": "lerobot_min_max",
    "IDENTITY": "identity",
}
KEPT = ("n_action_steps", "rename_map", "visual_mode", "state_dim", "action_dim")  # in `PolicySettings.lerobot`
_RESIZES = {"0.3": "torch_0.3", "0.4": "torch_0.4", "0.5": "torch"}
_DEFAULT_MODES = {"pi0": "MEAN_STD", "pi05": "QUANTILES", "pi0_fast": "MEAN_STD"}
_FIXED = {  # what the networks and transforms here have built in
    "min_period": 0.004,
    "max_period": 4.0,
    "n_obs_steps": 1,
    "adapt_to_pi_aloha": False,
    "use_delta_joint_actions_aloha": False,  # 0.3: signs and grippers of ALOHA
    "fast_skip_tokens": 128,  # pi0-FAST: which words of the vocabulary stand for actions
    "temperature": 0.0,  # pi0-FAST: the likeliest token, none drawn
}
_MEMORY = ("use_visual_memory", "use_proprioceptive_memory")
_OLD_KEYS = ("resize_imgs_with_padding", "proj_width", "adapt_to_pi_aloha", "attention_implementation")  # of 0.3 only


def read_lerobot(folder: Path, model: str, old_statistics: Mapping[str, Stored], release: str | None = None) -> Sidecar:
    """Read all that lies around the weights.

    `model` is what the weights are, `old_statistics` those among them. `release` (one of RELEASES) says which LeRobot
    trained it; None: what the files tell.
    """
    path = folder / CONFIG
    config = read_json(path) if path.is_file() else {}
    _check_config(path, config, model)
    program = read_program(folder, model)
    features = {**(config.get("input_features") or {}), **(config.get("output_features") or {})}
    dims = {key: _dim(path, features, key) for key in (STATE, ACTION)}
    if program is None:
        modes = {"STATE": _DEFAULT_MODES[model], "ACTION": _DEFAULT_MODES[model]} | _modes(config)
        buffers = _buffers(old_statistics)
        state, action, kinds = _stats(folder, STATE, buffers), _stats(folder, ACTION, buffers), modes
        if modes.get("VISUAL", "IDENTITY") != "IDENTITY" and (state or action):
            raise CheckpointError(
                f"{path}: it scales pictures by statistics ({modes['VISUAL']}); that cannot be done here"
            )
    else:
        state, action = _stats(folder, STATE, program.state_stats), _stats(folder, ACTION, program.action_stats)
        kinds = {"STATE": program.state_mode, "ACTION": program.action_mode}
    for kind in ("STATE", "ACTION"):
        if kinds[kind] not in MODES:
            raise CheckpointError(f"{folder}: normalization {kinds[kind]!r} of {kind} is none of {', '.join(MODES)}")
    known = state is not None or action is not None
    # LeRobot leaves what has no statistics as it is; where none are shipped at all they are still to come.
    ours = [
        "identity" if known and stats is None else MODES[kinds[kind]]
        for kind, stats in (("STATE", state), ("ACTION", action))
    ]
    dims = {
        STATE: dims[STATE] or (state.dim if state else None),
        ACTION: dims[ACTION] or (action.dim if action else None),
    }
    relative, names = _relative(config, program, dims[ACTION])
    trained_by = release or _release(folder, config, program, known)
    if trained_by == "0.3" and model != "pi0":
        raise CheckpointError(f"{folder}: LeRobot 0.3 had pi0 alone, this is a {model}")
    padded = trained_by == "0.4" and model == "pi05"
    if padded and (width := config.get("max_state_dim", PADDED_TO)) != PADDED_TO:
        raise CheckpointError(
            f"{path}: max_state_dim is {width}, and LeRobot 0.4, which trained it, pads the state in the prompt to "
            f"{width} numbers when it trains and to {PADDED_TO} when it runs: nobody knows which is meant"
        )
    try:
        settings = PolicySettings(
            state_normalization=ours[0],
            action_normalization=ours[1],
            num_steps=_count(path, config, "num_inference_steps") or _count(path, config, "num_steps") or 10,
            prompt_format="lerobot",
            image_resize=_RESIZES[trained_by or "0.5"],
            times_summed=trained_by == "0.3" or (trained_by == "0.4" and "use_peft" not in config),
            pad_state_text=padded,
            relative_actions=relative if known else None,  # a base model without statistics is still to be fine-tuned
            action_names=names,
            lerobot=_kept(path, config, program, dims) or None,
            rtc_trained_max_delay=_count(path, config, "rtc_training_max_delay"),
        )
    except InputError as error:
        raise CheckpointError(f"{path}: {error}") from None
    return Sidecar(
        settings=settings,
        stated=_sizes(path, config, program, features, model) | ({"state_dim": PADDED_TO} if padded else {}),
        norm_stats=NormStats(state or Stats(), action or Stats()) if known else None,
        robot=_robot(folder),
        tokenizer_path=_tokenizer(folder, program),
        state_dim=dims[STATE],
        action_dim=dims[ACTION],
        undecided="" if trained_by else _undecided(folder, model),
    )


def _release(folder: Path, config: Mapping[str, Any], program: Program | None, known: bool) -> str | None:
    """Which LeRobot trained it, as far as it matters: one of RELEASES, None where nothing tells."""
    if program is None and (known or any(key in config for key in _OLD_KEYS)):
        return "0.3"
    trainer = read_json(folder / TRAINING) if (folder / TRAINING).is_file() else None
    if trainer is not None and trained_by_a_newer_one(trainer):
        return None
    if not known:
        return "0.5"  # a base model: it was converted, not trained, and is meant as openpi means it
    if "use_relative_actions" in config or (program is not None and program.relative is not None):
        return "0.5"
    if trainer is not None:
        return "0.5" if "cudnn_deterministic" in trainer else "0.4"
    return None


def _kept(
    path: Path, config: Mapping[str, Any], program: Program | None, dims: Mapping[str, int | None]
) -> dict[str, Any]:
    """What means nothing here but would be lost to LeRobot: values that are not its defaults."""
    found: dict[str, Any] = {
        "n_action_steps": _count(path, config, "n_action_steps"),
        "rename_map": dict(program.rename) if program is not None else {},
        "visual_mode": program.visual_mode if program is not None and program.visual_mode != "IDENTITY" else "",
        "state_dim": dims[STATE],
        "action_dim": dims[ACTION],
    }
    return {key: value for key, value in found.items() if value}


def _undecided(folder: Path, model: str) -> str:
    paths = shlex.join([str(folder), str(folder.with_name(f"{folder.name}-pi0_ros"))])
    convert = f"pi0 checkpoint convert {paths} --to pi0_ros --lerobot-release"
    if (folder / TRAINING).is_file():
        return (
            f"{folder}: its {TRAINING} is that of LeRobot 0.7 or later; this package was compared with LeRobot 0.3.3 "
            f"to {NEWEST}. Every key and step of it is known here; to take it as LeRobot 0.6 means it, convert it: `"
            f"{convert} 0.5`"
        )
    text = ", and 0.4 pads the state in the prompt" if model == "pi05" else ""
    return (
        f"{folder}: nothing in it tells whether LeRobot 0.4 or 0.5.0 trained it, and they show the model different "
        f"inputs: of pictures that are not square 0.4 makes the bars -3, 0.5 makes them -1{text}. Put the "
        f"{TRAINING} of its training beside {CONFIG}, or convert it once: `{convert} 0.4`, or 0.5"
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
    if strange := unknown_keys(config):
        raise CheckpointError(
            f"{path}: LeRobot up to {NEWEST} has no key {', '.join(map(repr, strange))} there, so a newer one (or "
            "another program) wrote it and what it changes is not known here; if it concerns training alone, take it "
            "out of a copy of the file"
        )
    for key in _MEMORY:
        if config.get(key):
            raise CheckpointError(f"{path}: '{key}' is on; models with memory of past observations cannot be read")


def _check_kinds(path: Path, content: Mapping[str, Any], **kinds: type) -> None:
    for key, kind in kinds.items():
        if not isinstance(content.get(key) or kind(), kind):
            raise CheckpointError(f"{path}: '{key}' is {content[key]!r}, expected a {kind.__name__}")


def _buffers(statistics: Mapping[str, Stored]) -> dict[str, np.ndarray]:
    """The statistics that old files keep among the weights: `normalize_inputs.buffer_observation_state.mean`."""
    wanted = {"normalize_inputs.buffer_observation_state": STATE, "unnormalize_outputs.buffer_action": ACTION}
    found = {}
    for name, (file, stored) in statistics.items():
        feature, _, field = name.removeprefix("model.").rpartition(".")
        if feature in wanted:
            found[f"{wanted[feature]}.{field}"] = file.numbers(stored)
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
    path: Path, config: Mapping[str, Any], program: Program | None, features: Mapping[str, Any], model: str
) -> dict[str, Any]:
    """The sizes that files say, with the keys of ModelConfig."""
    stated: dict[str, Any] = {"discrete_state_input": model != "pi0"}  # there is no choice
    for theirs, ours in (("chunk_size", "action_horizon"), ("max_action_dim", "action_dim")):
        if theirs in config:
            stated[ours] = config[theirs]
    length = program.max_token_len if program is not None else None
    if length or "tokenizer_max_length" in config:
        stated["max_token_len"] = length or config["tokenizer_max_length"]
    images = [key for key, value in features.items() if isinstance(value, Mapping) and value.get("type") == "VISUAL"]
    images += [f"{IMAGES}empty_camera_{i}" for i in range(_count(path, config, "empty_cameras"))]
    if model == "pi0" and "max_state_dim" in config:
        stated["state_dim"] = config["max_state_dim"]
    if images:
        stated["cameras"] = list(dict.fromkeys(slot_of(path, key) for key in images))
    for key in ("image_resolution", "resize_imgs_with_padding"):
        if size := config.get(key):
            stated["vision"] = {"image_size": _shape(path, key, size)[0]}
        elif key in config:
            raise CheckpointError(f"{path}: '{key}' is {config[key]!r}: pictures that are not resized cannot be read")
    return stated


def slot_of(path: Path, feature: str) -> str:
    """`observation.images.cam_high` -> `cam_high`; other names stay whole, so that no two become one."""
    short = feature.removeprefix(IMAGES)
    if not feature.startswith(OBSERVATION) or not short:
        raise CheckpointError(
            f"{path}: a camera is called {feature!r}; only names that begin with {OBSERVATION} are read"
        )
    return feature if short.startswith(OBSERVATION) else short


def feature_of(slot: str) -> str:
    """The inverse of `slot_of`."""
    return slot if slot.startswith(OBSERVATION) else f"{IMAGES}{slot}"


def _relative(
    config: Mapping[str, Any], program: Program | None, action_dim: int | None
) -> tuple[tuple[bool, ...] | None, tuple[str, ...] | None]:
    """Which action dimensions are relative to the state, and what they are called; None where nothing says it.

    A dimension stays absolute when its name contains an excluded word; without names every dimension is relative.
    """
    enabled: Any
    excluded: Any
    names: Any
    if program is not None and program.relative is not None:
        enabled, excluded, names = program.relative
    else:
        keys = ("use_relative_actions", "relative_exclude_joints", "action_feature_names")
        enabled, excluded, names = (config.get(key) for key in keys)
        if program is not None and enabled is not None:
            enabled = False  # LeRobot does what the processors say, and these have no such step
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


def _tokenizer(folder: Path, program: Program | None) -> Path | None:
    """The tokenizer that the folder ships, if it does."""
    name = program.tokenizer if program is not None else None
    if name and not (folder / name).exists():
        raise CheckpointError(
            f"{folder / PREPROCESSOR}: its tokenizer {folder / name} is missing; copy the whole folder"
        )
    return (file_in(folder / name) if name else None) or file_in(folder)
