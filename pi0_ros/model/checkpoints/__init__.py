"""Checkpoints of every public pi0 format: described, loaded, converted and compared."""

from pi0_ros.model.checkpoints.described import Described, LoadedCheckpoint, Surroundings
from pi0_ros.model.checkpoints.load import describe_checkpoint, load_checkpoint
from pi0_ros.model.safetensors_files import CheckpointError

__all__ = [
    "CheckpointError",
    "Described",
    "LoadedCheckpoint",
    "Surroundings",
    "describe_checkpoint",
    "load_checkpoint",
]
