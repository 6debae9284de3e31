"""What stays as it is during a run: the data and its split, sizes, transforms, device, auxiliary losses."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pi0_ros.base.strict_yaml import nearest
from pi0_ros.checkpoints.load import describe_checkpoint
from pi0_ros.checkpoints.norm_stats import NormStats, load_norm_stats, normalize
from pi0_ros.checkpoints.safetensors_files import CheckpointError
from pi0_ros.checkpoints.settings import PolicySettings
from pi0_ros.checkpoints.spec import PolicySpec
from pi0_ros.model.config import ModelConfig
from pi0_ros.policy.transforms import settled
from pi0_ros.robot import Robot, units
from pi0_ros.tokens.subwords import file_on_this_machine
from pi0_ros.tokens.tokenizer import Tokenizer
from pi0_ros.training.fingerprints import dataset_fingerprint, episode_fingerprint, robot_fingerprint
from pi0_ros.training.loader import TrainingData, split_episodes
from pi0_ros.training.not_finite import check_data
from pi0_ros.training.objective import AuxiliaryLoss, AuxiliaryLosses
from pi0_ros.training.optimizer import computes_bfloat16
from pi0_ros.training.recipe import Recipe, RecipeError
from pi0_ros.training.statistics import NORM_STATS_PATH
from pi0_ros.training.trackers import check_trackers
from pi0_ros.training.vocabulary import make_tokenizer
from pi0_ros.training.world import ALONE, World


@dataclass(frozen=True)
class Run:
    """A run's constants. train_rows, held_out_rows: rows of the data, int64; notes: for config.json."""

    recipe: Recipe
    data: TrainingData
    spec: PolicySpec
    tokenizer_path: Path
    device: torch.device
    autocast: bool
    train_rows: np.ndarray
    held_out_rows: np.ndarray
    auxiliary: Mapping[str, AuxiliaryLoss]
    notes: Mapping[str, Any]
    world: World = ALONE

    def steps_before(self, stage: int) -> int:
        """Steps of all stages before this one."""
        return sum(stage.steps for stage in self.recipe.stages[:stage])


def prepare(
    data: TrainingData,
    robot: Robot,
    norm_stats: NormStats,
    recipe: Recipe,
    out: Path,
    notes: Mapping[str, Any],
    auxiliary: AuxiliaryLosses,
    world: World = ALONE,
) -> Run:
    """Check and fix everything that does not change; RecipeError where the recipe does not fit the data."""
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    automatic = f"cuda:{world.local}" if torch.cuda.is_available() else "cpu"
    _check_world(recipe, world)
    if world.first:
        check_trackers(recipe.track)
    device = torch.device(automatic if recipe.device == "auto" else recipe.device)
    config = model_config(recipe)
    if recipe.rtc_max_delay >= config.action_horizon:
        raise RecipeError(f"rtc_max_delay is {recipe.rtc_max_delay}, the chunk has {config.action_horizon} actions")
    tokenizer_path = _tokenizer(recipe, config, data, out, world)
    settings = policy_settings(recipe, config, data.fps)
    check_data(data)
    fingerprints = [episode_fingerprint(data.state[start:stop], data.action[start:stop]) for start, stop in data.spans]
    lengths = [stop - start for start, stop in data.spans]
    train_episodes, held_out = split_episodes(data.prompts, lengths, recipe.held_out, recipe.seed)
    train_rows = data.rows_of(train_episodes)
    if recipe.skip_idle and data.idle is not None:
        train_rows = train_rows[~data.idle[train_rows]]
    wanted = {name for stage in recipe.stages for name, weight in stage.auxiliary.items() if weight > 0}
    for name in sorted(wanted - set(auxiliary)):
        raise RecipeError(f"auxiliary: no loss {name!r}{nearest(name, auxiliary)}; known: {', '.join(auxiliary)}")
    torch.manual_seed(recipe.seed)  # of the heads
    return Run(
        recipe,
        data,
        PolicySpec(config, settings, robot, norm_stats, Tokenizer.load(tokenizer_path)),
        tokenizer_path,
        device,
        computes_bfloat16(device) if recipe.precision == "auto" else recipe.precision == "bfloat16",
        train_rows,
        data.rows_of(held_out),
        {name: auxiliary[name](data, robot, train_rows, config) for name in sorted(wanted)},
        {
            **notes,
            "recipe": dataclasses.asdict(recipe),
            "episodes": len(data.prompts),
            "frames": data.length,
            "held_out_episodes": held_out,
            "held_out_fingerprints": [fingerprints[i] for i in held_out],
            "dataset_fingerprint": dataset_fingerprint(fingerprints),
            "robot_fingerprint": robot_fingerprint(robot),
            "torch": torch.__version__,
        },
        world,
    )


