"""Clocks, random models and observations, errors: what the stages share."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pi0_ros.model.config import ModelConfig
from pi0_ros.model.paligemma import ModelInput
from pi0_ros.model.pi0 import Pi0


@dataclass(frozen=True)
class Run:
    """What the command line asked for."""

    device: torch.device
    small: bool
    seconds: float  # for each stage; what does not fit is said to be left out
    quick: bool  # fewer repeats


@dataclass(frozen=True)
class Spread:
    """Milliseconds of repeated runs."""

    p50: float
    p99: float
    best: float


class Deadline:
    """Tells a stage when to stop."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        return self.end - time.monotonic()


def spread(times: list[float]) -> Spread:
    ordered = sorted(times)
    return Spread(statistics.median(ordered), ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))], ordered[0])


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def time_calls(action: Callable[[], object], device: torch.device, repeats: int, warm: int = 3) -> Spread:
    """Milliseconds from the first to the last kernel of each call (CUDA events), or of a clock on a CPU."""
    for _ in range(warm):
        action()
    synchronize(device)
    if device.type != "cuda":
        return time_wall(action, device, repeats, 0)
    pairs = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(repeats)]
    for start, end in pairs:
        start.record()
        action()
        end.record()
    torch.cuda.synchronize()
    return spread([start.elapsed_time(end) for start, end in pairs])


def time_wall(action: Callable[[], object], device: torch.device, repeats: int, warm: int = 3) -> Spread:
    """Milliseconds until the result is there, seen from the host."""
    for _ in range(warm):
        action()
    times = []
    for _ in range(repeats):
        synchronize(device)
        start = time.perf_counter()
        action()
        synchronize(device)
        times.append((time.perf_counter() - start) * 1e3)
    return spread(times)


def time_graph(action: Callable[[], object], device: torch.device, repeats: int, calls: int = 1) -> Spread:
    """Milliseconds of one of `calls` actions within a captured graph; on a CPU of a plain call."""
    if device.type != "cuda":
        return time_wall(action, device, repeats, 1)
    action()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        action()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(calls):
            action()
    measured = time_calls(graph.replay, device, repeats)
    return Spread(measured.p50 / calls, measured.p99 / calls, measured.best / calls)


def config_of(name: str, small: bool) -> ModelConfig:
    """The named model at its real size, or a small one with the same structure."""
    config = ModelConfig.preset(name)
    if not small:
        return config
    demo = ModelConfig.preset("demo")
    return replace(
        demo,
        model=name,
        discrete_state_input=name == "pi05",
        cameras=config.cameras,
        dtype="bfloat16",
        max_token_len=32,
    )


def random_model(name: str, run: Run, seed: int = 0) -> Pi0:
    """A model with random weights; the adaptive norms of pi0.5 do something."""
    torch.manual_seed(seed)
    with torch.device(run.device):
        model = Pi0(config_of(name, run.small))
    for key, parameter in model.named_parameters():
        if ".dense." in key:
            torch.nn.init.normal_(parameter, std=0.3 * parameter.shape[-1] ** -0.5)
    return model.eval().requires_grad_(False)


def in_float32(model: Pi0) -> Pi0:
    """The same weights, computed with in float32."""
    with torch.device(next(model.parameters()).device):
        exact = Pi0(replace(model.config, dtype="float32"))
    exact.load_state_dict(model.state_dict())
    return exact.eval().requires_grad_(False)


def observation(config: ModelConfig, views: int, tokens: int, seed: int, padded: bool = False) -> ModelInput:
    """A random observation in host memory; `padded` as openpi prepares it: every slot, the prompt filled up."""
    draw = torch.Generator().manual_seed(seed)
    size, slots = config.vision.image_size, config.cameras if padded else config.cameras[:views]
    room = config.max_token_len if padded else tokens
    return ModelInput(
        images={slot: torch.rand(1, size, size, 3, generator=draw) * 2 - 1 for slot in slots},
        image_masks={slot: torch.tensor([slot in config.cameras[:views]]) for slot in slots},
        prompt_tokens=torch.randint(config.vocab_size, (1, room), generator=draw),
        prompt_mask=torch.arange(room)[None] < tokens,
        state=torch.randn(1, config.action_dim, generator=draw),
    )


def noise_for(config: ModelConfig, seed: int) -> Tensor:
    draw = torch.Generator().manual_seed(1000 + seed)
    return torch.randn(1, config.action_horizon, config.action_dim, generator=draw)


def error(actual: Tensor, wanted: Tensor) -> float:
    """Relative error in the 2-norm; NaN never passes."""
    actual, wanted = actual.double().cpu(), wanted.double().cpu()
    return float((actual - wanted).norm() / wanted.norm())
