"""From what was sent, in robot units, to the model's guidance: re-anchored to the present state, and masked."""

from __future__ import annotations

import functools
import logging

import numpy as np
import torch

from pi0_ros.checkpoints.spec import PolicySpec
from pi0_ros.inference.prefix import ActionPrefix
from pi0_ros.model.rtc import CleanPrefix, Guidance, SoftPrefix, soft_mask
from pi0_ros.policy.transforms import actions_to_model, pad_dim, placed

log = logging.getLogger("pi0 rtc")


def make_guidance(
    spec: PolicySpec, prefix: ActionPrefix | None, state: np.ndarray, device: torch.device | str = "cpu"
) -> Guidance | None:
    """The guidance toward `prefix` for an observation with `state` [J]; None where there is nothing to continue.

    ValueError when the prefix is not this robot's. Mode `trained` goes as far as the checkpoint was trained.
    """
    if spec.config.is_fast:
        return None  # its actions are text: nothing is denoised that could be guided
    if prefix is None or prefix.settings.mode == "off" or abs(prefix.dt * spec.fps - 1) > 1e-3:
        return None  # a prefix of other steps is of the policy before this one
    horizon, joints = spec.config.action_horizon, len(spec.robot.action_names)
    if prefix.actions.ndim != 2 or prefix.actions.shape[1] != joints:
        raise ValueError(f"the prefix has shape {list(prefix.actions.shape)}, the robot has {joints} joints")
    given = prefix.actions[:horizon]
    known = np.isfinite(given).all(1)
    mode = prefix.settings.mode
    if mode == "auto":
        mode = "trained" if spec.settings.rtc_trained_max_delay else "exact"
    if mode == "trained":
        return _clean(spec, given, known, prefix.delay, state, device)
    end = prefix.settings.mask_end or int(known.nonzero()[0].max(initial=-1)) + 1
    mask = soft_mask(prefix.settings.schedule, prefix.delay, end, horizon)
    rows = np.full((horizon + 1, joints), np.nan)  # one unknown action more shows which dimensions are a joint's
    rows[: len(given)][known] = given[known]
    model = actions_to_model(spec, rows[None], state[None], device)[0]
    used = model[:horizon].isfinite() & model[horizon].isnan()
    if not used.any():
        return None
    switches = placed(spec.robot.gripper_mask, spec.robot.action_places)
    gripper = torch.from_numpy(pad_dim(switches, spec.config.action_dim)).to(used.device)
    used[prefix.delay :, gripper] = False  # they switch: a plan to stay open must not put off the moment to close
    weights, jacobian = mask[:, None].to(device) * used, mode == "exact"
    return SoftPrefix(model[None, :horizon], weights, prefix.settings.max_guidance_weight, jacobian)


def _clean(
    spec: PolicySpec, given: np.ndarray, known: np.ndarray, delay: int, state: np.ndarray, device: torch.device | str
) -> Guidance | None:
    limit = spec.settings.rtc_trained_max_delay
    if delay > limit:
        _say_late(delay, limit)
    unknown = np.flatnonzero(~known)
    delay = min(delay, limit, int(unknown[0]) if len(unknown) else len(known), spec.config.action_horizon - 1)
    return CleanPrefix(actions_to_model(spec, given[None, :delay], state[None], device)) if delay else None


@functools.lru_cache(maxsize=64)  # said once, not with every chunk
def _say_late(delay: int, limit: int) -> None:
    log.warning("%d actions pass before a chunk takes over, the checkpoint was trained for %d at most", delay, limit)
