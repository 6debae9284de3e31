"""From robot units to the model's input and back: one code path for live inference and for training.

Order, as in openpi: relative actions -> normalise -> resize images -> tokenise (pi0.5: the normalised, unpadded state
is text) -> pad to the model's width; after the model: cut -> un-normalise -> absolute actions.
Shapes: B batch, J joints of the robot file, H action horizon, A model action width, S image size, L prompt length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pi0_ros.images import resize_with_pad
from pi0_ros.model.config import ModelConfig
from pi0_ros.model.pi0 import ModelInput
from pi0_ros.model.tokenizer import Tokenizer
from pi0_ros.norm import NormStats, normalize, unnormalize
from pi0_ros.robot import Robot
from pi0_ros.settings import PolicySettings


@dataclass(frozen=True)
class PolicySpec:
    """Everything that turns robot data into model data. ValueError when the parts do not fit together."""

    config: ModelConfig
    settings: PolicySettings
    robot: Robot
    norm_stats: NormStats
    tokenizer: Tokenizer

    def __post_init__(self) -> None:
        joints, width = len(self.robot.joints), self.config.action_dim
        if joints > width:
            raise ValueError(f"robot '{self.robot.name}' has {joints} joints, the model's action_dim is only {width}")
        for key, stats in (("state", self.norm_stats.state), ("actions", self.norm_stats.actions)):
            if stats.dim != joints:
                raise ValueError(
                    f"norm_stats.{key} has {stats.dim} dimensions, robot '{self.robot.name}' has {joints} joints: "
                    "compute the statistics with this robot file (`pi0 stats`)"
                )
        pieces, rows = self.tokenizer.vocab_size, self.config.vocab_size
        if pieces > rows:
            raise ValueError(f"the tokenizer has {pieces} pieces, the model's vocab_size is only {rows}")
        for camera in self.robot.cameras:
            if camera.slot not in self.config.cameras:
                raise ValueError(
                    f"camera '{camera.name}' of robot '{self.robot.name}' fills slot '{camera.slot}', "
                    f"the model has {', '.join(self.config.cameras)}"
                )

    @property
    def fps(self) -> float:
        """Actions per second: what the checkpoint says, else the rate of the robot's data."""
        return self.settings.fps or self.robot.dataset_fps


def to_relative(actions: np.ndarray, state: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Absolute actions [..., H, J] -> relative to `state` [..., J] where `mask` [J]; every step to the same state."""
    return actions - np.where(mask, state, 0.0)[..., None, :]


def to_absolute(actions: np.ndarray, state: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The inverse of `to_relative`."""
    return actions + np.where(mask, state, 0.0)[..., None, :]


def pad_dim(x: np.ndarray, dim: int) -> np.ndarray:
    """Zeros behind the last axis up to `dim`; never cuts."""
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, max(0, dim - x.shape[-1]))])


def make_inputs(
    spec: PolicySpec,
    images: Mapping[str, np.ndarray],
    state: np.ndarray,
    prompts: Sequence[str],
    device: torch.device | str = "cpu",
) -> ModelInput:
    """A batch of observations -> the model's input.

    images: camera name of the robot file -> uint8 [B, h, w, 3] RGB of any size (at the model's size they are taken as
    they are); state: [B, J] robot units; prompts: B strings. ValueError names a missing camera or a wrong shape.
    A model slot that no camera fills gets black (-1) images and mask False.
    """
    config, batch = spec.config, len(prompts)
    state = np.asarray(state, dtype=np.float64)
    if state.shape != (batch, len(spec.robot.joints)):
        raise ValueError(f"state has shape {state.shape}, expected {(batch, len(spec.robot.joints))}")
    names = {camera.slot: camera.name for camera in spec.robot.cameras}
    size = config.vision.image_size
    pixels: dict[str, torch.Tensor] = {}
    masks: dict[str, torch.Tensor] = {}
    for slot in config.cameras:
        if slot in names:
            pixels[slot] = _to_unit_range(_resized(images, names[slot], batch, size), device)
        else:
            pixels[slot] = torch.full((batch, size, size, 3), -1.0, device=device)
        masks[slot] = torch.full((batch,), slot in names, dtype=torch.bool, device=device)

    normalized = normalize(state, spec.norm_stats.state, spec.settings.state_normalization)
    encoded = [spec.tokenizer.encode_prompt(config, prompt, row) for prompt, row in zip(prompts, normalized)]
    return ModelInput(
        images=pixels,
        image_masks=masks,
        prompt_tokens=torch.from_numpy(np.stack([tokens for tokens, _ in encoded]).astype(np.int64)).to(device),
        prompt_mask=torch.from_numpy(np.stack([mask for _, mask in encoded]).astype(bool)).to(device),
        state=_padded(normalized, config.action_dim, device),
    )


def actions_to_model(
    spec: PolicySpec, actions: np.ndarray, state: np.ndarray, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """Absolute actions [B, H, J] and the state [B, J] they start from -> model units, float32 [B, H, A]."""
    relative = to_relative(np.asarray(actions, np.float64), np.asarray(state, np.float64), spec.robot.relative_mask)
    normalized = normalize(relative, spec.norm_stats.actions, spec.settings.action_normalization)
    return _padded(normalized, spec.config.action_dim, device)


def actions_from_model(spec: PolicySpec, actions: torch.Tensor, state: np.ndarray) -> np.ndarray:
    """Model output [B, H, A] -> absolute actions, robot units, float64 [B, H, J]; `state` as in `actions_to_model`."""
    cut = actions.detach().float().cpu().numpy()[..., : len(spec.robot.joints)]
    relative = unnormalize(cut, spec.norm_stats.actions, spec.settings.action_normalization)
    return to_absolute(relative, np.asarray(state, np.float64), spec.robot.relative_mask)


def _resized(images: Mapping[str, np.ndarray], camera: str, batch: int, size: int) -> np.ndarray:
    if camera not in images:
        raise ValueError(f"no image of camera '{camera}' (given: {', '.join(sorted(images)) or 'none'})")
    frames = np.asarray(images[camera])
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[0] != batch or frames.shape[3] != 3:
        raise ValueError(f"camera '{camera}': {frames.dtype} {list(frames.shape)}, expected uint8 [{batch}, h, w, 3]")
    if frames.shape[1:3] == (size, size):
        return frames
    return np.stack([resize_with_pad(frame, size, size) for frame in frames])


def _to_unit_range(frames: np.ndarray, device: torch.device | str) -> torch.Tensor:
    owned = np.require(frames, requirements=["C", "W"])  # frames read from a message are read-only: torch wants to own
    return torch.from_numpy(owned).to(device).to(torch.float32) / 255.0 * 2.0 - 1.0


def _padded(x: np.ndarray, dim: int, device: torch.device | str) -> torch.Tensor:
    return torch.from_numpy(pad_dim(x, dim).astype(np.float32)).to(device)
