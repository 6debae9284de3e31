"""How often each frame is drawn: more often around the moments when a gripper closes or opens, or in takeovers."""

from __future__ import annotations

import numpy as np

from pi0_ros.base.errors import InputError
from pi0_ros.robot import Robot
from pi0_ros.training.loader import TrainingData
from pi0_ros.training.mixture import Mixture
from pi0_ros.training.recipe import Stage

CLOSED = 0.5  # a gripper command above this (0 open .. 1 closed) means "closed"


def gripper_events(command: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frames where any gripper's command (float [T,G], 0 open .. 1 closed) changes sides, and what it does there.

    Returns frames int64 [E], ascending, and events int64 [E]: 0 closes, 1 opens.
    """
    closed = command > CLOSED
    frames, grippers = np.nonzero(closed[1:] != closed[:-1])
    return frames + 1, np.where(closed[frames + 1, grippers], 0, 1)


def mixed_weights(mixture: Mixture, rows: np.ndarray, stage: Stage) -> np.ndarray:
    """How often each of these rows [N] of a mixture is drawn, float64 [N]: each part has its share in all."""
    if stage.takeover_weight != 1.0 and all(part.data.takeover is None for part in mixture.parts):
        raise InputError(
            "takeover_weight: the dataset has no column `takeover`: convert with `pi0 convert --corrections`, and "
            "merge the demonstrations with that, or train on both"
        )
    weights = np.zeros(len(rows))
    for part, places, local in mixture.split(rows):
        own = frame_weights(part.data, part.spec.robot, stage)[local]
        if len(mixture.parts) > 1 and own.sum() > 0:
            own *= part.share / own.sum()
        weights[places] = own
    return weights


def frame_weights(data: TrainingData, robot: Robot, stage: Stage) -> np.ndarray:
    """How often each frame is drawn relative to the others, float64 [N]."""
    weights = np.ones(data.length)
    if stage.takeover_weight != 1.0 and data.takeover is not None:
        weights[data.takeover] *= stage.takeover_weight
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
