"""train or fine-tune a policy on a dataset

    pi0 train datasets/demo --config config/train/from_scratch.yaml --out runs/demo
    pi0 train datasets/demo --config config/train/from_scratch.yaml --out runs/demo --resume

The finished policy is <out>/checkpoint (averaged weights, robot file, statistics, tokenizer). While training it also
holds `train_state/`, from which --resume goes on exactly where an unbroken run would be. progress.csv and curve.png lie
beside it.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pi0_ros.checkpoints.checkpoint import save_checkpoint
from pi0_ros.checkpoints.load import describe_checkpoint, load_model
from pi0_ros.checkpoints.norm_stats import NormStats, load_norm_stats
from pi0_ros.checkpoints.safetensors_files import CheckpointError
from pi0_ros.checkpoints.settings import PolicySettings
from pi0_ros.checkpoints.spec import PolicySpec
from pi0_ros.datasets.layout import Dataset
from pi0_ros.model.config import ModelConfig
from pi0_ros.model.init import sine_position_init
from pi0_ros.model.pi0 import ModelInput, Pi0
from pi0_ros.robot import Robot
from pi0_ros.sim.grounding import grasp_error, grasp_targets, gripper_events
from pi0_ros.tokens.subwords import file_on_this_machine
from pi0_ros.tokens.tokenizer import Tokenizer
from pi0_ros.training.loader import Augmentation, Sampler, TrainingData, load_data, make_batch, split_episodes
from pi0_ros.training.objective import GraspLabel, Target, Trainee, as_tensor, draw_delays, draw_noise_and_time, losses
from pi0_ros.training.optimizer import clip_gradients, computes_bfloat16, learning_rate, update_average
from pi0_ros.training.progress import Progress
from pi0_ros.training.recipe import Recipe, RecipeError, Stage, load_recipe
from pi0_ros.training.state import Position, read_position, read_state, write_state
from pi0_ros.training.statistics import NORM_STATS_PATH
from pi0_ros.training.vocabulary import make_tokenizer

RUNTIME_KEYS = {
    "device",
    "threads",
    "compile",
    "log_every",
    "save_every",
    "validate_every",
}  # a resume may change these


def train(
    dataset: Path | str,
    config: Path | str,
    out: Path | str,
    resume: bool = False,
    init: Path | None = None,
) -> Path:
    """Train on a dataset of `pi0 convert` with statistics of `pi0 stats`; returns the finished checkpoint's folder.

    `init` replaces the config's own.
    """
    dataset, recipe = Path(dataset), load_recipe(config)
    if init is not None:
        recipe = dataclasses.replace(recipe, init=str(init))
    config_sizes = model_config(recipe)
    stats = read_stats(dataset, config_sizes.action_horizon)
    data = load_data(dataset, config_sizes.vision.image_size, recipe.prompts == "subtask")
    return train_on(data, Dataset(dataset).robot, stats, recipe, Path(out), resume, {"dataset": dataset.name})


def read_stats(dataset: Path, horizon: int) -> NormStats:
    """The dataset's statistics; RecipeError where there are none or they are of chunks of another length."""
    path = dataset / NORM_STATS_PATH
    if not path.is_file():
        raise RecipeError(f"{path}: no statistics; make them with `pi0 stats {dataset} --horizon {horizon}`")
    made_for = json.loads(path.read_text()).get("horizon", horizon)
    if made_for != horizon:
        raise RecipeError(
            f"{path}: statistics of chunks of {made_for} actions, the model predicts {horizon}; make them again with "
            f"`pi0 stats {dataset} --horizon {horizon}`"
        )
    return load_norm_stats(path)


