"""One chunk of one shape: fixed buffers, and on a CUDA device one captured graph from images to actions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pi0_ros.base.errors import Pi0Error
from pi0_ros.engine.pictures import Inlet
from pi0_ros.engine.plain import PlainNetwork, Suffix
from pi0_ros.engine.schedule import Schedule
from pi0_ros.model.rtc import CleanPrefix, Guidance, SoftPrefix


@dataclass(frozen=True)
class Shape:
    """What a program is made for; observations that differ in nothing else share it."""

    cameras: int
    tokens: int  # room for prompt tokens
    padded: bool  # whether some of that room may stay empty
    guidance: tuple[object, ...]  # kind of guidance and what it is made of, see `guidance_key`


class UnsuitedError(Pi0Error):
    """An input that the engine leaves to the plain model; the message says why."""


def guidance_key(guidance: Guidance | None) -> tuple[object, ...]:
    """What of a guidance is fixed in a program; its numbers are not. UnsuitedError for a kind that none knows."""
    if guidance is None:
        return ()
    if isinstance(guidance, SoftPrefix):
        return ("soft", guidance.jacobian, guidance.max_weight)
    if isinstance(guidance, CleanPrefix):
        return ("clean", guidance.actions.shape[1])
    raise UnsuitedError(f"guidance {type(guidance).__name__}")


@dataclass(frozen=True)
class Observed:
    """One observation, ready to be copied into a program's buffers."""

    images: list[Tensor]  # per camera uint8 [h, w, 3] as it came, or float32 [size, size, 3] in -1 .. 1
    tokens: Tensor  # int64 [L], the valid ones
    state: Tensor  # float32 [A]
    look: Callable[[Tensor], None]  # puts the images into float32 [cameras, size, size, 3] in -1 .. 1


class Program:
    """Buffers and, when captured, the graph of one shape."""

    def __init__(
        self,
        network: PlainNetwork,
        plain: PlainNetwork,
        schedule: Schedule,
        shape: Shape,
        guidance: Guidance | None,
    ) -> None:
        self.network, self.schedule, self.shape = network, schedule, shape
        config, device = network.config, network.device
        size, horizon, dim = config.vision.image_size, config.action_horizon, config.action_dim
        self.prefix_tokens = shape.cameras * config.vision.num_positions + shape.tokens
        self.images = torch.zeros(shape.cameras, size, size, 3, device=device)
        self.tokens = Inlet((shape.tokens,), torch.int64, device)
        self.length = Inlet((1,), torch.int64, device)
        exact = isinstance(guidance, SoftPrefix) and guidance.jacobian
        self.stepper = plain if exact else network  # kernels have no way back
        self.state = Inlet((dim,), torch.float32, device)
        self.noise = Inlet((1, horizon, dim), torch.float32, device)
        self.actions = torch.zeros(1, horizon, dim, device=device)
        self.guidance = _static(guidance, horizon, dim, device)
        self.copied = torch.cuda.Event() if device.type == "cuda" else None
        self.cache = network.new_cache(self.prefix_tokens)
        self.given = guidance.actions.shape[1] if isinstance(guidance, CleanPrefix) else 0
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, observed: Observed, noise: Tensor, guidance: Guidance | None) -> Tensor:
        """Return actions float32 [1, H, A]; the result is the caller's own."""
        self.load(observed, noise, guidance)
        if self.graph is None:
            self.compute()
        else:
            self.graph.replay()
        return self.actions.clone()

    def load(self, observed: Observed, noise: Tensor, guidance: Guidance | None) -> None:
        """Copy an observation into the buffers, without waiting for the device."""
        if self.copied is not None:
            self.copied.synchronize()  # the copies of the call before are long done: its actions have been read
        count = len(observed.tokens)
        observed.look(self.images)
        self.tokens.fill(observed.tokens, slice(0, count))
        self.length.fill(torch.tensor([self.prefix_tokens - self.shape.tokens + count]))
        self.state.fill(observed.state)
        self.noise.fill(noise)
        if isinstance(self.guidance, CleanPrefix):
            assert isinstance(guidance, CleanPrefix)
            self.guidance.actions.copy_(guidance.actions, non_blocking=True)
        elif isinstance(self.guidance, SoftPrefix):
            assert isinstance(guidance, SoftPrefix)
            self.guidance.actions.copy_(guidance.actions, non_blocking=True)
            self.guidance.weights.copy_(guidance.weights.expand_as(self.guidance.weights), non_blocking=True)
        if self.copied is not None:
            self.copied.record()

    @torch.no_grad()
    def compute(self) -> None:
        """From the buffers to `actions`; what a graph captures."""
        self.network.length.copy_(self.length.there)
        self.encode(self.embed())
        self.denoise()

    @torch.no_grad()
    def embed(self) -> Tensor:
        """From frames and prompt to the prefix [P, D]."""
        seen = self.network.see(self.images)
        return torch.cat([seen, self.network.read(self.tokens.there)])

    @torch.no_grad()
    def encode(self, embedded: Tensor) -> None:
        """From embedded images and prompt [P, D] to keys and values."""
        bias = None
        if self.shape.padded:
            hidden = torch.arange(self.prefix_tokens, device=embedded.device) >= self.length.there
            bias = torch.zeros(self.prefix_tokens, dtype=embedded.dtype, device=embedded.device)
            bias = bias.masked_fill(hidden, 0.7 * torch.finfo(embedded.dtype).min)[None, None, None]
        self.network.encode(embedded, self.cache, bias)

    @torch.no_grad()
    def denoise(self) -> None:
        """From keys, values, state and noise to `actions`."""
        network, schedule = self.stepper, self.schedule
        suffix = self.begin()
        step = iter(range(schedule.num_steps))

        def velocity(x: Tensor, time: Tensor) -> Tensor:  # asked for once per step, at the schedule's times
            return network.velocity(schedule, suffix, self.cache, next(step), x[0])[None]

        if self.guidance is not None:
            self.actions.copy_(self.guidance.integrate(velocity, self.noise.there, schedule.num_steps))
            return
        self.actions.copy_(self.noise.there)
        for index in range(schedule.num_steps):
            network.step(schedule, suffix, self.cache, index, self.actions[0])

    def begin(self) -> Suffix:
        """Prepare the steps."""
        state, length, padded = self.state.there, self.length.there, self.shape.padded
        return self.stepper.begin(self.schedule, state, length, self.prefix_tokens, padded, self.given)

    def capture(self) -> None:
        """Record `compute` as one CUDA graph, after running it twice (libraries choose and allocate then)."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                self.compute()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.compute()
        self.graph = graph


def _static(guidance: Guidance | None, horizon: int, dim: int, device: torch.device) -> Guidance | None:
    """The same kind of guidance on buffers."""
    if isinstance(guidance, CleanPrefix):
        return CleanPrefix(torch.zeros(1, guidance.actions.shape[1], dim, device=device))
    if isinstance(guidance, SoftPrefix):
        room = torch.zeros(1, horizon, dim, device=device)
        return replace(guidance, actions=room, weights=torch.zeros_like(room))
    return None
