"""Predicted against recorded actions: one chunk every few frames, errors per joint, and a picture of an episode."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from pi0_ros.checkpoints.checkpoint import Checkpoint
from pi0_ros.policy.transforms import actions_from_model, make_inputs
from pi0_ros.robot import Robot
from pi0_ros.training.fingerprints import episode_fingerprint
from pi0_ros.training.loader import TrainingData, chunk_rows

BATCH = 32  # chunks predicted together


@dataclass(frozen=True)
class Predictions:
    """Chunks predicted from n rows of a dataset, robot units and joint order.

    rows: int64 [n]; predicted, recorded: float64 [n,H,A] absolute; held: float64 [n,A], the state that the chunk starts
    from; seconds: of computation for all of them.
    """

    rows: np.ndarray
    predicted: np.ndarray
    recorded: np.ndarray
    held: np.ndarray
    seconds: float


def predict(
    checkpoint: Checkpoint, data: TrainingData, episodes: Sequence[int], stride: int, seed: int = 0
) -> Predictions:
    """Sample one chunk every `stride` frames of these episodes, from the recorded observations."""
    spec = checkpoint.spec
    device = next(checkpoint.model.parameters()).device
    rows = np.concatenate([np.arange(*data.spans[episode], stride) for episode in episodes])
    shape = (spec.config.action_horizon, spec.config.action_dim)
    generator = torch.Generator().manual_seed(seed)
    predicted = []
    start = time.perf_counter()
    for part in tqdm(np.array_split(rows, -(-len(rows) // BATCH)), unit="batch", leave=False, disable=None):
        state = data.state[part].astype(np.float64)
        images = {name: np.asarray(frames[part]) for name, frames in data.frames.items()}
        inputs = make_inputs(spec, images, state, data.prompts_of(part), device)
        noise = spec.settings.noise_scale * torch.randn(len(part), *shape, generator=generator).to(device)
        sampled = checkpoint.model.sample_actions(inputs, noise, spec.settings.num_steps)
        predicted.append(actions_from_model(spec, sampled, state))
    seconds = time.perf_counter() - start
    found, space = np.concatenate(predicted), spec.robot.action_space
    recorded = data.action[chunk_rows(data, rows, shape[0])].astype(np.float64)
    recorded = space.nearest(recorded, found)
    held = _held(spec.robot, data.state[rows].astype(np.float64), recorded)
    return Predictions(rows, found, recorded, space.nearest(held, recorded[:, 0]), seconds)


def _held(robot: Robot, state: np.ndarray, recorded: np.ndarray) -> np.ndarray:
    """Where the joints of the action are, float64 [N, A]; for one without a state, the first recorded action."""
    held = recorded[:, 0].copy()
    for index, joint in enumerate(robot.action_joints):
        if joint.role == "both":
            held[:, index] = state[:, robot.state_names.index(joint.name)]
    return held


def errors(predictions: Predictions, joints: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """One row per joint (name, unit), and one over all: mean absolute error, its 95 % quantile, the error of the first
    and of the last action, all in the joint's unit, and the error relative to holding still (1 = no better)."""
    difference = np.abs(predictions.predicted - predictions.recorded)
    holding = np.abs(predictions.held[:, None] - predictions.recorded)
    table: list[dict[str, Any]] = [
        {
            "joint": name,
            "unit": unit,
            "mean": float(difference[..., j].mean()),
            "p95": float(np.quantile(difference[..., j], 0.95)),
            "first": float(difference[:, 0, j].mean()),
            "last": float(difference[:, -1, j].mean()),
            "of_holding": float(difference[..., j].mean() / max(holding[..., j].mean(), 1e-9)),
        }
        for j, (name, unit) in enumerate(joints)
    ]
    moving = [row["of_holding"] for j, row in enumerate(table) if holding[..., j].mean() > 1e-3]
    return [*table, {"joint": "all that move", "unit": "", "of_holding": float(np.mean(moving)) if moving else None}]


def render_table(table: Sequence[dict[str, Any]]) -> str:
    """The error table as text."""
    lines = [f"{'joint':>16s} {'mean':>9s} {'p95':>9s} {'first':>9s} {'last':>9s} {'of holding':>11s}  unit"]
    for row in table:
        numbers = " ".join(f"{row[key]:9.4f}" if key in row else " " * 9 for key in ("mean", "p95", "first", "last"))
        ratio = "" if row["of_holding"] is None else f"{row['of_holding']:.0%}"
        lines.append(f"{row['joint']:>16s} {numbers} {ratio:>11s}  {row['unit']}")
    return "\n".join(lines)


def plot_actions(
    predictions: Predictions, data: TrainingData, episode: int, joints: Sequence[tuple[str, str]], png: Path
) -> None:
    """Draw one episode: the recorded action of every joint over time, and the predicted chunks on top."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    start, stop = data.spans[episode]
    seconds = np.arange(stop - start) / data.fps
    figure = Figure(figsize=(10, 1.7 * len(joints) + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    all_axes = figure.subplots(len(joints), sharex=True, squeeze=False)[:, 0]
    for j, (axes, (name, unit)) in enumerate(zip(all_axes, joints, strict=True)):
        axes.plot(seconds, data.action[start:stop, j], color="black", linewidth=1.5, label="recorded")
        for k in np.flatnonzero(data.episode[predictions.rows] == episode):
            first = predictions.rows[k] - start
            chunk = predictions.predicted[k, : len(seconds) - first, j]
            label = "predicted" if first == 0 else None
            axes.plot(seconds[first : first + len(chunk)], chunk, color="tab:orange", alpha=0.7, label=label)
        axes.set_ylabel(f"{name} ({unit})")
        axes.grid(alpha=0.3)
    all_axes[0].legend(fontsize="small")
    all_axes[0].set_title(f"episode {episode}: {data.prompts[episode]}")
    all_axes[-1].set_xlabel("time (s)")
    figure.savefig(png, dpi=100)


def held_out_episodes(checkpoint: Checkpoint, data: TrainingData) -> list[int]:
    """The episodes that this checkpoint's training held out, recognised by their numbers; all, if none is here."""
    held_out = set(checkpoint.training.get("held_out_fingerprints", ()))
    found = [
        i
        for i, (start, stop) in enumerate(data.spans)
        if episode_fingerprint(data.state[start:stop], data.action[start:stop]) in held_out
    ]
    return found or list(range(len(data.prompts)))
