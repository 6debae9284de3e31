"""The pi0, pi0.5 and pi0-FAST networks alone: tensors in, tensors out."""

from pi0_ros.model.action_tokens import ActionCodec, ActionTokens
from pi0_ros.model.checkpoints import (
    CheckpointError,
    Described,
    Differences,
    LoadedCheckpoint,
    convert_checkpoint,
    describe_checkpoint,
    load_checkpoint,
    verify_checkpoints,
)
from pi0_ros.model.config import ConfigError, Expert, ModelConfig, Vision
from pi0_ros.model.fast import Pi0Fast, build_model
from pi0_ros.model.flow import sample_time
from pi0_ros.model.init import sine_position_init
from pi0_ros.model.pi0 import ModelInput, Pi0, Prefix
from pi0_ros.model.rtc import CleanPrefix, Guidance, SoftPrefix, soft_mask
from pi0_ros.model.tokenizer import Tokenizer, TokenizerError
from pi0_ros.model.weights import WeightsError, load_model, save_model

__all__ = [
    "ActionCodec",
    "ActionTokens",
    "CheckpointError",
    "CleanPrefix",
    "ConfigError",
    "Described",
    "Differences",
    "Expert",
    "Guidance",
    "LoadedCheckpoint",
    "ModelConfig",
    "ModelInput",
    "Pi0",
    "Pi0Fast",
    "Prefix",
    "SoftPrefix",
    "Tokenizer",
    "TokenizerError",
    "Vision",
    "WeightsError",
    "convert_checkpoint",
    "build_model",
    "describe_checkpoint",
    "load_checkpoint",
    "load_model",
    "sample_time",
    "save_model",
    "sine_position_init",
    "soft_mask",
    "verify_checkpoints",
]
