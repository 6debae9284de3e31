"""What stays as it is during a run: the data and its split, sizes, transforms, device, auxiliary losses."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pi0_ros.base.strict_yaml import nearest
from pi0_ros.checkpoints.describe import describe_checkpoint
from pi0_ros.checkpoints.norm_stats import normalize
from pi0_ros.checkpoints.safetensors_files import CheckpointError
from pi0_ros.checkpoints.settings import PolicySettings
from pi0_ros.checkpoints.spec import PolicySpec
from pi0_ros.model.config import ModelConfig
from pi0_ros.policy.transforms import settled
from pi0_ros.robot import units
from pi0_ros.tokens.action_tokens import ActionTokens
from pi0_ros.tokens.subwords import file_on_this_machine
from pi0_ros.tokens.tokenizer import Tokenizer
from pi0_ros.training.fast_recipe import check_answers, check_fast
from pi0_ros.training.fingerprints import dataset_fingerprint, episode_fingerprint, robot_fingerprint
from pi0_ros.training.loader import split_episodes
from pi0_ros.training.mixture import Mixture, Part, Source, shares
from pi0_ros.training.not_finite import check_data
from pi0_ros.training.objective import AuxiliaryLoss, AuxiliaryLosses, TextLoss
from pi0_ros.training.optimizer import computes_bfloat16
from pi0_ros.training.recipe import SUBTASK, Recipe, RecipeError, learns_text
from pi0_ros.training.subtask import SubtaskLoss, check_subtasks, questions
from pi0_ros.training.trackers import check_trackers
from pi0_ros.training.vocabulary import make_tokenizer
from pi0_ros.training.world import ALONE, World


@dataclass(frozen=True)
class Run:
    """A run's constants. train_rows, held_out_rows: rows of the mixture, int64; notes: for config.json."""

    recipe: Recipe
    mixture: Mixture
    tokenizer_path: Path
    device: torch.device
    autocast: bool
    train_rows: np.ndarray
    held_out_rows: np.ndarray
    auxiliary: Mapping[str, AuxiliaryLoss | TextLoss]
    notes: Mapping[str, Any]
    world: World = ALONE

    @property
    def spec(self) -> PolicySpec:
        """Of the first part: the robot that the checkpoint itself is for. Sizes and tokenizer are those of all."""
        return self.mixture.parts[0].spec

    def steps_before(self, stage: int) -> int:
        """Steps of all stages before this one."""
        return sum(stage.steps for stage in self.recipe.stages[:stage])


