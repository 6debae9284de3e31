"""What the model really sees: some frames of the first batch as one picture, after all transforms and augmentation."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from pi0_ros.training.objective import Batch
from pi0_ros.training.run import Run

NAME = "first_batch.png"
ROWS = 4  # frames on the sheet


def draw_sheet(run: Run, batch: Batch, png: Path) -> np.ndarray:
    """Write the frames of a small batch, a row each, to `png`; returns its pixels, uint8 [H,W,3].

    A row holds the images, the prompt as its tokens read, and state and action chunk in normalised units.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    slots = sorted(batch.inputs.images)
    columns, count = len(slots) + 2, len(batch.rows)
    figure = Figure(figsize=(2.6 * len(slots) + 7, 2.5 * count + 0.6), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    shapes = [1.0] * len(slots) + [1.2, 1.8]
    grid = figure.subplots(count, columns, squeeze=False, gridspec_kw={"width_ratios": shapes})
    state = batch.inputs.state.float().cpu().numpy()
    actions = None if batch.actions is None else batch.actions.float().cpu().numpy()
    for i, (axes, row) in enumerate(zip(grid, batch.rows, strict=True)):
        robot = run.mixture.at(row)[0].spec.robot
        for axis, slot in zip(axes, slots, strict=False):
            pixels = (batch.inputs.images[slot][i].float().cpu().numpy() + 1) / 2
            axis.imshow(np.clip(pixels, 0, 1))
            axis.set_axis_off()
            axis.set_title(slot if batch.inputs.image_masks[slot][i] else f"{slot}: masked", fontsize=8)
        tokens = batch.inputs.prompt_tokens[i][batch.inputs.prompt_mask[i]].tolist()
        limited = run.spec.settings.state_normalization == "quantile"
        _state(axes[-2], state[i][robot.state_places], robot.state_names, limited)
        axes[-2].set_title(f"{run.mixture.where(row)}: state", fontsize=8)
        text = textwrap.fill(run.spec.tokenizer.decode(tokens).strip(), 60, max_lines=3)
        axes[-1].set_title(f"“{text}”", fontsize=8, parse_math=False)
        if actions is None:
            axes[-1].set_axis_off()
        else:
            axes[-1].plot(actions[i][:, robot.action_places], linewidth=1)
            axes[-1].axhline(0, color="grey", linewidth=0.5)
            if i == 0 or len(run.mixture.parts) > 1:
                axes[-1].legend(robot.action_names, fontsize=6, loc="upper right")
        axes[-1].tick_params(labelsize=7)
    if actions is not None:
        grid[-1, -1].set_xlabel("action of the chunk, as the model counts it", fontsize=8)
    canvas.draw()
    figure.savefig(png, dpi=canvas.figure.dpi)
    drawn: np.ndarray = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    return drawn


def _state(axes: Any, values: np.ndarray, names: tuple[str, ...], limited: bool) -> None:
    """A bar per joint; red outside of -1 .. 1, where few should be (`limited`: quantiles)."""
    axes.barh(range(len(values)), values, color=np.where((np.abs(values) > 1) & limited, "tab:red", "tab:blue"))
    axes.set_yticks(range(len(values)), names, fontsize=6)
    axes.set_xlim(-max(1.5, np.abs(values).max(initial=0) * 1.05), max(1.5, np.abs(values).max(initial=0) * 1.05))
    axes.axvline(-1, color="grey", linewidth=0.5, linestyle=":")
    axes.axvline(1, color="grey", linewidth=0.5, linestyle=":")
    axes.invert_yaxis()
    axes.tick_params(axis="x", labelsize=7)
