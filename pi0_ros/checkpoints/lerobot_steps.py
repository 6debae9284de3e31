"""LeRobot's two processors, read as the programs that they are.

A pre-processor turns observations into what the model gets, a post-processor the model's answer into actions. LeRobot
runs their steps one after the other, whatever they are. Here each step is followed in that order: its effect is one
that `PolicySettings` can say, or the checkpoint is refused, naming file and step. What is refused and why: a step that
is not known, one with a key that is not known, one at a place where it does something else, one that is missed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from pi0_ros.checkpoints.folders import read_json
from pi0_ros.checkpoints.safetensors_files import CheckpointError, SafetensorsFile

PREPROCESSOR, POSTPROCESSOR = "policy_preprocessor.json", "policy_postprocessor.json"
STATE, ACTION = "observation.state", "action"
MODES = ("MEAN_STD", "QUANTILES", "QUANTILE10", "MIN_MAX", "IDENTITY")
EPSILON = 1e-8
PADDED_TO = 32  # LeRobot 0.4 pads the state in the prompt to this many numbers, whatever it was trained with

# The names of the steps that are followed here, and the keys that LeRobot writes for each.
_BATCH, _DEVICE, _RENAME = "to_batch_processor", "device_processor", "rename_observations_processor"
_NEWLINE, _OTHER_NEWLINE = "pi0_new_line_processor", "smolvla_new_line_processor"  # the same under two names
_TEXT = {
    "pi05": "pi05_prepare_state_tokenizer_processor_step",
    "pi0_fast": "pi0_fast_prepare_state_tokenizer_processor_step",
}
_TOKENS, _ACTION_TOKENS = "tokenizer_processor", "action_tokenizer_processor"
_NORMALIZE, _UNNORMALIZE = "normalizer_processor", "unnormalizer_processor"
_RELATIVE, _ABSOLUTE = "relative_actions_processor", "absolute_actions_processor"
_ALIASES = {"delta_actions_processor": _RELATIVE}  # its name in 0.5.1, for the same step
_TEXT_KEYS = {"max_state_dim", "task_key", "include_state_in_prompt"}
_NORM_KEYS = {"eps", "features", "norm_map", "normalize_observation_keys"}
_KEYS: Mapping[str, set[str]] = {
    _BATCH: set(),
    _DEVICE: {"device", "float_dtype"},
    _RENAME: {"rename_map"},
    _NEWLINE: set(),
    _OTHER_NEWLINE: set(),
    _TEXT["pi05"]: _TEXT_KEYS,
    _TEXT["pi0_fast"]: _TEXT_KEYS,
    _TOKENS: {"tokenizer_name", "max_length", "task_key", "padding_side", "padding", "truncation"},
    _ACTION_TOKENS: {
        *("action_tokenizer_name", "trust_remote_code", "max_action_tokens", "fast_skip_tokens"),
        "paligemma_tokenizer_name",
    },
    _NORMALIZE: _NORM_KEYS,
    _UNNORMALIZE: _NORM_KEYS,
    _RELATIVE: {"enabled", "exclude_joints", "action_names"},
    _ABSOLUTE: {"enabled"},
}
_KINDS: Mapping[str, type] = {
    **dict.fromkeys(("features", "norm_map", "rename_map"), dict),
    **dict.fromkeys(("exclude_joints", "action_names", "normalize_observation_keys"), list),
    **dict.fromkeys(("enabled", "include_state_in_prompt", "truncation"), bool),
    **dict.fromkeys(("max_length", "max_state_dim"), int),
    **dict.fromkeys(("tokenizer_name", "task_key", "padding_side", "padding"), str),
}
_TOKENIZER_SETTINGS = {"task_key": "task", "padding_side": "right", "padding": "max_length", "truncation": True}
_MAY_REPEAT = (_BATCH, _DEVICE)


@dataclass(frozen=True)
class Step:
    """One step of a processor: its name in LeRobot's registry, its config and its statistics, if any."""

    file: Path
    index: int
    name: str
    config: Mapping[str, Any]
    stats: Mapping[str, np.ndarray]  # such as "action.mean" -> float64
    artifacts: Mapping[str, str]

    def refuse(self, why: str) -> NoReturn:
        """Raise the CheckpointError that names file, place and step."""
        raise CheckpointError(f"{self.file}: step {self.index}, {self.name!r}, {why}")


