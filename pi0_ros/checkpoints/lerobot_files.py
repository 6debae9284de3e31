"""What LeRobot 0.6 reads beside the weights: config.json, both processors, their statistics and the tokenizer.

LeRobot's config parser refuses keys that it does not know, so only those of its own classes are written.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pi0_ros.checkpoints.description import Description
from pi0_ros.checkpoints.folders import write_json
from pi0_ros.checkpoints.lerobot import CONFIG, MODES, absolute_names, feature_of
from pi0_ros.checkpoints.lerobot_steps import ACTION, POSTPROCESSOR, PREPROCESSOR, STATE
from pi0_ros.checkpoints.norm_stats import Stats
from pi0_ros.checkpoints.renormalize import renormalize
from pi0_ros.checkpoints.safetensors_files import CheckpointError, TensorInfo, write_safetensors
from pi0_ros.tokens.subwords import HUGGING_FACE, SENTENCEPIECE

TOKENIZER = "tokenizer"
_HUB_TOKENIZER = "google/paligemma-3b-pt-224"
_TOKENIZER_FILES = (
    SENTENCEPIECE,
    HUGGING_FACE,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
_TOKENIZER_CONFIG = {
    "tokenizer_class": "GemmaTokenizer",
    "add_bos_token": True,
    "add_eos_token": False,
    "bos_token": "<bos>",
    "eos_token": "<eos>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
}
_MODE_OF = {ours: mode for mode, ours in MODES.items()} | {"mean_std": "MEAN_STD", "quantile": "QUANTILES"}
_EMPTY_CAMERA = "empty_camera_"


def write_lerobot_files(description: Description, folder: Path) -> None:
    """Write all but the weights of a LeRobot policy folder; CheckpointError where LeRobot cannot say it."""
    config, settings = description.config, description.settings
    if config.is_pi05 and not config.discrete_state_input:
        raise CheckpointError(
            f"{description.path}: this pi0.5 model gets no state, but LeRobot's always writes it into the prompt"
        )
    if settings.image_resize in ("torch_0.3", "torch_0.4") or settings.pad_state_text:
        raise CheckpointError(
            f"{description.path}: LeRobot 0.3 or 0.4 trained it, and LeRobot 0.6 shows a model other pictures and "
            "prompts than those: it would act differently there. --lerobot-release 0.5 takes it as 0.6 does"
        )
    if settings.noise_scale != 1:
        raise CheckpointError(
            f"{description.path}: `noise_scale` of its config.json is {settings.noise_scale:g}, and LeRobot takes "
            "all of the noise: it would act differently there. Set it to 1 if that is wanted"
        )
    features, kept = _features(description), settings.lerobot or {}
    modes = {
        "VISUAL": kept.get("visual_mode", "IDENTITY"),
        "STATE": _MODE_OF[settings.state_normalization],
        "ACTION": _MODE_OF[settings.action_normalization],
    }
    relative = _relative(description)
    tokenizer = _copy_tokenizer(description.tokenizer_path, folder)
    write_json(folder / CONFIG, _config(description, features, modes, relative))

    stats = _statistics(description)
    normalizer = {"eps": 1e-8, "features": features, "norm_map": modes}
    unnormalizer = {**normalizer, "features": {ACTION: features[ACTION]}}
    relative_step = ("relative_actions_processor", relative)
    tokenizer_step = ("tokenizer_processor", _tokenizer_config(config.max_token_len, tokenizer))
    device_step = ("device_processor", {"device": "cpu", "float_dtype": None})
    steps: list[tuple[str, dict[str, Any]]] = [
        ("rename_observations_processor", {"rename_map": kept.get("rename_map", {})}),
        ("to_batch_processor", {}),
    ]
    if config.model == "pi0":
        steps += [("pi0_new_line_processor", {}), tokenizer_step, device_step, relative_step]
        steps += [("normalizer_processor", normalizer)]
    else:
        text = "pi05_prepare_state_tokenizer_processor_step"
        if config.is_fast:
            text = "pi0_fast_prepare_state_tokenizer_processor_step"
        steps += [relative_step, ("normalizer_processor", normalizer), (text, {}), tokenizer_step, device_step]
    _write_processor(folder / PREPROCESSOR, steps, stats, tokenizer)
    after = [("unnormalizer_processor", unnormalizer), ("absolute_actions_processor", {"enabled": relative["enabled"]})]
    _write_processor(folder / POSTPROCESSOR, [*after, device_step], stats, tokenizer)


def _features(description: Description) -> dict[str, dict[str, Any]]:
    config = description.config
    size = config.vision.image_size
    images = {feature_of(slot): {"type": "VISUAL", "shape": [3, size, size]} for slot in config.cameras}
    state, action = _dims(description)
    return {**images, STATE: {"type": "STATE", "shape": [state]}, ACTION: {"type": "ACTION", "shape": [action]}}


def _dims(description: Description) -> tuple[int, int]:
    """Numbers of state and action: the robot's, where it is known; openpi's base models pad their statistics."""
    if (robot := description.robot) is not None:
        return len(robot.state_joints), len(robot.action_joints)
    width = description.config.action_dim
    return description.state_dim or width, description.action_dim or width


def _config(
    description: Description, features: Mapping[str, Any], modes: Mapping[str, str], relative: Mapping[str, Any]
) -> dict[str, Any]:
    config, settings = description.config, description.settings
    kept = settings.lerobot or {}
    content = {
        "type": config.model,
        "input_features": {key: value for key, value in features.items() if key != ACTION},
        "output_features": {ACTION: features[ACTION]},
        "device": None,
        "paligemma_variant": "gemma_2b",
        "action_expert_variant": "gemma_300m",
        "dtype": config.dtype,
        "chunk_size": config.action_horizon,
        "n_action_steps": min(kept.get("n_action_steps", config.action_horizon), config.action_horizon),
        "max_state_dim": config.state_width,
        "max_action_dim": config.action_dim,
        "use_relative_actions": relative["enabled"],
        "relative_exclude_joints": relative["exclude_joints"],
        "action_feature_names": relative["action_names"],
        "image_resolution": [config.vision.image_size] * 2,
        "empty_cameras": sum(slot.startswith(_EMPTY_CAMERA) for slot in config.cameras),
        "normalization_mapping": dict(modes),
        "tokenizer_max_length": config.max_token_len,
    }
    if not config.is_fast:
        content |= {"n_obs_steps": 1, "num_inference_steps": settings.num_steps}
    if config.is_pi05:
        content["rtc_training_max_delay"] = settings.rtc_trained_max_delay
    return content


def _relative(description: Description) -> dict[str, Any]:
    """Say which actions are relative the way LeRobot does: by words in the names of those that are not."""
    settings, robot = description.settings, description.robot
    dim = _dims(description)[1]
    mask = settings.relative_actions
    if mask is None:
        mask = tuple(map(bool, robot.relative_mask)) if robot is not None else (False,) * dim
    names = settings.action_names or ([joint.name for joint in robot.action_joints] if robot is not None else None)
    said = {"enabled": any(mask), "exclude_joints": ["gripper"], "action_names": list(names) if names else None}
    if not any(mask):
        return said
    called = list(names or ()) + [f"dim_{index:02d}" for index in range(len(names or ()), len(mask))]
    wanted = [name for name, moves in zip(called, mask, strict=False) if not moves]
    for words in ([], ["gripper"], wanted):
        if absolute_names(words, called) == [not moves for moves in mask]:
            return {**said, "exclude_joints": words, "action_names": called if words or names else None}
    raise CheckpointError(
        f"{description.path}: LeRobot says which actions are relative by words in their names, and {', '.join(wanted)} "
        f"cannot be told from the others among {', '.join(called)}; rename them in the robot file"
    )


def _statistics(description: Description) -> dict[str, np.ndarray]:
    if description.robot is not None and description.robot.has_places:
        raise CheckpointError(
            f"{description.path}: its robot's joints have a model_index, LeRobot's files put joints in their order: "
            "keep it in this package's format"
        )
    if description.norm_stats is None:
        return {}
    settings, (state, action) = description.settings, _dims(description)
    found: dict[str, np.ndarray] = {}
    for feature, stats, kind, dim in (
        (STATE, description.norm_stats.state, settings.state_normalization, state),
        (ACTION, description.norm_stats.actions, settings.action_normalization, action),
    ):
        said: Stats = renormalize(stats, kind, MODES[_MODE_OF[kind]], dim)
        found |= {f"{feature}.{field}": array[:dim].astype(np.float32) for field, array in said.present().items()}
    return found


def _tokenizer_config(length: int, tokenizer: bool) -> dict[str, Any]:
    return {
        "max_length": length,
        "task_key": "task",
        "padding_side": "right",
        "padding": "max_length",
        "truncation": True,
        "tokenizer_name": TOKENIZER if tokenizer else _HUB_TOKENIZER,
    }


def _copy_tokenizer(path: Path | None, folder: Path) -> bool:
    """Copy the tokenizer into `tokenizer/`; a bare SentencePiece model gets the config that makes it loadable."""
    if path is None:
        return False
    copies = tokenizer_files(path)
    (folder / TOKENIZER).mkdir()
    for name, file in copies.items():
        shutil.copyfile(file, folder / TOKENIZER / name)
    if "tokenizer_config.json" not in copies:
        write_json(folder / TOKENIZER / "tokenizer_config.json", _TOKENIZER_CONFIG)
    return True


def tokenizer_files(path: Path) -> dict[str, Path]:
    """Return the files of a tokenizer by their usual names: `path`, and what belongs to it where that has its name."""
    if path.name in _TOKENIZER_FILES:
        return {name: path.with_name(name) for name in _TOKENIZER_FILES if path.with_name(name).is_file()}
    return {SENTENCEPIECE if path.suffix == ".model" else HUGGING_FACE: path}


def _write_processor(
    path: Path, steps: Sequence[tuple[str, dict[str, Any]]], stats: Mapping[str, np.ndarray], tokenizer: bool
) -> None:
    """Write a processor; the step that normalises keeps all statistics in a file of its own."""
    from torch import from_numpy

    entries = []
    for index, (name, config) in enumerate(steps):
        entry: dict[str, Any] = {"registry_name": name, "config": config}
        if name.endswith("normalizer_processor") and stats:
            entry["state_file"] = f"{path.stem}_step_{index}_{name}.safetensors"
            infos = {key: TensorInfo(array.shape, "float32") for key, array in stats.items()}
            write_safetensors(path.with_name(entry["state_file"]), infos, lambda key: [from_numpy(stats[key])])
        if name == "tokenizer_processor" and tokenizer:
            entry["artifacts"] = {"tokenizer_name": TOKENIZER}
        entries.append(entry)
    write_json(path, {"name": path.stem, "steps": entries})
