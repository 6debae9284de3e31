"""The processes of one training run: alone, or as many as `torchrun` started, on one machine or on several.

Every process draws the same random numbers and takes its share of each batch, so a step of N processes is that of one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from pi0_ros.base.errors import Pi0Error

T = TypeVar("T")


class OtherProcessError(Pi0Error, RuntimeError):
    """The first process could not go on, and says why; this one ends with it."""


@dataclass(frozen=True)
class World:
    """This process among `size`; `local` is its number on its machine. The first one writes the files and speaks."""

    rank: int = 0
    size: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def share(self, batch: int) -> slice:
        """This process's rows of a batch, whose size `size` divides."""
        own = batch // self.size
        return slice(self.rank * own, (self.rank + 1) * own)

    def total(self, numbers: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Scalars by name, each summed over the processes."""
        if self.size == 1 or not numbers:
            return dict(numbers)
        together = torch.stack([number.float() for number in numbers.values()])
        dist.all_reduce(together)
        return dict(zip(numbers, together, strict=True))

    def greatest(self, number: int, device: torch.device) -> int:
        """The greatest of all processes' numbers."""
        if self.size == 1:
            return number
        together = torch.tensor(number, device=device)
        dist.all_reduce(together, dist.ReduceOp.MAX)
        return int(together)

    def from_first(self, function: Callable[[], T]) -> T:
        """What `function` gives on the first process, which alone calls it. Where it fails, all end."""
        if self.size == 1:
            return function()
        answer: list[tuple[bool, T | None]] = [(False, None)]
        try:
            if self.first:
                answer = [(True, function())]
        finally:
            dist.broadcast_object_list(answer, src=0)
        done, value = answer[0]
        if not done:
            raise OtherProcessError("the first process could not go on")
        return value  # type: ignore[return-value]

    def after_first(self, function: Callable[[], T]) -> T:
        """What `function` gives here; the other processes call it when the first is done, and find what that wrote."""
        own: list[T] = []
        self.from_first(lambda: own.append(function()))
        return own[0] if own else function()


ALONE = World()


@contextmanager
def joined() -> Iterator[World]:
    """The world that `torchrun` describes in the environment; without it, this process alone."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or "RANK" not in os.environ:
        yield ALONE
        return
    world = World(int(os.environ["RANK"]), size, int(os.environ.get("LOCAL_RANK", "0")))
    if torch.cuda.is_available():
        torch.cuda.set_device(world.local)
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield world
    finally:
        dist.destroy_process_group()
