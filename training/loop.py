"""One training run, told in order: data, model, optimiser, loop, save.

The finished policy is `<out>/checkpoint` (averaged weights, robot file, statistics, tokenizer). While training it also
holds `train_state/`, from which a resumed run goes on exactly where an unbroken one would be. progress.csv and
curve.png lie beside it.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pi0_ros.checkpoints.norm_stats import NormStats
from pi0_ros.datasets.dataset import Dataset
from pi0_ros.robot import Robot
from pi0_ros.training.frame_weights import frame_weights
from pi0_ros.training.loader import Augmentation, Sampler, TrainingData, load_data, make_batch
from pi0_ros.training.not_finite import explain
from pi0_ros.training.objective import (
    AuxiliaryLosses,
    Batch,
    Learner,
    Sums,
    as_tensor,
    draw_delays,
    draw_noise_and_time,
    without_padding,
)
from pi0_ros.training.optimizer import Average, clip_gradients, stage_rate
from pi0_ros.training.progress import Progress
from pi0_ros.training.recipe import Recipe, Stage, load_recipe
from pi0_ros.training.run import Run, clipped_state_tokens, model_config, prepare, read_stats
from pi0_ros.training.saving import CHECKPOINT, Saver, StopSignals, TrainingStoppedError, open_output
from pi0_ros.training.state import Position, check_same_run, finished, read_position, read_state
from pi0_ros.training.weights import ever_learning, learns, new_model


def train(
    dataset: Dataset | Path | str,
    config: Path | str,
    out: Path | str,
    resume: bool = False,
    init: Path | None = None,
    overrides: tuple[str, ...] = (),
    auxiliary: AuxiliaryLosses | None = None,
    overwrite: bool = False,
) -> Path:
    """Train on a dataset (a path: one of `pi0 convert`), with its statistics; returns the finished checkpoint's folder.

    `config` is a file or a name, `overrides` are its keys as `key=value`, `init` replaces the config's own.
    """
    source = dataset if isinstance(dataset, Dataset) else Dataset(dataset)
    dataset, recipe = source.path, load_recipe(config, overrides)
    if init is not None:
        recipe = dataclasses.replace(recipe, init=str(init))
    sizes = model_config(recipe)
    stats = read_stats(dataset, sizes.action_horizon, source.robot)
    data = load_data(source, sizes.vision.image_size, recipe.prompts == "subtask")
    notes = {"dataset": dataset.name}
    return train_on(data, source.robot, stats, recipe, Path(out), resume, notes, auxiliary, overwrite)


def train_on(
    data: TrainingData,
    robot: Robot,
    norm_stats: NormStats,
    recipe: Recipe,
    out: Path,
    resume: bool = False,
    notes: Mapping[str, Any] | None = None,
    auxiliary: AuxiliaryLosses | None = None,
    overwrite: bool = False,
) -> Path:
    """Train on arrays; returns the finished checkpoint's folder. `notes` go into its config.json.

    `auxiliary` are the losses beside the flow's that recipes may name.
    """
    resumable = open_output(out, resume, overwrite)
    checkpoint = out / CHECKPOINT

    # Data: what is trained on, what is held out, and how both become tensors.
    run = prepare(data, robot, norm_stats, recipe, out, notes or {}, auxiliary or {})
    position = Position(0, 0, 0.0)
    if resumable:
        check_same_run(checkpoint, run.notes)
        if finished(checkpoint):
            print(f"{checkpoint} is finished: nothing to do")
            return checkpoint
        position = read_position(checkpoint)

    # Model: the network with the heads of the auxiliary losses, and the average of all that ever learns.
    learner = new_learner(run)
    learning = ever_learning(learner, recipe, run.spec.config.vlm.depth)
    average = Average(learning, enabled=any(stage.ema > 0 for stage in recipe.stages))
    saver = Saver(run, out, learner, learning)

    progress = Progress(out, [stage.steps for stage in recipe.stages], position, sorted(run.auxiliary))
    with progress, StopSignals() as stop:
        introduce(run, learner, learning, progress)
        for number, stage in list(enumerate(recipe.stages))[position.stage :]:
            # Optimiser: a fresh one for every stage, which starts from the averaged weights of the one before.
            if number > position.stage:
                position = Position(number, 0, position.seconds)
                average.load_into_network()
            optimizer = new_optimizer(learner, stage, recipe, run.spec.config.vlm.depth)
            if position.step:
                read_state(checkpoint, learning, average, optimizer, position)

            # Loop: draw a batch, follow its gradient; now and then report, validate, save.
            weights = frame_weights(data, robot, stage)[run.train_rows]
            sampler = Sampler(run.train_rows, weights, recipe.seed, number)
            for step in range(position.step, stage.steps):
                start = time.monotonic()
                numbers = train_step(run, stage, step, sampler, learner, optimizer, average, out)
                position = Position(number, step + 1, position.seconds + time.monotonic() - start)
                progress.count(numbers, stage.batch, position)
                last = position.step == stage.steps
                validated = position.step % recipe.validate_every == 0 or last
                saved = position.step % recipe.save_every == 0 or last or bool(stop.caught)
                if position.step % recipe.log_every == 0 or validated or saved:
                    row = {"lr": optimizer.param_groups[0]["lr"], "param_norm": param_norm(learner.model)}
                    progress.report(stage.name, row | (validate(run, stage, learner, average) if validated else {}))
                if saved:
                    saver.save(average, optimizer, position, done=False)
                if stop.caught:
                    saver.wait()
                    raise TrainingStoppedError(stop.caught, f"saved after step {position.step} of stage {stage.name}")

        # Save: the finished policy, without what only a resume needs.
        saver.save(average, optimizer, position, done=True)
    return checkpoint


def introduce(run: Run, learner: Learner, learning: Mapping[str, nn.Parameter], progress: Progress) -> None:
    """Say what is about to be trained, on what and where."""
    total = sum(p.numel() for p in learner.model.parameters())
    progress.say(
        f"{total / 1e6:.2f} million parameters, {sum(p.numel() for p in learning.values()) / 1e6:.2f} learn; "
        f"{run.device}, {torch.get_num_threads()} thread(s), {'bfloat16' if run.autocast else 'float32'}; "
        f"{len(run.train_rows)} frames to train on, {len(run.held_out_rows)} held out"
    )
    if (clipped := clipped_state_tokens(run)) > 0.05:
        progress.say(
            f"warning: {clipped:.0%} of the state's numbers lie outside of -1 .. 1 and look alike to pi0.5: use "
            "`normalization: quantile`, and check the statistics"
        )


def new_learner(run: Run) -> Learner:
    """The network on its device with the heads of the auxiliary losses."""
    model = new_model(run.recipe, run.spec.config, run.device, run.autocast)
    learner = Learner(model, run.auxiliary).to(run.device)
    if run.recipe.compile:
        learner.compile()
    return learner


def new_optimizer(learner: Learner, stage: Stage, recipe: Recipe, depth: int) -> torch.optim.Optimizer:
    """AdamW over what the stage trains; everything else is frozen and needs no gradients."""
    for name, parameter in learner.named_parameters():
        parameter.requires_grad_(learns(name, stage, recipe, depth))
    return torch.optim.AdamW(
        [p for p in learner.parameters() if p.requires_grad],
        lr=stage.lr,
        betas=(recipe.beta1, recipe.beta2),
        eps=1e-8,
        weight_decay=stage.weight_decay,
        fused=True,
    )


def train_step(
    run: Run,
    stage: Stage,
    step: int,
    sampler: Sampler,
    learner: Learner,
    optimizer: torch.optim.Optimizer,
    average: Average,
    out: Path,
) -> dict[str, Tensor]:
    """One optimiser step; returns its losses and the gradient norm, scalars on the device."""
    random = sampler.generator(step)
    rows = sampler.draw(random, stage.batch)
    batch = draw_batch(run, stage, rows, Augmentation(stage.state_noise, stage.brightness, stage.shift), random)
    for group in optimizer.param_groups:
        group["lr"] = stage_rate(step, stage)
    optimizer.zero_grad()
    numbers: dict[str, Tensor] = {}
    for part in batch.parts(stage.micro_batch or stage.batch):
        losses = loss_terms(run, stage, forward(run, learner, part), batch)
        loss = total_loss(stage, losses)
        loss.backward()
        for name, value in {"loss": loss, **losses}.items():
            numbers[name] = numbers.get(name, 0.0) + value.detach()
    norm = clip_gradients([p for group in optimizer.param_groups for p in group["params"]], run.recipe.clip)
    if not torch.isfinite(numbers["loss"] + norm):
        raise explain(out, batch, run.data, stage.name, step + 1)
    optimizer.step()
    average.update(stage.ema)
    return {**numbers, "grad_norm": norm}


def draw_batch(
    run: Run, stage: Stage, rows: np.ndarray, augmentation: Augmentation, random: np.random.Generator
) -> Batch:
    """Rows of the data as a batch on the device, with noise and times for its flow loss."""
    inputs, actions = make_batch(run.data, run.spec, rows, augmentation, random, run.device)
    inputs = without_padding(inputs, keep_length=run.recipe.compile)
    config, draws = run.spec.config, stage.draws if stage.flow else 0
    noise, flow_time = draw_noise_and_time(random, len(rows), draws, (config.action_horizon, config.action_dim))
    if run.recipe.rtc_max_delay:
        flow_time = draw_delays(random, flow_time, run.recipe.rtc_max_delay, config.action_horizon)
    wanted = [name for name, weight in stage.auxiliary.items() if weight > 0]
    return Batch(
        rows,
        inputs,
        actions if stage.flow else None,
        as_tensor(noise, run.device),
        as_tensor(flow_time, run.device),
        {name: tuple(as_tensor(a, run.device) for a in run.auxiliary[name].labels(rows)) for name in wanted},
    )


def forward(run: Run, learner: nn.Module, batch: Batch) -> Sums:
    """All losses of a batch, in the run's precision."""
    with torch.autocast(run.device.type, torch.bfloat16, enabled=run.autocast):
        sums: Sums = learner(batch)
    return sums


