"""From robot units to the model's input and back: one code path for live inference and for training.

Order, as in openpi: count joints as the model does, relative actions -> normalise -> resize images -> tokenise (pi0.5:
the normalised, unpadded state is text) -> pad to the model's width; after the model: cut -> un-normalise -> absolute
actions -> count joints as the robot does.
Shapes: B batch, S and A joints of the robot's state and action, H action horizon, W model action width, L prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch

from pi0_ros.base.side_by_side import side_by_side
from pi0_ros.checkpoints.norm_stats import normalize, unnormalize
from pi0_ros.checkpoints.spec import PolicySpec
from pi0_ros.engine.pictures import Letterbox
from pi0_ros.model.paligemma import ModelInput
from pi0_ros.observation.images import resize_with_pad
from pi0_ros.robot import units


def pad_dim(x: np.ndarray, dim: int) -> np.ndarray:
    """Zeros behind the last axis up to `dim`; never cuts."""
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, max(0, dim - x.shape[-1]))])


def placed(x: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The joints' values [..., K] at their `places` (intp [K]) among the model's dimensions; zeros between them."""
    if np.array_equal(places, np.arange(x.shape[-1])):
        return x
    whole = np.zeros((*x.shape[:-1], int(places.max()) + 1), x.dtype)
    whole[..., places] = x
    return whole


def make_inputs(
    spec: PolicySpec,
    images: Mapping[str, np.ndarray],
    state: np.ndarray,
    prompts: Sequence[str],
    device: torch.device | str = "cpu",
    raw: bool = False,
    written: tuple[np.ndarray, np.ndarray] | None = None,
) -> ModelInput:
    """A batch of observations -> the model's input.

    images: camera name of the robot file -> uint8 [B, h, w, 3] RGB of any size (at the model's size they are taken as
    they are); state: [B, S] robot units; prompts: B strings. ValueError names a missing camera or a wrong shape.
    `raw` leaves the frames uint8, for the engine to resize where it runs; on a CPU they are resized here.
    `written` are the prompts where they are tokens already, int64 [B, L] with their mask bool [B, L].
    A model slot that no camera fills gets black (-1) images and mask False (but True for pi0-FAST, as in openpi).
    """
    config, batch = spec.config, len(prompts)
    state = np.asarray(state, dtype=np.float64)
    if state.shape != (batch, len(spec.robot.state_names)):
        raise ValueError(f"state has shape {state.shape}, expected {(batch, len(spec.robot.state_names))}")
    names = {camera.slot: camera.name for camera in spec.robot.cameras}
    size = config.vision.image_size
    pixels: dict[str, torch.Tensor] = {}
    masks: dict[str, torch.Tensor] = {}
    frames = {slot: _frames(images, names[slot], batch) for slot in config.cameras if slot in names}
    seen = _pictures(frames, size, spec.settings.image_resize, device, raw)
    for slot in config.cameras:
        if slot in seen:
            pixels[slot] = seen[slot]
        else:
            pixels[slot] = torch.full((batch, size, size, 3), -1.0, device=device)
        masks[slot] = torch.full((batch,), slot in names or config.is_fast, dtype=torch.bool, device=device)

    normalized = state_to_model(spec, state)
    tokens, mask = encode_prompts(spec, prompts, normalized) if written is None else written
    return ModelInput(
        images=pixels,
        image_masks=masks,
        prompt_tokens=torch.from_numpy(tokens).to(device),
        prompt_mask=torch.from_numpy(mask).to(device),
        state=_padded(normalized, config.state_width, device),
    )


def state_to_model(spec: PolicySpec, state: np.ndarray) -> np.ndarray:
    """The state [B, S] in robot units -> normalised and at the model's dimensions, float64 without padding behind."""
    scaled = units.state_to_model(spec.robot, settled(spec, state))
    return placed(normalize(scaled, spec.state_stats, spec.settings.state_normalization), spec.robot.state_places)


