"""Checkpoints of every public pi0 format: described, loaded, converted and compared."""

from pi0_ros.model.checkpoints.convert import TARGETS, Conversion, convert_checkpoint, plan_conversion
from pi0_ros.model.checkpoints.described import Described, LoadedCheckpoint, Surroundings
from pi0_ros.model.checkpoints.load import describe_checkpoint, load_checkpoint
from pi0_ros.model.checkpoints.verify import Differences, verify_checkpoints
from pi0_ros.model.safetensors_files import CheckpointError

__all__ = [
    "TARGETS",
    "CheckpointError",
    "Conversion",
    "Described",
    "Differences",
    "LoadedCheckpoint",
    "Surroundings",
    "convert_checkpoint",
    "describe_checkpoint",
    "load_checkpoint",
    "plan_conversion",
    "verify_checkpoints",
]
