"""One training run, told in order: data, model, optimiser, loop, save.

The finished policy is `<out>/checkpoint` (averaged weights, robot file, statistics, tokenizer). While training it also
holds `train_state/`, from which a resumed run goes on exactly where an unbroken one would be. progress.csv and
curve.png lie beside it.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pi0_ros.base.errors import InputError
from pi0_ros.datasets.dataset import Dataset
from pi0_ros.training.frame_weights import mixed_weights
from pi0_ros.training.loader import Augmentation, Sampler, TrainingData, load_data
from pi0_ros.training.mixture import Source, make_mixed_batch
from pi0_ros.training.not_finite import explain
from pi0_ros.training.objective import (
    AuxiliaryLosses,
    Batch,
    Counts,
    Learner,
    Sums,
    as_tensor,
    count,
    draw_delays,
    draw_noise_and_time,
    rows_of_draws,
    without_padding,
)
from pi0_ros.training.optimizer import Average, clip_gradients, stage_rate
from pi0_ros.training.progress import Progress, Silent
from pi0_ros.training.recipe import SUBTASK, Recipe, Stage, load_recipe
from pi0_ros.training.robots_stats import distinct, robots_stats
from pi0_ros.training.run import Run, clipped_state_tokens, model_config, prepare, reads_labels
from pi0_ros.training.saving import CHECKPOINT, Saver, StopSignals, TrainingStoppedError, open_output
from pi0_ros.training.sharding import copies, norm_of, shard, take_apart, waiting, whole
from pi0_ros.training.sheet import NAME as SHEET
from pi0_ros.training.sheet import ROWS as SHEET_ROWS
from pi0_ros.training.sheet import draw_sheet
from pi0_ros.training.state import Position, check_same_run, finished, read_position, read_state
from pi0_ros.training.subtask import SubtaskLoss
from pi0_ros.training.weights import ever_learning, learns, new_model, read_depth
from pi0_ros.training.world import ALONE, World

TOKENS = "tokens"  # the loss of a pi0-FAST: the mean cross-entropy of the tokens of an answer


def train(
    datasets: Dataset | Path | str | Sequence[Dataset],
    config: Path | str,
    out: Path | str,
    resume: bool = False,
    init: Path | None = None,
    overrides: tuple[str, ...] = (),
    auxiliary: AuxiliaryLosses | None = None,
    overwrite: bool = False,
    world: World = ALONE,
    weights: Sequence[float] = (),
) -> Path:
    """Train on a dataset (a path: one of `pi0 convert`), with its statistics; returns the finished checkpoint's folder.

    `config` is a file or a name, `overrides` are its keys as `key=value`, `init` replaces the config's own. Of several
    datasets each is drawn by its size or by its weight in `weights`; the checkpoint is for the robot of the first, and
    holds a folder for each other robot. Every process of `world` calls this.
    """
    if isinstance(datasets, (Dataset, Path, str)):
        datasets = [datasets if isinstance(datasets, Dataset) else Dataset(datasets)]
    recipe = load_recipe(config, overrides)
    if init is not None:
        recipe = dataclasses.replace(recipe, init=str(init))
    sizes = model_config(recipe)
    read = partial(load_data, image_size=sizes.vision.image_size, labels=reads_labels(recipe))
    sources = read_sources(datasets, sizes.action_horizon, read, weights, world)
    names = [source.name for source in sources]
    notes = {"dataset": ", ".join(names)}
    return train_on(sources, recipe, Path(out), resume, notes, auxiliary, overwrite, world)


def read_sources(
    datasets: Sequence[Dataset],
    horizon: int,
    read: Callable[[Dataset], TrainingData],
    weights: Sequence[float] = (),
    world: World = ALONE,
) -> list[Source]:
    """Each dataset as `read` reads it, with its robot, its statistics of chunks of `horizon` actions and its weight."""
    if weights and len(weights) != len(datasets):
        raise InputError(f"{len(weights)} weights for {len(datasets)} datasets: give one for each")
    stats = robots_stats(datasets, horizon, tell=world.first)
    names = distinct([dataset.path.name for dataset in datasets])
    sources = []
    for index, (dataset, name) in enumerate(zip(datasets, names, strict=True)):
        data = world.after_first(partial(read, dataset))
        sources.append(Source(name, data, dataset.robot, stats[index], weights[index] if weights else None))
    return sources


def train_on(
    sources: Sequence[Source],
    recipe: Recipe,
    out: Path,
    resume: bool = False,
    notes: Mapping[str, Any] | None = None,
    auxiliary: AuxiliaryLosses | None = None,
    overwrite: bool = False,
    world: World = ALONE,
) -> Path:
    """Train on arrays; returns the finished checkpoint's folder. `notes` go into its config.json.

    `auxiliary` are the losses beside the flow's that recipes may name. Every process of `world` calls this.
    """
    resumable = world.from_first(lambda: open_output(out, resume, overwrite))
    checkpoint = out / CHECKPOINT

    # Data: what is trained on, what is held out, and how both become tensors.
    run = world.after_first(lambda: prepare(sources, recipe, out, notes or {}, auxiliary or {}, world))
    position = Position(0, 0, 0.0)
    if resumable:
        check_same_run(checkpoint, run.notes)
        if finished(checkpoint):
            if world.first:
                print(f"{checkpoint} is finished: nothing to do")
            return checkpoint
        position = read_position(checkpoint)

    # Model: the network with the heads of the auxiliary losses, and the average of all that ever learns.
    learner = new_learner(run)
    depth = read_depth(recipe, run.spec.config)
    learning = ever_learning(learner, recipe, depth)
    average = Average(learning, enabled=any(stage.ema > 0 for stage in recipe.stages))
    saver = Saver(run, out, learner, learning)

    steps = [stage.steps for stage in recipe.stages]
    progress: Progress | Silent = Silent()
    if world.first:
        losses = [TOKENS] if run.spec.config.is_fast else sorted(run.auxiliary)
        progress = Progress(out, steps, position, losses, recipe.track, run.notes["recipe"])
    with progress, StopSignals() as stop:
        introduce(run, learner, learning, progress)
        if world.first and position == Position(0, 0, 0.0):
            progress.picture("first_batch", draw_sheet(run, first_rows(run), out / SHEET))
        for number, stage in list(enumerate(recipe.stages))[position.stage :]:
            # Optimiser: a fresh one for every stage, which starts from the averaged weights of the one before.
            if number > position.stage:
                position = Position(number, 0, position.seconds)
                average.load_into_network()
            optimizer = new_optimizer(learner, stage, recipe, depth)
            network = copies(learner, stage) if world.size > 1 and recipe.parallel == "ddp" else learner
            if position.step:
                read_state(checkpoint, learning, average, optimizer, position)

            # Loop: draw a batch, follow its gradient; now and then report, validate, save.
            sampler = stage_sampler(run, number)
            for step in range(position.step, stage.steps):
                start = time.monotonic()
                numbers = train_step(run, stage, step, sampler, network, optimizer, average, out)
                position = Position(number, step + 1, position.seconds + time.monotonic() - start)
                progress.count(numbers, stage.batch, position)
                last, stopped = position.step == stage.steps, world.greatest(stop.caught, run.device)
                validated = position.step % recipe.validate_every == 0 or last
                saved = position.step % recipe.save_every == 0 or last or bool(stopped)
                if position.step % recipe.log_every == 0 or validated or saved:
                    row = {"lr": optimizer.param_groups[0]["lr"], "param_norm": param_norm(learner.model)}
                    progress.report(stage.name, row | (validate(run, stage, learner, average) if validated else {}))
                if saved:
                    saver.save(average, optimizer, position, done=False)
                if stopped:
                    saver.wait()
                    raise TrainingStoppedError(stopped, f"saved after step {position.step} of stage {stage.name}")

        # Save: the finished policy, without what only a resume needs.
        saver.save(average, optimizer, position, done=True)
    return checkpoint


def introduce(run: Run, learner: Learner, learning: Mapping[str, nn.Parameter], progress: Progress | Silent) -> None:
    """Say what is about to be trained, on what and where."""
    total = sum(p.numel() for p in learner.model.parameters())
    progress.say(
        f"{total / 1e6:.2f} million parameters, {sum(p.numel() for p in learning.values()) / 1e6:.2f} learn; "
        f"{run.device}, {torch.get_num_threads()} thread(s), {'bfloat16' if run.autocast else 'float32'}; "
        f"{f'{run.world.size} processes ({run.recipe.parallel}), ' if run.world.size > 1 else ''}"
        f"{len(run.train_rows)} frames to train on, {len(run.held_out_rows)} held out"
    )
    if isinstance(text := run.auxiliary.get(SUBTASK), SubtaskLoss):
        progress.say(f"{text.share(run.train_rows):.0%} of these frames have a subtask that is learned as text")
    if (clipped := clipped_state_tokens(run)) > 0.05:
        progress.say(
            f"warning: {clipped:.0%} of the state's numbers lie outside of -1 .. 1 and look alike to pi0.5: use "
            "`normalization: quantile`, and check the statistics"
        )


def new_learner(run: Run) -> Learner:
    """The network on its device with the heads of the auxiliary losses; with several processes perhaps cut up."""
    model = new_model(run.recipe, run.spec.config, run.device, run.autocast)
    learner = Learner(model, run.auxiliary).to(run.device)
    if run.world.size > 1 and run.recipe.parallel == "fsdp":
        shard(learner, run.world, run.device)
    if run.recipe.compile:
        learner.compile()
    return learner


def new_optimizer(learner: Learner, stage: Stage, recipe: Recipe, depth: int | None) -> torch.optim.Optimizer:
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
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: Average,
    out: Path,
) -> dict[str, Tensor]:
    """One optimiser step; returns its losses and the gradient norm, scalars on the device.

    `network` is the learner, or its copy among others.
    """
    batch, counts = training_batch(run, stage, sampler, step, run.world.share(stage.batch))
    for group in optimizer.param_groups:
        group["lr"] = stage_rate(step, stage)
    optimizer.zero_grad()
    numbers: dict[str, Tensor] = {}
    done = 0
    for part in batch.parts(stage.micro_batch or stage.batch):
        waits = (done := done + len(part.rows)) < len(batch.rows)
        with waiting(network, waits):
            losses = loss_terms(run, stage, forward(run, network, part), counts)
            loss = total_loss(stage, losses)
            (loss * run.world.size).backward()  # gradients are averaged over the processes
        for name, value in {"loss": loss, **losses}.items():
            numbers[name] = numbers.get(name, 0.0) + value.detach()
    numbers = run.world.total(numbers)
    norm = whole(clip_gradients([p for group in optimizer.param_groups for p in group["params"]], run.recipe.clip))
    if not torch.isfinite(numbers["loss"] + norm):
        raise explain(out, batch, run.mixture, stage.name, step + 1, run.world)
    optimizer.step()
    average.update(stage.ema)
    return {**numbers, "grad_norm": norm}


def stage_sampler(run: Run, number: int) -> Sampler:
    """Draws the rows of stage `number`."""
    weights = mixed_weights(run.mixture, run.train_rows, run.recipe.stages[number])
    return Sampler(run.train_rows, weights, run.recipe.seed, number)


def first_rows(run: Run) -> Batch:
    """The first frames of the first batch that actions are learned from."""
    stages = run.recipe.stages
    number = next((i for i, stage in enumerate(stages) if stage.flow), 0)
    return training_batch(run, stages[number], stage_sampler(run, number), 0, slice(0, SHEET_ROWS))[0]


def training_batch(run: Run, stage: Stage, sampler: Sampler, step: int, share: slice) -> tuple[Batch, Counts]:
    """A `share` of what a step of a stage learns from, and the counts of all of it."""
    random = sampler.generator(step)
    augmentation = Augmentation(stage.state_noise, stage.brightness, stage.shift)
    return draw_batch(run, stage, sampler.draw(random, stage.batch), augmentation, random, share)


def draw_batch(
    run: Run,
    stage: Stage,
    rows: np.ndarray,
    augmentation: Augmentation,
    random: np.random.Generator,
    share: slice = slice(None),
) -> tuple[Batch, Counts]:
    """Rows of the data as a batch on the device, with noise and times for its flow loss, and the counts of all of them.

    Of a `share` of the rows only, which is what it would be in the whole batch.
    """
    inputs, target = make_mixed_batch(run.mixture, rows, augmentation, random, run.device, share)
    inputs = without_padding(inputs, keep_length=run.recipe.compile)
    config, draws = run.spec.config, stage.draws if stage.flow else 0
    if config.is_fast:
        nothing = torch.zeros(0, device=run.device)
        answer = target[:, : inputs.prompt_tokens.shape[1]]
        return Batch(rows[share], inputs, None, nothing, nothing, {}, answer), Counts(len(rows), {})
    noise, flow_time = draw_noise_and_time(random, len(rows), draws, (config.action_horizon, config.action_dim))
    if run.recipe.rtc_max_delay:
        flow_time = draw_delays(random, flow_time, run.recipe.rtc_max_delay, config.action_horizon)
    labels = {name: run.auxiliary[name].labels(rows) for name, weight in stage.auxiliary.items() if weight > 0}
    batch = Batch(
        rows[share],
        inputs,
        target if stage.flow else None,
        as_tensor(rows_of_draws(noise, share, len(rows)), run.device),
        as_tensor(rows_of_draws(flow_time, share, len(rows)), run.device),
        {name: tuple(as_tensor(array[share], run.device) for array in arrays) for name, arrays in labels.items()},
    )
    return batch, count(flow_time, config.action_horizon, labels)


def forward(run: Run, network: nn.Module, batch: Batch) -> Sums:
    """All losses of a batch, in the run's precision."""
    with torch.autocast(run.device.type, torch.bfloat16, enabled=run.autocast):
        sums: Sums = network(batch)
    return sums