@dataclass(frozen=True)
class Program:
    """What both processors do to observations and actions."""

    state_mode: str = "IDENTITY"  # one of MODES: how the state is normalised
    action_mode: str = "IDENTITY"  # how the model's actions are un-normalised
    visual_mode: str = "IDENTITY"  # what is said for pictures; it does nothing, there are no statistics for it
    state_stats: Mapping[str, np.ndarray] = field(default_factory=dict)  # "observation.state.mean" -> float64
    action_stats: Mapping[str, np.ndarray] = field(default_factory=dict)
    relative: tuple[bool, tuple[str, ...], tuple[str, ...] | None] | None = None
    # enabled, words of what stays absolute, names of all actions; None: made before LeRobot had relative actions
    rename: Mapping[str, str] = field(default_factory=dict)  # observation as the robot calls it -> as the policy does
    max_token_len: int | None = None
    tokenizer: str | None = None  # the folder of the tokenizer beside the processors


def read_program(folder: Path, model: str) -> Program | None:
    """Follow both processors of a `model`; None where the folder has none (LeRobot before September 2025)."""
    files = [folder / PREPROCESSOR, folder / POSTPROCESSOR]
    there = [file for file in files if file.is_file()]
    if not there:
        return None
    if len(there) == 1:
        missing = next(file for file in files if file not in there)
        raise CheckpointError(f"{missing}: it is missing, but {there[0].name} is there: copy the whole folder")
    run = _Run(model)
    for file, known in zip(files, (run.before(), run.after()), strict=True):
        done: set[str] = set()
        for step in _read_steps(file):
            if step.name not in known:
                where = "of a pre-processor" if file == files[0] else "of a post-processor"
                why = "is not known" if step.name not in _KEYS else f"is no step {where} of a {model}"
                step.refuse(f"{why}: what it does would be left out. LeRobot runs this checkpoint, this package cannot")
            if step.name in done and step.name not in _MAY_REPEAT:
                step.refuse("stands there twice: it would be done twice")
            done.add(step.name)
            known[step.name](step)
        if file == files[0]:
            run.check_before(file)
    return run.result()


