"""The training state of several processes on disk: each writes and reads its own shards (FSDP2), none holds all of it.

    train_state/shards/*.safetensors     one file for each process; their headers say which part of a tensor they hold

`torch.distributed.checkpoint` plans who reads what, so any number of processes can go on, one alone too. No pickle.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from pi0_ros.checkpoints.safetensors_files import CheckpointError

FOLDER = "shards"


class ShardWriter:
    """Writes the shards of all processes, beside the training. Every process makes one, and calls the same of it.

    Its collectives have a group of their own, so that the training's can go on in another thread.
    """

    def __init__(self, size: int, first: bool) -> None:
        self.first = first
        self._group = dist.new_group(backend="gloo")
        self._mesh = init_device_mesh("cpu", (size,))
        self._waited_for = False

    def copy(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Copies of this process's shards in this machine's memory; the others will wait for `tell`."""
        self._waited_for = True
        return {name: self._copy(tensor.detach()) for name, tensor in tensors.items()}

    def _copy(self, tensor: Tensor) -> Tensor:
        if not isinstance(tensor, DTensor):
            return tensor.to("cpu", copy=True)
        local = tensor.to_local().to("cpu", copy=True)
        return DTensor.from_local(
            local, self._mesh, tensor.placements, run_check=False, shape=tensor.shape, stride=tensor.stride()
        )

    def tell(self, folder: Path | None) -> None:
        """The first process says where to write; None: nowhere, for it could not begin."""
        if self._waited_for:
            self._waited_for = False
            dist.broadcast_object_list([folder], src=0, group=self._group)

    def hear(self) -> Path | None:
        """What the first process told."""
        told: list[Path | None] = [None]
        dist.broadcast_object_list(told, src=0, group=self._group)
        return told[0]

    def write(self, tensors: Mapping[str, Tensor], folder: Path) -> None:
        """Write all shards; done when those of every process are on disk. OSError where a disk is full or gone."""
        writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
        try:
            save(dict(tensors), storage_writer=writer, process_group=self._group)
        except CheckpointException as error:
            reasons = [reason for reason, _ in error.failures.values()]
            if all(isinstance(reason, OSError) for reason in reasons):
                raise OSError(*reasons[0].args) from error
            raise


def names_in(folder: Path) -> set[str]:
    """The tensors that shards lie there of; CheckpointError where one of them has a hole: a file is missing."""
    found = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    for name, entry in found.items():
        assert isinstance(entry, TensorStorageMetadata)
        if sum(chunk.sizes.numel() for chunk in entry.chunks) != entry.size.numel():
            raise CheckpointError(f"{folder}: parts of {name} are missing: copy the files of all processes here")
    return set(found)


def read_shards(tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Fill tensors, which may be sharded in any way, in place; CheckpointError where the files have others.

    Every process of the training must call it.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # one process, which is fine
        try:
            reader = HuggingFaceStorageReader(str(folder))
            load(dict(tensors), storage_reader=reader, no_dist=not dist.is_initialized())
        except CheckpointException as error:
            reason = next(iter(error.failures.values()))[0]
            raise CheckpointError(
                f"{folder}: does not fit this model ({reason}); was the training config changed?"
            ) from None
