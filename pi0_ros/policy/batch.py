"""Several observations in one pass of the network, and how far its answers are from single ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch

from pi0_ros.checkpoints.spec import PolicySpec
from pi0_ros.control.chunk import ActionChunk
from pi0_ros.inference.backend import Request
from pi0_ros.inference.metadata import Metadata
from pi0_ros.inference.prefix import ActionPrefix, RtcSettings
from pi0_ros.model.paligemma import ModelInput
from pi0_ros.model.rtc import CleanPrefix, Guidance, SoftPrefix
from pi0_ros.observation.streams import Observation
from pi0_ros.policy.transforms import make_inputs

MOST_APART = 1e-5  # robot units, between an answer of a batch and a single one


class Batching(Protocol):
    """A policy that infers for one observation or several."""

    metadata: Metadata

    def infer(self, observation: Observation, prefix: ActionPrefix | None = None) -> ActionChunk:
        """One."""

    def infer_many(self, requests: Sequence[Request]) -> list[ActionChunk]:
        """Several."""


def joined_inputs(spec: PolicySpec, observations: Sequence[Observation], device: torch.device) -> ModelInput:
    """The observations as one batch; their frames may differ in size."""
    rows = [
        make_inputs(
            spec, {name: image[None] for name, image in one.images.items()}, one.state[None], [one.prompt], device
        )
        for one in observations
    ]
    return ModelInput(
        images={slot: torch.cat([row.images[slot] for row in rows]) for slot in rows[0].images},
        image_masks={slot: torch.cat([row.image_masks[slot] for row in rows]) for slot in rows[0].image_masks},
        prompt_tokens=torch.cat([row.prompt_tokens for row in rows]),
        prompt_mask=torch.cat([row.prompt_mask for row in rows]),
        state=torch.cat([row.state for row in rows]),
    )


def kind_of(guidance: Guidance | None) -> tuple[object, ...]:
    """Equal for guidances that one batch can follow."""
    if isinstance(guidance, SoftPrefix):
        return "soft", guidance.max_weight, guidance.jacobian
    if isinstance(guidance, CleanPrefix):
        return "clean", guidance.actions.shape[1]
    return ("none",)


def stacked(guidances: Sequence[Guidance | None]) -> Guidance | None:
    """Guidances of one kind as that of their batch."""
    first = guidances[0]
    if isinstance(first, SoftPrefix):
        soft = [one for one in guidances if isinstance(one, SoftPrefix)]
        weights = [one.weights.expand(one.actions.shape) for one in soft]
        return replace(first, actions=torch.cat([one.actions for one in soft]), weights=torch.cat(weights))
    if isinstance(first, CleanPrefix):
        return CleanPrefix(torch.cat([one.actions for one in guidances if isinstance(one, CleanPrefix)]))
    return None


def apart(policy: Batching, count: int, seed: int = 0) -> float:
    """How far `count` answers of one batch are from single ones at most, robot units; plain and continuing others."""
    robot, size = policy.metadata.robot, policy.metadata.image_size
    random = np.random.default_rng(seed)
    lower, upper = (np.array([getattr(joint, end) for joint in robot.state_joints]) for end in ("lower", "upper"))
    middle = np.array([joint.neutral for joint in robot.state_joints])
    worst = 0.0
    for continuing in (False, True):
        requests: list[Request] = []
        for number in range(count):
            images = {camera.name: random.integers(0, 256, (size, size, 3), np.uint8) for camera in robot.cameras}
            state = middle + 0.1 * random.random(len(middle)) * np.minimum(upper - middle, 1.0)
            observation = Observation(number + 1, images, state, robot.prompt or f"task {number}", {})
            prefix = None
            if continuing:
                still = np.array([joint.neutral for joint in robot.action_joints])
                prefix = ActionPrefix(still[None], 1.0 / policy.metadata.fps, 1, RtcSettings("exact"))
            requests.append((observation, prefix))
        singles = [policy.infer(*request) for request in requests]
        for single, together in zip(singles, policy.infer_many(requests), strict=True):
            worst = max(worst, float(np.abs(single.actions - together.actions).max()))
    return worst