def _check_world(recipe: Recipe, world: World) -> None:
    """RecipeError where the processes cannot share the work."""
    for stage in recipe.stages:
        if stage.batch % world.size:
            raise RecipeError(f"batch: {stage.batch} frames cannot be shared by {world.size} processes: change one")
    if world.size > 1 and recipe.compile and recipe.parallel == "fsdp":
        raise RecipeError("compile: not with shards on several processes; leave it, or set parallel=ddp")


def model_config(recipe: Recipe) -> ModelConfig:
    """The network's sizes: those of `init`, else of the preset, with overrides (of `init`: what its weights allow)."""
    if recipe.init is not None:
        try:
            config = describe_checkpoint(recipe.init, config=recipe.model_overrides).config
        except CheckpointError as error:
            raise RecipeError(f"{error}; `init` (or --init) must name a checkpoint folder to start from") from error
    else:
        config = ModelConfig.from_dict({**ModelConfig.preset(recipe.model).to_dict(), **recipe.model_overrides})
    return config if recipe.save_dtype == "auto" else dataclasses.replace(config, dtype=recipe.save_dtype)


def policy_settings(recipe: Recipe, config: ModelConfig, fps: float) -> PolicySettings:
    """How robot data become model data: as in `init`, where the recipe does not say otherwise."""
    usual = "quantile" if config.is_pi05 else "mean_std"
    settings = PolicySettings(usual, usual)
    if recipe.init is not None:
        settings = describe_checkpoint(recipe.init, config=config).settings
        if "identity" in (settings.state_normalization, settings.action_normalization):
            settings = dataclasses.replace(settings, state_normalization=usual, action_normalization=usual)
    if recipe.normalization != "auto":
        kind = recipe.normalization
        settings = dataclasses.replace(settings, state_normalization=kind, action_normalization=kind)
    return dataclasses.replace(
        settings,
        fps=fps,
        num_steps=recipe.num_steps,
        noise_scale=recipe.noise_scale,
        relative_actions=None,
        action_names=None,
        rtc_trained_max_delay=recipe.rtc_max_delay,
    )


def clipped_state_tokens(run: Run) -> float:
    """Fraction of the state's numbers that pi0.5 cannot tell apart, because they lie outside of -1 .. 1; else 0."""
    config, joints = run.spec.config, len(run.spec.robot.state_names)
    if not (config.is_pi05 and config.discrete_state_input):
        return 0.0
    rows = run.train_rows[:: max(1, len(run.train_rows) // 10_000)]
    state = units.state_to_model(run.spec.robot, settled(run.spec, run.data.state[rows].astype(np.float64)))
    normalized = normalize(state, run.spec.state_stats, run.spec.settings.state_normalization)
    return float((np.abs(normalized[:, :joints]) > 1).mean())


def read_stats(dataset: Path, horizon: int, robot: Robot) -> NormStats:
    """The dataset's statistics; RecipeError where there are none, or they are of other chunks or of another robot."""
    path = dataset / NORM_STATS_PATH
    if not path.is_file():
        raise RecipeError(f"{path}: no statistics; make them with `pi0 stats {dataset} --horizon {horizon}`")
    content = json.loads(path.read_text())
    made_for = content.get("horizon", horizon)
    if made_for != horizon:
        raise RecipeError(
            f"{path}: statistics of chunks of {made_for} actions, the model predicts {horizon}; make them again with "
            f"`pi0 stats {dataset} --horizon {horizon}`"
        )
    if content.get("robot_fingerprint", robot_fingerprint(robot)) != robot_fingerprint(robot):
        raise RecipeError(
            f"{path}: statistics of another robot file (joints, units or the meaning of actions differ from "
            f"'{robot.name}'); make them again with `pi0 stats {dataset} --horizon {horizon}`"
        )
    return load_norm_stats(path)


def _tokenizer(recipe: Recipe, config: ModelConfig, data: TrainingData, out: Path, world: World) -> Path:
    if recipe.tokenizer is not None:
        return Path(recipe.tokenizer)
    if recipe.init is not None:
        return describe_checkpoint(recipe.init, config=config).tokenizer_path or file_on_this_machine()
    path = out / "tokenizer.model"
    return make_tokenizer(data.texts, path, config.vocab_size) if world.first else path
