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

from pi0_ros.base.errors import InputError
from pi0_ros.checkpoints.checkpoint import save_checkpoint
from pi0_ros.checkpoints.load import load_model
from pi0_ros.checkpoints.norm_stats import NormStats
from pi0_ros.datasets.dataset import Dataset
from pi0_ros.model.init import sine_position_init
from pi0_ros.model.pi0 import Pi0
from pi0_ros.robot import Robot
from pi0_ros.training.frame_weights import frame_weights
from pi0_ros.training.loader import Augmentation, Sampler, TrainingData, load_data, make_batch
from pi0_ros.training.objective import (
    AuxiliaryLosses,
    Batch,
    Learner,
    Sums,
    as_tensor,
    draw_delays,
    draw_noise_and_time,
)
from pi0_ros.training.optimizer import Average, clip_gradients, learning_rate
from pi0_ros.training.progress import Progress
from pi0_ros.training.recipe import Recipe, RecipeError, Stage, load_recipe
from pi0_ros.training.run import Run, model_config, prepare, read_stats
from pi0_ros.training.state import (
    Position,
    check_same_run,
    finished,
    read_position,
    read_state,
    state_tensors,
    write_state,
)


def train(
    dataset: Dataset | Path | str,
    config: Path | str,
    out: Path | str,
    resume: bool = False,
    init: Path | None = None,
    overrides: tuple[str, ...] = (),
    auxiliary: AuxiliaryLosses | None = None,
) -> Path:
    """Train on a dataset (a path: one of `pi0 convert`), with its statistics; returns the finished checkpoint's folder.

    `config` is a file or a name, `overrides` are its keys as `key=value`, `init` replaces the config's own.
    """
    source = dataset if isinstance(dataset, Dataset) else Dataset(dataset)
    dataset, recipe = source.path, load_recipe(config, overrides)
    if init is not None:
        recipe = dataclasses.replace(recipe, init=str(init))
    sizes = model_config(recipe)
    stats = read_stats(dataset, sizes.action_horizon)
    data = load_data(source, sizes.vision.image_size, recipe.prompts == "subtask")
    return train_on(data, source.robot, stats, recipe, Path(out), resume, {"dataset": dataset.name}, auxiliary)


def train_on(
    data: TrainingData,
    robot: Robot,
    norm_stats: NormStats,
    recipe: Recipe,
    out: Path,
    resume: bool = False,
    notes: Mapping[str, Any] | None = None,
    auxiliary: AuxiliaryLosses | None = None,
) -> Path:
    """Train on arrays; returns the finished checkpoint's folder. `notes` go into its config.json.

    `auxiliary` are the losses beside the flow's that recipes may name.
    """
    checkpoint = out / "checkpoint"
    if checkpoint.exists() and not resume:
        raise RecipeError(f"{checkpoint} exists: go on with --resume, or choose another --out")
    out.mkdir(parents=True, exist_ok=True)

    # Data: what is trained on, what is held out, and how both become tensors.
    run = prepare(data, robot, norm_stats, recipe, out, notes or {}, auxiliary or {})
    position = Position(0, 0, 0.0)
    if resume and checkpoint.exists():
        check_same_run(checkpoint, run.notes)
        if finished(checkpoint):
            print(f"{checkpoint} is finished: nothing to do")
            return checkpoint
        position = read_position(checkpoint)

    # Model: the network with the heads of the auxiliary losses, and the average of all that ever learns.
    learner = new_learner(run)
    learning = {name: p for name, p in learner.named_parameters() if any(learns(name, s) for s in recipe.stages)}
    average = Average(learning)

    stages = list(enumerate(recipe.stages))[position.stage :]
    with Progress(out, [stage.steps for stage in recipe.stages], position, sorted(run.auxiliary)) as progress:
        progress.say(
            f"{sum(p.numel() for p in learner.model.parameters()) / 1e6:.2f} million parameters on {run.device}, "
            f"{torch.get_num_threads()} thread(s); {len(run.train_rows)} frames to train on, "
            f"{len(run.held_out_rows)} held out"
        )
        for number, stage in stages:
            # Optimiser: a fresh one for every stage, which starts from the averaged weights of the one before.
            if number > position.stage:
                position = Position(number, 0, position.seconds)
                average.load_into_network()
            optimizer = new_optimizer(learner, stage, recipe)
            if position.step:
                read_state(checkpoint, learning, average, optimizer, position)

            # Loop: draw a batch, follow its gradient; now and then report, validate, save.
            sampler = Sampler(
                run.train_rows, frame_weights(data, robot, stage)[run.train_rows], recipe.seed, position.stage
            )
            for step in range(position.step, stage.steps):
                start = time.monotonic()
                numbers = train_step(run, stage, step, sampler, learner, optimizer, average)
                position = Position(number, step + 1, position.seconds + time.monotonic() - start)
                progress.count(numbers, stage.batch, position)
                last = position.step == stage.steps
                validated = position.step % recipe.validate_every == 0 or last
                saved = position.step % recipe.save_every == 0 or last
                if position.step % recipe.log_every == 0 or validated or saved:
                    row = {"lr": optimizer.param_groups[0]["lr"], "param_norm": param_norm(learner.model)}
                    progress.report(stage.name, row | (validate(run, stage, learner, average) if validated else {}))
                if saved:
                    save(run, checkpoint, learning, learner, average, optimizer, position, done=False)

    # Save: the finished policy, without what only a resume needs.
    save(run, checkpoint, learning, learner, average, optimizer, position, done=True)
    return checkpoint