def loss_terms(run: Run, stage: Stage, sums: Sums, counts: Counts) -> dict[str, Tensor]:
    """The losses by name, as means over the batch that `counts` is of; `sums` may be of a part of it."""
    terms = {name: value / counts.labels[name] for name, value in sums.auxiliary.items()}
    if not stage.flow:
        return terms
    if run.spec.config.is_fast:
        return {TOKENS: sums.flow[0] / counts.flow}
    weights = np.ones(run.spec.config.action_dim, np.float32)
    places = run.spec.robot.action_places
    weights[places[run.spec.robot.gripper_mask]] = stage.gripper
    counted = places.tolist() if run.recipe.loss_dims == "robot" else slice(None)
    mean = (sums.flow / counts.flow * as_tensor(weights, run.device))[counted].mean()
    return {"flow": mean, **terms}


def total_loss(stage: Stage, terms: Mapping[str, Tensor]) -> Tensor:
    """The weighted sum that is minimised."""
    weights = {"flow": stage.flow, TOKENS: stage.flow, **stage.auxiliary}
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
            batch, counts = draw_batch(run, stage, part, Augmentation(), random)
            for piece in batch.parts(stage.micro_batch or stage.batch):  # no more memory than a step takes
                sums = forward(run, learner, piece)
                answers.append({name: value.float().cpu().numpy() for name, value in sums.answers.items()})
                if stage.flow:
                    flow += len(part) * next(iter(loss_terms(run, stage, sums, counts).values())).item()
    take_apart(learner)
    result = {f"val_{TOKENS if run.spec.config.is_fast else 'flow'}": flow / len(rows)} if stage.flow else {}
    for name in answers[0]:
        result[f"val_{name}"] = run.auxiliary[name].score(np.concatenate([part[name] for part in answers]), rows)
    return result


@torch.no_grad()
def param_norm(model: nn.Module) -> float:
    """Norm of all weight matrices together, as openpi logs it: no biases, norms or embeddings."""
    matrices = [p for name, p in model.named_parameters() if p.ndim > 1 and "embedding" not in name]
    return float(norm_of(matrices))
