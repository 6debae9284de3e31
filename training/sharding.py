"""One network on several processes: cut into shards (FSDP2), or a whole copy on each (DDP).

With shards a parameter, its gradient and moments lie in parts on all processes; a layer is put together when it
computes. Files never see this: what is saved is whole, so any number of processes can read it again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from pi0_ros.model.pi0 import Pi0
from pi0_ros.training.objective import Learner
from pi0_ros.training.recipe import Stage
from pi0_ros.training.world import World


def shard(learner: Learner, world: World, device: torch.device) -> None:
    """Cut the network into as many shards as there are processes, layer by layer; in place."""
    mesh = init_device_mesh(device.type, (world.size,))
    model = learner.model
    for layer in model.vision.layers:
        fully_shard(layer, mesh=mesh)
    # Beside an expert only keys and values of the VLM's last layer are computed (`Transformer.cache`): it stays whole.
    layers = (*model.vlm.layers[:-1], *model.expert.layers) if isinstance(model, Pi0) else model.vlm.layers
    for layer in layers:
        fully_shard(layer, mesh=mesh)
        register_fsdp_forward_method(layer, "attend")
    fully_shard(learner, mesh=mesh)


def take_apart(learner: Learner) -> None:
    """Drop what a pass without gradients left put together: it is of the shards as they were then."""
    for module in learner.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def copies(learner: Learner, stage: Stage) -> DistributedDataParallel:
    """The network with gradients that are averaged over the processes, each of which has a whole copy."""
    partial = stage.flow == 0 or bool(learner.auxiliary)  # then some parameters get no gradient
    return DistributedDataParallel(learner, find_unused_parameters=partial)


def waiting(module: nn.Module, wait: bool) -> contextlib.AbstractContextManager[None]:
    """Inside this block copies do not exchange gradients, where `wait`: another part of the batch follows."""
    if wait and isinstance(module, DistributedDataParallel):
        return module.no_sync()
    return contextlib.nullcontext()


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that may be sharded. Every process must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def norm_of(tensors: Sequence[Tensor]) -> Tensor:
    """Norm of all numbers of tensors that may be sharded, float32."""
    parts = [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]
    squares = torch.stack([torch.linalg.vector_norm(part, dtype=torch.float32) for part in parts]).square().sum()
    if any(isinstance(tensor, DTensor) for tensor in tensors):
        dist.all_reduce(squares)
    return squares.sqrt()


def like(parameter: Tensor, full: Tensor) -> Tensor:
    """`full` on the parameter's device, and cut as it is."""
    if not isinstance(parameter, DTensor):
        return full.to(parameter.device)
    return distribute_tensor(full.to(parameter.device), parameter.device_mesh, parameter.placements, src_data_rank=None)