def prepare(
    sources: Sequence[Source],
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
    if config.is_pi05 and config.discrete_state_input and any(stage.state_noise for stage in recipe.stages):
        raise RecipeError("state_noise: this pi0.5 reads the state from its prompt, where no noise goes: leave it at 0")
    if config.is_fast:
        check_fast(recipe, config, [source.robot for source in sources])
    texts = [text for source in sources for text in (*source.data.texts, *questions(recipe, source.data))]
    tokenizer_path = _tokenizer(recipe, config, texts, out, world)
    mixture = _mixture(sources, recipe, config, Tokenizer.load(tokenizer_path), out)
    check_subtasks(recipe, config, mixture.parts)
    split = [_split(part, recipe) for part in mixture.parts]
    train_rows = np.concatenate([part.first + found.train_rows for part, found in zip(mixture.parts, split)])
    held_out_rows = np.concatenate([part.first + found.held_out_rows for part, found in zip(mixture.parts, split)])
    fingerprints = [fingerprint for found in split for fingerprint in found.fingerprints]
    wanted = {name for stage in recipe.stages for name, weight in stage.auxiliary.items() if weight > 0}
    known = (SUBTASK, *auxiliary)
    for name in sorted(wanted - set(known)):
        raise RecipeError(f"auxiliary: no loss {name!r}{nearest(name, known)}; known: {', '.join(known)}")
    learns_subtasks = SUBTASK in wanted
    wanted -= {SUBTASK}
    if len(sources) > 1:
        _check_mixture(mixture, recipe, wanted)
        names = [source.name for source in sources]
        notes = {**notes, "datasets": names, "shares": [round(part.share, 6) for part in mixture.parts]}
    torch.manual_seed(recipe.seed)  # of the heads
    losses: dict[str, AuxiliaryLoss | TextLoss] = {
        name: auxiliary[name](sources[0].data, sources[0].robot, train_rows, config) for name in sorted(wanted)
    }
    if learns_subtasks:
        losses[SUBTASK] = SubtaskLoss(mixture, config, recipe.compile)
    return Run(
        recipe,
        mixture,
        tokenizer_path,
        device,
        computes_bfloat16(device) if recipe.precision == "auto" else recipe.precision == "bfloat16",
        train_rows,
        held_out_rows,
        losses,
        {
            **notes,
            "recipe": dataclasses.asdict(recipe),
            "episodes": len(fingerprints),
            "frames": sum(source.data.length for source in sources),
            "held_out_episodes": split[0].held_out
            if len(split) == 1
            else [[part.name, episode] for part, found in zip(mixture.parts, split) for episode in found.held_out],
            "held_out_fingerprints": [found.fingerprints[i] for found in split for i in found.held_out],
            "dataset_fingerprint": dataset_fingerprint(fingerprints),
            "robot_fingerprint": robot_fingerprint(sources[0].robot),
            "torch": torch.__version__,
        },
        world,
    )


@dataclass(frozen=True)
class _Split:
    """Of one dataset: a fingerprint per episode, the episodes held out, and rows to train on and held out."""

    fingerprints: list[str]
    held_out: list[int]
    train_rows: np.ndarray
    held_out_rows: np.ndarray


def _split(part: Part, recipe: Recipe) -> _Split:
    data = part.data
    check_data(data)
    fingerprints = [episode_fingerprint(data.state[start:stop], data.action[start:stop]) for start, stop in data.spans]
    lengths = [stop - start for start, stop in data.spans]
    train_episodes, held_out = split_episodes(data.prompts, lengths, recipe.held_out, recipe.seed)
    train_rows = data.rows_of(train_episodes)
    if recipe.skip_idle and data.idle is not None:
        train_rows = train_rows[~data.idle[train_rows]]
    return _Split(fingerprints, held_out, train_rows, data.rows_of(held_out))


def _mixture(
    sources: Sequence[Source], recipe: Recipe, config: ModelConfig, tokenizer: Tokenizer, out: Path
) -> Mixture:
    parts, first = [], 0
    for source, share in zip(sources, shares(sources), strict=True):
        settings = policy_settings(recipe, config, source.data.fps)
        spec = PolicySpec(config, settings, source.robot, source.norm_stats, tokenizer)
        data = dataclasses.replace(source.data, labels_as_prompts=recipe.prompts == "subtask")
        parts.append(Part(source.name, data, spec, share, first))
        first += source.data.length
    if not config.is_fast:
        return Mixture(tuple(parts))
    mixture = Mixture(tuple(parts), ActionTokens.load(ActionTokens.locate(recipe.init or out)))
    check_answers(mixture)
    return mixture


def _check_mixture(mixture: Mixture, recipe: Recipe, auxiliary: Collection[str]) -> None:
    """RecipeError where the recipe asks for what one robot has, and the mixture has several."""
    if auxiliary:
        raise RecipeError(f"auxiliary: {', '.join(sorted(auxiliary))} needs one dataset: merge them, or leave it out")
    robots = [part.spec.robot for part in mixture.parts]
    if len({(*robot.action_places, None, *robot.action_places[robot.gripper_mask]) for robot in robots}) == 1:
        return
    if recipe.loss_dims == "robot":
        raise RecipeError("loss_dims: robot: the datasets' robots have different dimensions; set loss_dims=all")
    if any(stage.gripper != 1.0 for stage in recipe.stages):
        raise RecipeError("gripper: the datasets' robots have their grippers at different dimensions; set gripper=1")


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


def reads_labels(recipe: Recipe) -> bool:
    """Whether the recipe needs the frames' labels."""
    return recipe.prompts == "subtask" or learns_text(recipe)


def policy_settings(recipe: Recipe, config: ModelConfig, fps: float) -> PolicySettings:
    """How robot data become model data: as in `init`, where the recipe does not say otherwise."""
    usual = "quantile" if config.is_pi05 or config.is_fast else "mean_std"
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
    """Fraction of the state's numbers outside of -1 .. 1, which a model that reads them as text cannot tell apart."""
    config = run.spec.config
    if not (config.is_fast or (config.is_pi05 and config.discrete_state_input)):
        return 0.0
    outside = []
    for part, _, rows in run.mixture.split(run.train_rows[:: max(1, len(run.train_rows) // 10_000)]):
        spec = part.spec
        state = units.state_to_model(spec.robot, settled(spec, part.data.state[rows].astype(np.float64)))
        normalized = normalize(state, spec.state_stats, spec.settings.state_normalization)
        outside.append(np.abs(normalized[:, : len(spec.robot.state_names)]).ravel() > 1)
    return float(np.concatenate(outside).mean())


def _tokenizer(recipe: Recipe, config: ModelConfig, texts: Sequence[str], out: Path, world: World) -> Path:
    if recipe.tokenizer is not None:
        return Path(recipe.tokenizer)
    if recipe.init is not None:
        return describe_checkpoint(recipe.init, config=config).tokenizer_path or file_on_this_machine()
    path = out / "tokenizer.model"
    return make_tokenizer(texts, path, config.vocab_size) if world.first else path
