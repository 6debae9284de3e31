"""The keys that LeRobot writes into a policy's config.json, 0.3.3 to 0.6.2: a key that is not here may mean anything.

Taken from the config classes of pi0, pi0.5 and pi0-FAST of every release. What they mean for the actions is read in
`lerobot.py` or refused there; the rest says how to train, where to run and what to publish.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# fmt: off
# Read or refused here.
MEANT = frozenset(
    {
        "type", "input_features", "output_features", "normalization_mapping", "chunk_size", "n_action_steps",
        "n_obs_steps", "max_state_dim", "max_action_dim", "image_resolution", "resize_imgs_with_padding",
        "empty_cameras", "tokenizer_max_length", "num_inference_steps", "num_steps", "min_period", "max_period",
        "rtc_training_max_delay", "use_relative_actions", "relative_exclude_joints", "action_feature_names",
        "adapt_to_pi_aloha", "use_delta_joint_actions_aloha", "use_visual_memory", "use_proprioceptive_memory",
        "use_peft", "fast_skip_tokens", "temperature",
    }
)
# Sizes that tensors tell, speed, sampling of the caller.
OF_RUNNING = frozenset(
    {
        "paligemma_variant", "action_expert_variant", "proj_width", "dtype", "precision", "device", "use_amp",
        "compile_model", "compile_mode", "attention_implementation", "use_cache", "use_kv_cache", "rtc_config",
        "max_action_tokens", "max_decoding_steps", "validate_action_token_prefix", "relaxed_action_decoding",
        "text_tokenizer_name", "action_tokenizer_name", "max_input_seq_len", "padding_side", "interpolate_like_pi",
        "memory_frames", "memory_stride", "memory_temporal_attention_every", "pretrained_path",
        "pretrained_revision", "checkpoint_path",
    }
)
OF_TRAINING = frozenset(
    {
        "freeze_vision_encoder", "train_expert_only", "train_state_proj", "freeze_lm_head",
        "gradient_checkpointing", "grad_clip_norm", "optimizer_lr", "optimizer_betas", "optimizer_eps",
        "optimizer_weight_decay", "optimizer_grad_clip_norm", "scheduler_warmup_steps", "scheduler_decay_steps",
        "scheduler_decay_lr", "time_sampling_beta_alpha", "time_sampling_beta_beta", "time_sampling_scale",
        "time_sampling_offset", "push_to_hub", "repo_id", "private", "tags", "license",
    }
)
# fmt: on
KNOWN = MEANT | OF_RUNNING | OF_TRAINING
NEWEST = "0.6.2"
_SINCE_07 = "trackio"  # in train_config.json, where earlier ones have `wandb`


def unknown_keys(config: Mapping[str, Any]) -> list[str]:
    """The keys of a config.json that no release up to `NEWEST` writes; what is null or false does nothing."""
    return sorted(key for key, value in config.items() if key not in KNOWN and value not in (None, False))


def trained_by_a_newer_one(trainer: Mapping[str, Any]) -> bool:
    """Whether this train_config.json is that of LeRobot 0.7 or later."""
    return _SINCE_07 in trainer