class _Run:
    """The state of the walk through the steps. Each method is one step of LeRobot."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._newline = self._text = self._tokens = False
        self._tokenizer: Step | None = None
        self._normalizer: Step | None = None
        self._unnormalizer: Step | None = None
        self._relative: Step | None = None
        self._relative_first = False  # before the normaliser
        self._absolute: Step | None = None
        self._rename: Mapping[str, str] = {}

    def before(self) -> Mapping[str, Callable[[Step], None]]:
        """The steps of a pre-processor."""
        steps: dict[str, Callable[[Step], None]] = {_BATCH: self._nothing, _DEVICE: self._device}
        steps |= {_RENAME: self._renames, _TOKENS: self._tokenizes}
        steps |= {_NORMALIZE: self._normalizes, _RELATIVE: self._caches}
        if self._model == "pi0":
            return steps | {_NEWLINE: self._ends_line, _OTHER_NEWLINE: self._ends_line}
        if self._model == "pi0_fast":
            steps[_ACTION_TOKENS] = self._nothing  # for training
        return steps | {_TEXT[self._model]: self._writes_state}

    def after(self) -> Mapping[str, Callable[[Step], None]]:
        """The steps of a post-processor."""
        steps: dict[str, Callable[[Step], None]] = {_BATCH: self._nothing, _DEVICE: self._device}
        return steps | {_UNNORMALIZE: self._unnormalizes, _ABSOLUTE: self._adds_state}

    # --- each step ---

    def _nothing(self, step: Step) -> None:
        pass

    def _device(self, step: Step) -> None:
        if (dtype := step.config.get("float_dtype")) not in (None, "float32"):
            step.refuse(f"turns all numbers into {dtype}; only float32 can be followed here")

    def _renames(self, step: Step) -> None:
        self._rename = {str(key): str(value) for key, value in step.config.get("rename_map", {}).items()}
        if {STATE, ACTION} & {*self._rename, *self._rename.values()}:
            step.refuse(f"renames {STATE} or {ACTION}; only cameras may be renamed")
        if self._normalizer is not None and any(self._rename):
            step.refuse("renames after the normaliser; it must come before")

    def _ends_line(self, step: Step) -> None:
        if self._tokens:
            step.refuse("comes after the tokenizer, so the prompt has no newline; these models need one")
        self._newline = True

    def _writes_state(self, step: Step) -> None:
        if self._normalizer is None:
            step.refuse(
                "comes before the normaliser, so the prompt would hold the raw state; these models need it scaled"
            )
        if self._tokens:
            step.refuse("comes after the tokenizer, so the prompt would not hold the state")
        if step.config.get("task_key", "task") != "task":
            step.refuse(f"reads the prompt from {step.config['task_key']!r}; only 'task' can be followed here")
        if not step.config.get("include_state_in_prompt", True):
            step.refuse("has include_state_in_prompt off: a pi0.5 that gets no state cannot be run as LeRobot's here")
        self._text = True

    def _tokenizes(self, step: Step) -> None:
        for key, wanted in _TOKENIZER_SETTINGS.items():
            if step.config.get(key, wanted) != wanted:
                step.refuse(f"has {key} {step.config[key]!r}; only {wanted!r} can be followed here")
        if self._model == "pi0" and not self._newline:
            step.refuse(f"has no {_NEWLINE!r} before it, so the prompt has no newline; these models need one")
        if self._model != "pi0" and not self._text:
            step.refuse(f"has no {_TEXT[self._model]!r} before it, so the prompt would not hold the state")
        self._tokens, self._tokenizer = True, step

    def _normalizes(self, step: Step) -> None:
        _check_norm(step)
        self._normalizer = step

    def _caches(self, step: Step) -> None:
        self._relative, self._relative_first = step, self._normalizer is None

    def _unnormalizes(self, step: Step) -> None:
        _check_norm(step)
        if self._absolute is not None and self._absolute.config.get("enabled"):
            step.refuse(f"comes after {_ABSOLUTE!r}: the state would be added before the actions are in its units")
        self._unnormalizer = step

    def _adds_state(self, step: Step) -> None:
        self._absolute = step
        absolute = bool(step.config.get("enabled"))
        if self._relative is None:
            if absolute:
                step.refuse(f"has no {_RELATIVE!r} in {PREPROCESSOR} whose state it could add")
            return
        if absolute and not self._relative_first and self._mode_of_state() != "IDENTITY":
            self._relative.refuse("comes after the normaliser, so that the scaled state would be added to the actions")

    # --- what it comes to ---

    def check_before(self, file: Path) -> None:
        """CheckpointError where the pre-processor ends without what every model needs."""
        if self._tokenizer is None:
            raise CheckpointError(f"{file}: there is no {_TOKENS!r} in it, so the model would get no prompt")

    def _mode_of_state(self) -> str:
        step = self._normalizer
        if step is None:
            return "IDENTITY"
        feature = step.config.get("features", {}).get(STATE)
        chosen = step.config.get("normalize_observation_keys")
        if feature is None or (chosen is not None and STATE not in chosen) or not _stats_of(step, STATE):
            return "IDENTITY"
        return str(step.config.get("norm_map", {}).get(feature["type"], "IDENTITY"))

    def result(self) -> Program:
        """All that was found on the way."""
        before, after, tokenizer = self._normalizer, self._unnormalizer, self._tokenizer
        if (before is None or not before.stats) and (after is None or not after.stats):  # a base model
            modes = [
                str(step.config.get("norm_map", {}).get(kind, "IDENTITY")) if step is not None else "IDENTITY"
                for step, kind in ((before, "STATE"), (after, "ACTION"))
            ]
        else:
            scaled = after is not None and _stats_of(after, ACTION)
            mode = str(after.config.get("norm_map", {}).get("ACTION", "IDENTITY")) if after is not None else "IDENTITY"
            modes = [self._mode_of_state(), mode if scaled else "IDENTITY"]
        return Program(
            state_mode=modes[0],
            action_mode=modes[1],
            visual_mode=str(before.config.get("norm_map", {}).get("VISUAL", "IDENTITY")) if before else "IDENTITY",
            state_stats=before.stats if before is not None else {},
            action_stats=after.stats if after is not None else {},
            relative=self._relative_actions(),
            rename=self._rename,
            max_token_len=tokenizer.config.get("max_length") if tokenizer is not None else None,
            tokenizer=tokenizer.artifacts.get("tokenizer_name") if tokenizer is not None else None,
        )

    def _relative_actions(self) -> tuple[bool, tuple[str, ...], tuple[str, ...] | None] | None:
        if self._relative is None:
            return None
        enabled = bool(self._relative.config.get("enabled"))
        added = self._absolute is not None and bool(self._absolute.config.get("enabled"))
        if enabled and not added:
            where = self._absolute or self._relative
            where.refuse("does not add the state back: the actions would stay offsets from it. Both must be enabled")
        if added and not enabled and self._absolute is not None:
            self._absolute.refuse(
                "adds the state to actions that are not relative to it. Both must be enabled, or none"
            )
        names = self._relative.config.get("action_names")
        words = tuple(str(word) for word in self._relative.config.get("exclude_joints") or ())
        return enabled, words, tuple(map(str, names)) if names else None


def _stats_of(step: Step, feature: str) -> dict[str, np.ndarray]:
    return {key: value for key, value in step.stats.items() if key.rpartition(".")[0] == feature}


def _check_norm(step: Step) -> None:
    """Refuse what the formulas here do not do: another epsilon, unknown modes, pictures with statistics."""
    if step.config.get("eps", EPSILON) != EPSILON:
        step.refuse(f"has eps {step.config['eps']}, only {EPSILON} can be read")
    modes = step.config.get("norm_map", {})
    for kind, mode in modes.items():
        if mode not in MODES:
            step.refuse(f"has normalization {mode!r} of {kind}, which is none of {', '.join(MODES)}")
    features, chosen = step.config.get("features", {}), step.config.get("normalize_observation_keys")
    for name, feature in features.items():
        if not isinstance(feature, dict) or not isinstance(feature.get("type"), str):
            step.refuse(f"has a feature {name!r} without a type")
        if step.name != _NORMALIZE or feature["type"] != "VISUAL" or (chosen is not None and name not in chosen):
            continue
        if modes.get("VISUAL", "IDENTITY") != "IDENTITY" and _stats_of(step, name):
            step.refuse(f"scales the pictures of {name} by statistics ({modes['VISUAL']}); that cannot be done here")


def _read_steps(path: Path) -> list[Step]:
    """Read a processor's steps with their state files."""
    content = read_json(path)
    entries = content.get("steps") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise CheckpointError(f"{path}: 'steps' must be a list of mappings")
    found = []
    for index, entry in enumerate(entries):
        for key, kind in {"config": dict, "artifacts": dict, "state_file": str}.items():
            if not isinstance(entry.get(key) or kind(), kind):
                raise CheckpointError(f"{path}: '{key}' is {entry[key]!r}, expected a {kind.__name__}")
        name = str(entry.get("registry_name", entry.get("class", "")))
        name = _ALIASES.get(name, name)
        config = {key: value for key, value in (entry.get("config") or {}).items() if value is not None}
        artifacts = entry.get("artifacts") or {}
        if not isinstance(artifacts.get("tokenizer_name") or "", str):
            raise CheckpointError(f"{path}: 'tokenizer_name' is {artifacts['tokenizer_name']!r}, expected a str")
        stats = {}
        if state_file := entry.get("state_file"):
            file = SafetensorsFile(path.parent / state_file)
            stats = {key: file.numbers(key) for key in file.tensors}
        step = Step(path, index, name, config, stats, artifacts)
        _check_keys(step)
        found.append(step)
    return found


def _check_keys(step: Step) -> None:
    if step.name not in _KEYS:
        return  # refused as a whole
    if unknown := sorted(set(step.config) - _KEYS[step.name]):
        step.refuse(f"has the unknown key(s) {', '.join(unknown)}: what they do would be left out")
    for key, value in step.config.items():
        kind = _KINDS.get(key, object)
        if not isinstance(value, kind) or (isinstance(value, int) and kind is int and (value is True or value < 1)):
            step.refuse(f"has {key} {value!r}, expected a {kind.__name__}")