def new_learner(run: Run) -> Learner:
    """The network on its device, from `init` or from random weights, with the heads of the auxiliary losses."""
    recipe, config = run.recipe, run.spec.config
    torch.manual_seed(recipe.seed)
    model = Pi0(config) if recipe.init is None else load_model(recipe.init, config=config).model.train()
    if not isinstance(model, Pi0):
        raise RecipeError(f"{recipe.init}: a {config.model} model; pi0 and pi05 can be trained here")
    if recipe.init is None:
        sine_position_init(model)
    learner = Learner(model, run.auxiliary).to(run.device)
    if recipe.compile:
        learner.compile()
    return learner


def learns(name: str, stage: Stage) -> bool:
    """Whether a stage trains the learner's parameter of this name."""
    return not (stage.freeze and name.removeprefix("model.").startswith(stage.freeze))


def new_optimizer(learner: Learner, stage: Stage, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW over what the stage trains; everything else is frozen."""
    for name, parameter in learner.named_parameters():
        parameter.requires_grad_(learns(name, stage))
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
) -> dict[str, Tensor]:
    """One optimiser step; returns its losses and the gradient norm, scalars on the device."""
    random = sampler.generator(step)
    rows = sampler.draw(random, stage.batch)
    batch = draw_batch(run, stage, rows, Augmentation(stage.state_noise, stage.brightness, stage.shift), random)
    rate = learning_rate(step, stage.warmup, stage.decay_steps or stage.steps, stage.lr, stage.final_lr)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad()
    losses = loss_terms(run, stage, forward(run, learner, batch), batch)
    loss = total_loss(stage, losses)
    loss.backward()
    norm = clip_gradients([p for group in optimizer.param_groups for p in group["params"]], run.recipe.clip)
    if not torch.isfinite(loss.detach() + norm):
        raise not_finite(run, stage, step, batch)
    optimizer.step()
    average.update(stage.ema)
    return {"loss": loss.detach(), **{name: value.detach() for name, value in losses.items()}, "grad_norm": norm}


def not_finite(run: Run, stage: Stage, step: int, batch: Batch) -> InputError:
    """What to say and do about a loss that is no number: the weights stay as they were before the step."""
    return InputError(
        f"stage {stage.name}, step {step + 1}: the loss is not finite: lower `lr` (the last save is whole)"
    )


def draw_batch(
    run: Run, stage: Stage, rows: np.ndarray, augmentation: Augmentation, random: np.random.Generator
) -> Batch:
    """Rows of the data as a batch on the device, with noise and times for its flow loss."""
    inputs, actions = make_batch(run.data, run.spec, rows, augmentation, random, run.device)
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
    return {"flow": (sums.flow / whole.flow_count * as_tensor(weights, run.device)).mean(), **terms}


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


def save(
    run: Run,
    checkpoint: Path,
    learning: Mapping[str, nn.Parameter],
    learner: Learner,
    average: Average,
    optimizer: torch.optim.Optimizer,
    position: Position,
    done: bool,
) -> None:
    """Write the checkpoint with the averaged weights; a finished one has no train_state."""
    stage = run.recipe.stages[position.stage]
    progress = {"stage": stage.name, "step": position.step, "seconds": round(position.seconds), "finished": done}
    state = state_tensors(learning, average, optimizer)
    with average.in_place():
        save_checkpoint(
            checkpoint,
            learner.model,
            run.spec.config,
            run.spec.settings,
            run.spec.robot,
            run.spec.norm_stats,
            run.tokenizer_path,
            {**run.notes, **progress},
            None if done else lambda folder: write_state(folder, state, position),
        )