def train_on(
    data: TrainingData,
    robot: Robot,
    norm_stats: NormStats,
    recipe: Recipe,
    out: Path,
    resume: bool = False,
    notes: Mapping[str, Any] | None = None,
) -> Path:
    """Train on arrays; returns the finished checkpoint's folder. `notes` go into its config.json."""
    checkpoint = out / "checkpoint"
    if checkpoint.exists() and not resume:
        raise RecipeError(f"{checkpoint} exists: go on with --resume, or choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    run = Run(data, robot, norm_stats, recipe, out, dict(notes or {}))
    if resume and checkpoint.exists() and not run.restore():
        print(f"{checkpoint} is finished: nothing to do")
        return checkpoint
    return run.finish()


def model_config(recipe: Recipe) -> ModelConfig:
    """The network's sizes: those of `init`, else of the preset, with overrides (of `init`: what its weights allow)."""
    if recipe.init is not None:
        try:
            config = describe_checkpoint(recipe.init, config=recipe.model_overrides).config
        except CheckpointError as error:
            raise RecipeError(f"{error}; `init` (or --init) must name a checkpoint folder to start from") from error
        return dataclasses.replace(config, dtype="float32")
    return ModelConfig.from_dict({**ModelConfig.preset(recipe.model).to_dict(), **recipe.model_overrides})


class Run:
    """One training run: its data, network, averaged network and optimiser, and where it stands."""

    def __init__(
        self,
        data: TrainingData,
        robot: Robot,
        norm_stats: NormStats,
        recipe: Recipe,
        out: Path,
        notes: dict[str, Any],
    ) -> None:
        self.data, self.recipe, self.out = data, recipe, out
        if recipe.threads:
            torch.set_num_threads(recipe.threads)
        automatic = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(automatic if recipe.device == "auto" else recipe.device)
        native = computes_bfloat16(self.device)
        self.autocast = native if recipe.precision == "auto" else recipe.precision == "bfloat16"
        torch.manual_seed(recipe.seed)
        config = model_config(recipe)
        self.tokenizer_path = self._tokenizer(config)
        if recipe.rtc_max_delay >= config.action_horizon:
            raise RecipeError(f"rtc_max_delay is {recipe.rtc_max_delay}, the chunk has {config.action_horizon} actions")
        settings = PolicySettings(
            recipe.normalization,
            recipe.normalization,
            data.fps,
            recipe.num_steps,
            rtc_trained_max_delay=recipe.rtc_max_delay,
        )
        self.spec = PolicySpec(config, settings, robot, norm_stats, Tokenizer.load(self.tokenizer_path))
        train_episodes, held_out = split_episodes(data.prompts, recipe.held_out, recipe.seed)
        self.train_rows, self.held_out_rows = data.rows_of(train_episodes), data.rows_of(held_out)
        if recipe.skip_idle and data.idle is not None:
            self.train_rows = self.train_rows[~data.idle[self.train_rows]]
        wants_grounding = any(stage.grounding > 0 for stage in recipe.stages)
        self.targets = grasp_targets(data, robot, self.train_rows) if wants_grounding else None

        model = Pi0(config) if recipe.init is None else load_model(recipe.init, config=config).model.train()
        if not isinstance(model, Pi0):
            raise RecipeError(f"{recipe.init}: a {config.model} model; pi0 and pi05 can be trained here")
        if recipe.init is None:
            sine_position_init(model)
        self.trainee = Trainee(model, len(self.targets.arm) if self.targets is not None else 0).to(self.device)
        self.average = copy.deepcopy(self.trainee).requires_grad_(False)
        self.losses = torch.compile(losses) if recipe.compile else losses
        self.position = Position(0, 0, 0.0)
        self.notes = {
            **notes,
            "recipe": dataclasses.asdict(recipe),
            "episodes": len(data.prompts),
            "frames": data.length,
            "held_out_episodes": held_out,
            "torch": torch.__version__,
        }
        self._enter(recipe.stages[0])

    def _tokenizer(self, config: ModelConfig) -> Path:
        if self.recipe.tokenizer is not None:
            return Path(self.recipe.tokenizer)
        if self.recipe.init is not None:
            return describe_checkpoint(self.recipe.init, config=config).tokenizer_path or file_on_this_machine()
        return make_tokenizer(self.data.texts, self.out / "tokenizer.model", config.vocab_size)

    def _enter(self, stage: Stage) -> None:
        """A fresh optimiser and sampler for a stage."""
        for name, parameter in self.trainee.named_parameters():
            parameter.requires_grad_(not name.removeprefix("model.").startswith(stage.freeze) if stage.freeze else True)
        self.parameters = [p for p in self.trainee.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=stage.lr,
            betas=(self.recipe.beta1, self.recipe.beta2),
            eps=1e-8,
            weight_decay=stage.weight_decay,
            fused=True,
        )
        weights = row_weights(self.data, self.spec.robot, stage)[self.train_rows]
        self.sampler = Sampler(self.train_rows, weights, self.recipe.seed, self.position.stage)
        self.augmentation = Augmentation(stage.state_noise, stage.brightness, stage.shift)
        width, joints = self.spec.config.action_dim, len(self.spec.robot.action_names)
        gripper = np.pad(self.spec.robot.gripper_mask, (0, width - joints))
        self.flow_weights = torch.from_numpy(np.where(gripper, stage.gripper, 1.0).astype(np.float32)).to(self.device)

    def restore(self) -> bool:
        """Go to where the checkpoint in `out` stands; False where it is finished, RecipeError for another recipe."""
        folder = self.out / "checkpoint"
        notes = json.loads((folder / "config.json").read_text())["training"]
        recorded, wanted = (
            {key: value for key, value in json.loads(json.dumps(recipe)).items() if key not in RUNTIME_KEYS}
            for recipe in (notes["recipe"], self.notes["recipe"])
        )
        changed = [key for key in wanted if recorded.get(key) != wanted[key]] + [
            key for key in ("episodes", "frames") if notes[key] != self.notes[key]
        ]
        if changed:
            raise RecipeError(f"{folder}: was trained with other {', '.join(changed)}: use the same, or another --out")
        if notes["finished"]:
            return False
        self.position = read_position(folder)
        self._enter(self.recipe.stages[self.position.stage])
        read_state(folder, self.trainee, self.average, self.optimizer, self.position)
        return True

    def save(self, finished: bool) -> Path:
        """Write the checkpoint with the averaged weights; a finished one has no train_state."""
        stage = self.recipe.stages[self.position.stage]
        training = {
            **self.notes,
            "stage": stage.name,
            "step": self.position.step,
            "seconds": round(self.position.seconds),
        }
        return save_checkpoint(
            self.out / "checkpoint",
            self.average.model,
            self.spec.config,
            self.spec.settings,
            self.spec.robot,
            self.spec.norm_stats,
            self.tokenizer_path,
            {**training, "finished": finished},
            None
            if finished
            else lambda folder: write_state(folder, self.trainee, self.average, self.optimizer, self.position),
        )

    def finish(self) -> Path:
        """Train from where the run stands to its end; what is interrupted goes on from its last save."""
        ends = [int(end) for end in np.cumsum([stage.steps for stage in self.recipe.stages])]
        done = [0, *ends][self.position.stage] + self.position.step
        progress = Progress(self.out, ends[-1], done, ends[:-1])
        count = sum(p.numel() for p in self.trainee.model.parameters())
        progress.say(
            f"{count / 1e6:.2f} million parameters on {self.device}, {torch.get_num_threads()} thread(s); "
            f"{len(self.train_rows)} frames to train on, {len(self.held_out_rows)} held out"
        )
        try:
            for number in range(self.position.stage, len(self.recipe.stages)):
                if number > self.position.stage:
                    self.position = Position(number, 0, self.position.seconds)
                    self.trainee.load_state_dict(self.average.state_dict())
                    self._enter(self.recipe.stages[number])
                self._train_stage(self.recipe.stages[number], [0, *ends][number], progress)
        finally:
            progress.close()
        return self.save(finished=True)

    def _train_stage(self, stage: Stage, before: int, progress: Progress) -> None:
        recipe = self.recipe
        sums, steps, began = torch.zeros(4, device=self.device), 0, self.position.seconds
        for step in range(self.position.step, stage.steps):
            start = time.monotonic()
            sums += self.step(stage, step)
            steps, done = steps + 1, step + 1
            self.position = Position(self.position.stage, done, self.position.seconds + time.monotonic() - start)
            progress.bar.update()
            last = done == stage.steps
            if (
                done % recipe.log_every == 0
                or done % recipe.validate_every == 0
                or done % recipe.save_every == 0
                or last
            ):
                row = dict(zip(("loss", "flow", "grounding", "grad_norm"), (sums / steps).tolist(), strict=True))
                if not np.isfinite(list(row.values())).all():
                    raise ValueError(
                        f"stage {stage.name}, step {done}: the loss is not finite: lower `lr` (the last save is whole)"
                    )
                speed = stage.batch * steps / max(self.position.seconds - began, 1e-9)
                row |= {
                    "stage": stage.name,
                    "step": before + done,
                    "seconds": self.position.seconds,
                    "frames_per_s": speed,
                }
                row["lr"] = self.optimizer.param_groups[0]["lr"]
                row = {key: value for key, value in row.items() if value != 0.0 or key == "lr"}
                validated = done % recipe.validate_every == 0 or last
                if validated:
                    row |= self.validate(stage)
                progress.report(row)
                if validated:
                    shown = ", ".join(
                        f"{key} {row[key]:.3g}" for key in row if key in ("flow", "grounding") or key.startswith("val_")
                    )
                    progress.say(f"{stage.name} {done}/{stage.steps}: {shown}")
                sums, steps, began = torch.zeros(4, device=self.device), 0, self.position.seconds
            if done % recipe.save_every == 0 or last:
                self.save(finished=False)

    def step(self, stage: Stage, step: int) -> torch.Tensor:
        """One optimiser step; returns loss, flow loss, grounding loss and gradient norm, float32 [4]."""
        random = self.sampler.generator(step)
        inputs, target = self._batch(self.sampler.draw(random, stage.batch), stage, self.augmentation, random)
        rate = learning_rate(step, stage.warmup, stage.steps, stage.lr, stage.final_lr)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        flow, grounding, _ = self._losses(self.trainee, inputs, target)
        flow_mean = (flow * self.flow_weights).mean()
        loss = stage.flow * flow_mean + stage.grounding * grounding
        loss.backward()
        norm = clip_gradients(self.parameters, self.recipe.clip)
        self.optimizer.step()
        decay = min(stage.ema, (1 + step) / (10 + step))  # short memory first, so the start is forgotten soon
        update_average(list(self.average.parameters()), list(self.trainee.parameters()), decay)
        return torch.stack([loss.detach(), flow_mean.detach(), grounding.detach(), norm])

    def _batch(
        self, rows: np.ndarray, stage: Stage, augmentation: Augmentation, random: np.random.Generator
    ) -> tuple[ModelInput, Target]:
        inputs, actions = make_batch(self.data, self.spec, rows, augmentation, random, self.device)
        config, draws = self.spec.config, stage.draws if stage.flow else 0
        noise, moment = draw_noise_and_time(random, len(rows), draws, (config.action_horizon, config.action_dim))
        if self.recipe.rtc_max_delay:
            moment = draw_delays(random, moment, self.recipe.rtc_max_delay, config.action_horizon)
        label = None
        if stage.grounding > 0 and self.targets is not None:
            arrays = self.targets.joints[rows], self.targets.event[rows], self.targets.valid[rows]
            label = GraspLabel(*(as_tensor(array, self.device) for array in arrays))
        return inputs, Target(
            actions if stage.flow else None, as_tensor(noise, self.device), as_tensor(moment, self.device), label
        )

    def _losses(
        self, trainee: Trainee, inputs: ModelInput, target: Target
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            return self.losses(trainee, inputs, target)

    @torch.no_grad()
    def validate(self, stage: Stage) -> dict[str, float]:
        """Losses of the averaged weights on held-out frames: always the same frames, noise and times."""
        if len(self.held_out_rows) == 0:
            return {}
        sampler = Sampler(
            self.held_out_rows, np.ones(len(self.held_out_rows)), self.recipe.seed, len(self.recipe.stages)
        )
        random = sampler.generator(0)
        rows = sampler.draw(random, min(self.recipe.validation_frames, len(self.held_out_rows)))
        joints = len(self.spec.robot.action_names)
        flows, outputs = [], []
        for part in np.array_split(rows, -(-len(rows) // stage.batch)):
            flow, _, predicted = self._losses(self.average, *self._batch(part, stage, Augmentation(), random))
            flows.append(len(part) * flow[:joints].mean().item())
            outputs.append(predicted.cpu().numpy())
        result: dict[str, float] = {"val_flow": sum(flows) / len(rows)} if stage.flow else {}
        if stage.grounding and self.targets is not None:
            result["val_grounding"] = grasp_error(np.concatenate(outputs), rows, self.targets)
        return result


def row_weights(data: TrainingData, robot: Robot, stage: Stage) -> np.ndarray:
    """How often each frame is drawn relative to the others, float64 [N]: more around gripper events."""
    weights = np.ones(data.length)
    window = round(stage.event_window_s * data.fps)
    for start, stop in data.spans:
        frames, events = gripper_events(data.action[start:stop, robot.gripper_mask])
        closings = frames[events == 0]
        if len(closings):
            ahead = np.searchsorted(closings, np.arange(stop - start)) < len(closings)
            weights[start:stop][~ahead] *= stage.after_weight
        near = (np.abs(np.arange(stop - start)[:, None] - frames) <= window).any(1)
        weights[start:stop][near] *= stage.event_weight
    return weights


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", type=Path, help="folder made by `pi0 convert`, with the statistics of `pi0 stats`")
    parser.add_argument("--config", type=Path, required=True, help="config, such as config/train/from_scratch.yaml")
    parser.add_argument("--init", type=Path, help="checkpoint to start from, instead of the config's `init`")
    parser.add_argument("--out", type=Path, required=True, help="folder of this run")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")


def run(args: argparse.Namespace) -> int:
    checkpoint = train(args.dataset, args.config, args.out, args.resume, init=args.init)
    print(f"policy: {checkpoint}\ncurve:  {args.out / 'curve.png'}")
    return 0