def encode_prompts(spec: PolicySpec, prompts: Sequence[str], normalized: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the action head reads, for B prompts and states of `state_to_model`: tokens int64 and mask bool, [B, L]."""
    settings = spec.settings
    encoded = [
        spec.tokenizer.encode_prompt(
            spec.config, prompt, row, prompt_format=settings.prompt_format, pad_state_text=settings.pad_state_text
        )
        for prompt, row in zip(prompts, normalized)
    ]
    return np.stack([tokens for tokens, _ in encoded]).astype(np.int64), np.stack([mask for _, mask in encoded])


def actions_to_model(
    spec: PolicySpec, actions: np.ndarray, state: np.ndarray, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """Positions in robot units [B, H, A] and the state [B, S] they start from -> model units, float32 [B, H, W]."""
    scaled = units.actions_to_model(spec.robot, actions, settled(spec, state))
    normalized = normalize(scaled, spec.action_stats, spec.settings.action_normalization)
    return _padded(placed(normalized, spec.robot.action_places), spec.config.action_dim, device)


def actions_from_model(spec: PolicySpec, actions: torch.Tensor, state: np.ndarray) -> np.ndarray:
    """Model output [B, H, W] -> positions, robot units, float64 [B, H, A]; `state` as in `actions_to_model`."""
    cut = actions.detach().float().cpu().numpy()[..., spec.robot.action_places]
    scaled = unnormalize(cut, spec.action_stats, spec.settings.action_normalization)
    return units.actions_from_model(spec.robot, scaled, settled(spec, state))


def settled(spec: PolicySpec, state: np.ndarray) -> np.ndarray:
    """The state [..., S] with continuous joints within half a turn of the middle of their statistics, and rotations by
    the name nearest to it: so a robot that works around the place where its driver's angles jump looks like any
    other."""
    space = spec.robot.state_space
    if space.plain:
        return state
    counts = spec.state_stats.middle(len(space.turning))
    middle = np.array([joint.state_scale.from_model(count) for joint, count in zip(spec.robot.state_joints, counts)])
    return space.nearest(state, middle)


def _frames(images: Mapping[str, np.ndarray], camera: str, batch: int) -> np.ndarray:
    """The camera's images, uint8 [B, h, w, 3]."""
    if camera not in images:
        raise ValueError(f"no image of camera '{camera}' (given: {', '.join(sorted(images)) or 'none'})")
    frames = np.asarray(images[camera])
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[0] != batch or frames.shape[3] != 3:
        raise ValueError(f"camera '{camera}': {frames.dtype} {list(frames.shape)}, expected uint8 [{batch}, h, w, 3]")
    return frames


def _pictures(
    frames: Mapping[str, np.ndarray], size: int, resize: str, device: torch.device | str, raw: bool = False
) -> dict[str, torch.Tensor]:
    """Of each slot, uint8 [B, h, w, 3] -> float32 [B, size, size, 3] in -1 .. 1 with black bars; or still `raw`."""
    on_cpu = not raw or torch.device(device).type == "cpu"  # there Pillow is ten times as fast as a GPU's way
    if on_cpu and resize == "pillow" and any(several.shape[1:3] != (size, size) for several in frames.values()):
        small = partial(resize_with_pad, height=size, width=size)
        fitted = iter(side_by_side(small, [frame for several in frames.values() for frame in several]))
        frames = {slot: np.stack([next(fitted) for _ in several]) for slot, several in frames.items()}
    owned = {slot: _owned(several, device) for slot, several in frames.items()}
    if raw:
        return owned
    return {slot: Letterbox(one.shape[1], one.shape[2], size, resize, one.device)(one) for slot, one in owned.items()}


def _owned(frames: np.ndarray, device: torch.device | str) -> torch.Tensor:
    """The frames as a tensor of their own: those read from a message are read-only."""
    return torch.from_numpy(np.require(frames, requirements=["C", "W"])).to(device)


def _padded(x: np.ndarray, dim: int, device: torch.device | str) -> torch.Tensor:
    return torch.from_numpy(pad_dim(x, dim).astype(np.float32)).to(device)
