"""One chunk of one shape: fixed buffers, and on a CUDA device one captured graph from images to actions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

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


def guidance_key(guidance: Guidance | None) -> tuple[object, ...]:
    """What of a guidance is fixed in a program; its numbers are not. LookupError for a kind that no program knows."""
    if guidance is None:
        return ()
    if isinstance(guidance, SoftPrefix):
        return ("soft", guidance.jacobian, guidance.max_weight)
    if isinstance(guidance, CleanPrefix):
        return ("clean", guidance.actions.shape[1])
    raise LookupError(f"guidance {type(guidance).__name__}")


@dataclass(frozen=True)
class Observed:
    """One observation, ready to be copied into a program's buffers."""

    images: Tensor  # float32 [cameras, size, size, 3] in -1 .. 1
    tokens: Tensor  # int64 [L], the valid ones
    state: Tensor  # float32 [A]


class Program:
    """Buffers and, when captured, the graph of one shape."""

    def __init__(self, network: PlainNetwork, schedule: Schedule, shape: Shape, guidance: Guidance | None) -> None:
        self.network, self.schedule, self.shape = network, schedule, shape
        config, device = network.config, network.device
        size, horizon, dim = config.vision.image_size, config.action_horizon, config.action_dim
        self.prefix_tokens = shape.cameras * config.vision.num_positions + shape.tokens
        self.images = torch.zeros(shape.cameras, size, size, 3, device=device)
        self.tokens = torch.zeros(shape.tokens, dtype=torch.int64, device=device)
        self.length = torch.zeros(1, dtype=torch.int64, device=device)
        self.state = torch.zeros(dim, device=device)
        self.noise = torch.zeros(1, horizon, dim, device=device)
        self.actions = torch.zeros(1, horizon, dim, device=device)
        self.guidance = _static(guidance, horizon, dim, device)
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
        count = len(observed.tokens)
        self.images.copy_(observed.images, non_blocking=True)
        self.tokens[:count].copy_(observed.tokens, non_blocking=True)
        self.tokens[count:] = 0
        self.length.fill_(self.prefix_tokens - self.shape.tokens + count)
        self.state.copy_(observed.state, non_blocking=True)
        self.noise.copy_(noise, non_blocking=True)
        if isinstance(self.guidance, CleanPrefix):
            assert isinstance(guidance, CleanPrefix)
            self.guidance.actions.copy_(guidance.actions, non_blocking=True)
        elif isinstance(self.guidance, SoftPrefix):
            assert isinstance(guidance, SoftPrefix)
            self.guidance.actions.copy_(guidance.actions, non_blocking=True)
            self.guidance.weights.copy_(guidance.weights.expand_as(self.guidance.weights), non_blocking=True)

    @torch.no_grad()
    def compute(self) -> None:
        """From the buffers to `actions`; what a graph captures."""
        network = self.network
        self.encode(torch.cat([network.see(self.images), network.read(self.tokens)]))
        self.denoise()

    @torch.no_grad()
    def encode(self, embedded: Tensor) -> None:
        """From embedded images and prompt [P, D] to keys and values."""
        bias = None
        if self.shape.padded:
            hidden = torch.arange(self.prefix_tokens, device=embedded.device) >= self.length
            bias = torch.zeros(self.prefix_tokens, dtype=embedded.dtype, device=embedded.device)
            bias = bias.masked_fill(hidden, 0.7 * torch.finfo(embedded.dtype).min)[None, None, None]
        self.network.encode(embedded, self.cache, bias)

    @torch.no_grad()
    def denoise(self) -> None:
        """From keys, values, state and noise to `actions`."""
        network, schedule = self.network, self.schedule
        suffix = self.begin()
        step = iter(range(schedule.num_steps))

        def velocity(x: Tensor, time: Tensor) -> Tensor:  # asked for once per step, at the schedule's times
            return network.velocity(schedule, suffix, self.cache, next(step), x[0])[None]

        if self.guidance is not None:
            self.actions.copy_(self.guidance.integrate(velocity, self.noise, schedule.num_steps))
            return
        self.actions.copy_(self.noise)
        for index in range(schedule.num_steps):
            network.step(schedule, suffix, self.cache, index, self.actions[0])

    def begin(self) -> Suffix:
        """Prepare the steps."""
        prefix, padded = self.prefix_tokens, self.shape.padded
        return self.network.begin(self.schedule, self.state, self.length, prefix, padded, self.given)

    def capture(self, pool: tuple[int, int] | None = None) -> None:
        """Record `compute` as one CUDA graph, after running it twice (libraries choose and allocate then)."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                self.compute()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
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
