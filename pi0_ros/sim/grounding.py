"""Grounding, an auxiliary loss: a head that finds the named cube teaches the vision, and is thrown away afterwards.

A small policy that is trained on actions alone learns the motion long before it learns where its target is. The
recorded episodes already hold the answer: wherever the gripper closes next, the arm joints say where the named object
lay (a hindsight label). A small head regresses those joints from images and instruction only, out of the hidden states
that the action expert can attend to, so what it teaches is in reach of the policy. The head is never shipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pi0_ros.base.errors import InputError
from pi0_ros.model.config import ModelConfig
from pi0_ros.model.paligemma import ModelInput
from pi0_ros.model.pi0 import Prefix
from pi0_ros.robot import Robot
from pi0_ros.training.frame_weights import gripper_events
from pi0_ros.training.loader import TrainingData


@dataclass(frozen=True)
class GraspTargets:
    """For every frame the arm joints at the next gripper event of its episode.

    joints: float32 [N,A], arm joints at that event as (position - mean[event]) / scale; 0 where not valid.
    event: int64 [N], 0 = the gripper closes next, 1 = it opens next.
    valid: bool [N], False after the episode's last event.
    mean: float32 [2,A] and scale: float32 [A], in the robot's units. Joints of one unit share one scale, the root mean
        square deviation at closings, so the loss weighs joints alike and guessing the mean scores 1.
    arm: int64 [A], indices of the arm joints in the robot's joint order.
    """

    joints: np.ndarray
    event: np.ndarray
    valid: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    arm: np.ndarray


def grasp_targets(data: TrainingData, robot: Robot, rows: np.ndarray | None = None) -> GraspTargets:
    """Hindsight labels of every frame; mean and scale come from `rows` (the training split) where given.

    Raises ValueError where no training episode ever closes a gripper: there is nothing to learn from.
    """
    arm = np.flatnonzero(~robot.gripper_mask)
    frame = np.full(data.length, -1)
    event = np.zeros(data.length, np.int64)
    for start, stop in data.spans:
        frames, events = gripper_events(data.action[start:stop, robot.gripper_mask])
        if len(frames) == 0:
            continue
        following = np.searchsorted(frames, np.arange(stop - start))
        known = np.flatnonzero(following < len(frames))
        frame[start + known] = start + frames[following[known]]
        event[start + known] = events[following[known]]
    valid = frame >= 0
    position = data.state[np.maximum(frame, 0)][:, arm].astype(np.float64)

    used = valid.copy() if rows is None else valid & np.isin(np.arange(data.length), rows)
    if not (used & (event == 0)).any():
        raise InputError(
            "no training episode closes a gripper: take `grounding` out of every stage of the training config"
        )
    mean = np.stack(
        [
            position[used & (event == kind)].mean(0) if (used & (event == kind)).any() else np.zeros(len(arm))
            for kind in (0, 1)
        ]
    )
    deviation = position[used & (event == 0)].std(0)
    units = np.array([robot.action_joints[j].unit for j in arm])
    scale = np.empty(len(arm))
    for unit in set(units.tolist()):
        scale[units == unit] = max(float(np.sqrt(np.mean(deviation[units == unit] ** 2))), 1e-3)
    joints = np.where(valid[:, None], (position - mean[event]) / scale, 0.0)
    return GraspTargets(joints.astype(np.float32), event, valid, mean.astype(np.float32), scale.astype(np.float32), arm)


class GroundingHead(nn.Module):
    """Mean of the valid prompt tokens' hidden states -> arm joints at the next closing and the next opening."""

    def __init__(self, width: int, arm_joints: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.hidden = nn.Linear(width, 2 * width)
        self.out = nn.Linear(2 * width, 2 * arm_joints)

    def forward(self, hidden: Tensor, prompt_mask: Tensor) -> Tensor:
        """hidden [B,P,D] of the whole prefix (the prompt comes last), prompt_mask bool [B,L] -> [B,2,A]."""
        weight = prompt_mask.to(hidden.dtype)[..., None]
        pooled = (hidden[:, -prompt_mask.shape[1] :] * weight).sum(1) / weight.sum(1).clamp(min=1.0)
        return self.out(nn.functional.gelu(self.hidden(self.norm(pooled)))).unflatten(-1, (2, -1))


def grounding_errors(predicted: Tensor, joints: Tensor, event: Tensor) -> Tensor:
    """Mean squared error of each row [B]: predicted [B,2,A], joints [B,A], event int64 [B]."""
    chosen = predicted[torch.arange(len(event), device=event.device), event]
    return (chosen - joints).square().mean(-1)


def grasp_error(predicted: np.ndarray, rows: np.ndarray, targets: GraspTargets) -> float:
    """Root mean square error over the rows whose gripper closes next, in units of the guess-the-mean error.

    predicted: [n,2,A] of rows int64 [n]. 1 = no better than guessing; nan where no row has a closing ahead.
    """
    ahead = targets.valid[rows] & (targets.event[rows] == 0)
    difference = predicted[ahead, 0] - targets.joints[rows[ahead]]
    return float(np.sqrt(np.mean(difference**2))) if ahead.any() else float("nan")


class Grounding:
    """The auxiliary loss `grounding` of `pi0 train`: a head on the prompt learns the hindsight labels."""

    def __init__(self, data: TrainingData, robot: Robot, rows: np.ndarray, config: ModelConfig) -> None:
        self.targets = grasp_targets(data, robot, rows)
        self.head: nn.Module = GroundingHead(config.vlm.width, len(self.targets.arm))

    def labels(self, rows: np.ndarray) -> tuple[np.ndarray, ...]:
        """Joints [B,A], event [B] and 1 for rows with an event ahead, else 0."""
        return self.targets.joints[rows], self.targets.event[rows], self.targets.valid[rows].astype(np.float32)

    def answers(self, prefix: Prefix, inputs: ModelInput) -> Tensor:
        """Joints [B,2,A] at the next closing and the next opening."""
        answers: Tensor = self.head(prefix.hidden.float(), inputs.prompt_mask)
        return answers

    def errors(self, answers: Tensor, labels: Sequence[Tensor]) -> Tensor:
        """Mean squared error per row [B]."""
        return grounding_errors(answers, labels[0], labels[1])

    def score(self, answers: np.ndarray, rows: np.ndarray) -> float:
        """`grasp_error`: 1 = guessing."""
        return grasp_error(answers, rows, self.targets)