def loss_terms(run: Run, stage: Stage, sums: Sums, whole: Batch) -> dict[str, Tensor]:
    """The losses by name, as means over the `whole` batch, of which `sums` may be a part."""
    terms = {name: value / whole.label_counts()[name] for name, value in sums.auxiliary.items()}
    if whole.actions is None:
        return terms
    weights = np.ones(run.spec.config.action_dim, np.float32)
    weights[: len(run.spec.robot.action_names)][run.spec.robot.gripper_mask] = stage.gripper
    counted = len(run.spec.robot.action_names) if run.recipe.loss_dims == "robot" else len(weights)
    mean = (sums.flow / whole.flow_count * as_tensor(weights, run.device))[:counted].mean()
    return {"flow": mean, **terms}


def total_loss(stage: Stage, terms: Mapping[str, Tensor]) -> Tensor:
    """The weighted sum that is minimised."""
    weights = {"flow": stage.flow, **stage.auxiliary}
    return torch.stack([weights[name] * value for name, value in terms.items()]).sum()


@torch.no_grad()
def validate(run: Run, stage: Stage, learner: Learner, average: Average) -> dict[str, float]:
    """Losses of the averaged weights on held-out frames: always the same frames, noise and times."""
    if len(run.held_out_rows) == 0:
        return {}
    sampler = Sampler(run.held_out_rows, np.ones(len(run.held_out_rows)), run.recipe.seed, len(run.recipe.stages))
    random = sampler.generator(0)
    rows = sampler.draw(random, min(run.recipe.validation_frames, len(run.held_out_rows)))
    flow, answers = 0.0, []
    with average.in_place():
        for part in np.array_split(rows, -(-len(rows) // stage.batch)):
            batch = draw_batch(run, stage, part, Augmentation(), random)
            sums = forward(run, learner, batch)
            answers.append({name: value.float().cpu().numpy() for name, value in sums.answers.items()})
            if stage.flow:
                flow += len(part) * loss_terms(run, stage, sums, batch)["flow"].item()
    result = {"val_flow": flow / len(rows)} if stage.flow else {}
    for name in answers[0]:
        result[f"val_{name}"] = run.auxiliary[name].score(np.concatenate([part[name] for part in answers]), rows)
    return result


@torch.no_grad()
def param_norm(model: nn.Module) -> float:
    """Norm of all weight matrices together, as openpi logs it: no biases, norms or embeddings."""
    matrices = [p for name, p in model.named_parameters() if p.ndim > 1 and "embedding" not in name]
    return float(torch.stack([torch.linalg.vector_norm(p, dtype=torch.float32) for p in matrices]).norm())
