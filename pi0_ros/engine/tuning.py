"""The kernels' tiles, chosen by measurement on the device: whole Euler steps are timed, one choice is varied at a time.

What was found is kept in the user's cache folder, for this device, these versions and these sizes.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from pi0_ros.engine.fused import FusedNetwork, Tiles, Tuning
from pi0_ros.engine.plain import PlainNetwork
from pi0_ros.engine.schedule import Schedule
from pi0_ros.engine.weights import Weights
from pi0_ros.model.config import ModelConfig

log = logging.getLogger("pi0 engine")

VERSION = 1  # of the kernels: tunings of another are not looked at
SECONDS = 45.0  # for tuning

CANDIDATES: dict[str, list[dict[str, Any]]] = {
    "pdl": [{"pdl": level} for level in (3, 4, 2, 0)],
    "qkv": [
        {"qkv": tiles}
        for tiles in (
            Tiles(16, 128, 1, 4, 3), Tiles(16, 64, 1, 4, 6), Tiles(16, 128, 1, 8, 4), Tiles(16, 256, 1, 4, 3),
            Tiles(32, 128, 1, 4, 4), Tiles(16, 256, 1, 8, 3),
        )
    ],
    "attention": [
        {"attention_rows": rows, "attention_keys": keys, "attention_warps": warps}
        for rows, keys, warps in (
            (64, 128, 4), (64, 64, 4), (64, 64, 8), (128, 128, 8), (32, 128, 4), (16, 128, 4),
        )
    ],
    "gather": [
        {"out_columns": columns, "out_warps": warps}
        for columns, warps in ((64, 8), (64, 4), (32, 4), (32, 8), (128, 8))
    ],
    "gate_up": [
        {"gate_up": tiles}
        for tiles in (
            Tiles(32, 128, 1, 4, 3), Tiles(32, 128, 1, 4, 4), Tiles(32, 256, 1, 8, 2), Tiles(32, 128, 1, 8, 4),
            Tiles(32, 64, 1, 4, 6), Tiles(32, 256, 1, 4, 2), Tiles(16, 256, 1, 4, 3),
        )
    ],
    "down": [
        {"down": tiles}
        for tiles in (
            Tiles(64, 512, 8, 8), Tiles(64, 512, 8, 4), Tiles(64, 256, 16, 4), Tiles(32, 512, 8, 4),
            Tiles(32, 1024, 4, 8), Tiles(64, 128, 8, 4, 4), Tiles(128, 256, 16, 8), Tiles(128, 512, 8, 8),
            Tiles(32, 512, 8, 8),
        )
    ],
}  # fmt: skip


def cache_file() -> Path:
    """Where tunings are kept: below $XDG_CACHE_HOME, or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pi0_ros" / "tuning.json"


def tuned(config: ModelConfig, weights: Weights, schedule: Schedule, prefix_tokens: int) -> Tuning:
    """The tuning for this device and these sizes: as it was found before, or measured now and kept."""
    import triton

    device = weights.embedding.device
    expert = config.flow_expert
    key = " | ".join(
        [torch.cuda.get_device_name(device), torch.__version__, triton.__version__, config.model, str(VERSION)]
        + [str(size) for size in (*asdict(expert).values(), config.action_horizon)]
    )
    path = cache_file()
    try:
        known = json.loads(path.read_text())
        if key in known:
            return _from_dict(known[key])
    except (OSError, ValueError, TypeError, KeyError):
        known = {}
    log.info("choosing kernels for this device, once: up to %.0f s", SECONDS)
    best, took = tune(config, weights, schedule, prefix_tokens, Tuning(), seconds=SECONDS)
    log.info("a step takes %.0f us with %s", took * 1e3, best)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps({**known, key: asdict(best)}, indent=1) + "\n")
        partial.replace(path)
    except OSError as error:
        log.warning("%s: could not be written (%s): the kernels will be chosen again next time", path, error)
    return best


def _from_dict(values: dict[str, Any]) -> Tuning:
    made: dict[str, Any] = {
        name: Tiles(**value) if isinstance(value, dict) else value for name, value in values.items()
    }
    return Tuning(**made)


def disagreement(
    config: ModelConfig, weights: Weights, schedule: Schedule, prefix_tokens: int, tuning: Tuning
) -> float:
    """Relative difference between the kernels and plain torch on random numbers: of the cache and of a velocity."""
    fused, plain = FusedNetwork(config, weights, tuning), PlainNetwork(config, weights)
    device = fused.device
    draw = torch.Generator(device).manual_seed(0)
    x = torch.randn(prefix_tokens, config.vlm.width, generator=draw, device=device).to(fused.dtype)
    state = torch.randn(config.action_dim, generator=draw, device=device)
    noisy = torch.randn(config.action_horizon, config.action_dim, generator=draw, device=device)
    length = torch.full((1,), prefix_tokens, device=device)
    caches, speeds = [], []
    for network in (plain, fused):
        network.length.copy_(length)
        cache = network.new_cache(prefix_tokens)
        network.encode(x.clone(), cache, None)
        caches.append(cache[:, :, :, :prefix_tokens].float())
        shared = caches[0].to(cache.dtype)
        cache[:, :, :, :prefix_tokens] = shared
        suffix = network.begin(schedule, state, length, prefix_tokens, False)
        for _ in range(2):  # twice: what one run leaves behind must not show in the next
            speed = network.velocity(schedule, suffix, cache, schedule.num_steps // 2, noisy).clone()
        speeds.append(speed)
    pairs = (caches, speeds)
    return max(float((ours - theirs).norm() / theirs.norm()) for theirs, ours in pairs)


def fits(config: ModelConfig, tuning: Tuning) -> bool:
    """Whether the tiles divide the sizes of the model."""
    expert = config.flow_expert
    sizes = {
        "qkv": (expert.width, expert.head_dim // 2),
        "gate_up": (expert.width, expert.mlp_dim),
        "down": (expert.mlp_dim, expert.width),
    }
    for name, (inputs, outputs) in sizes.items():
        tiles: Tiles = getattr(tuning, name)
        if inputs % (tiles.split * tiles.depth) or outputs % tiles.columns:
            return False
    return True


def tune(
    config: ModelConfig, weights: Weights, schedule: Schedule, prefix_tokens: int, start: Tuning,
    tell: Callable[[str], None] = log.debug, groups: Iterable[str] = tuple(CANDIDATES), seconds: float = 60.0,
) -> tuple[Tuning, float]:  # fmt: skip
    """Return the fastest tuning found within `seconds`, and the milliseconds of a step with it."""
    end = time.monotonic() + seconds
    best, least = start, time_step(config, weights, schedule, prefix_tokens, start)
    tell(f"start: {least * 1e3:.1f} us")
    for group in groups:
        for change in CANDIDATES[group]:
            tuning = replace(best, **change)
            if tuning == best or not fits(config, tuning):
                continue
            if time.monotonic() > end:
                tell("the time for tuning is up")
                return best, least
            try:
                took = time_step(config, weights, schedule, prefix_tokens, tuning)
            except Exception as error:  # too much shared memory, most often
                tell(f"{change}: {type(error).__name__}: {str(error)[:100]}")
                torch.cuda.synchronize()
                continue
            tell(f"{change}: {took * 1e3:.1f} us")
            if took < least:
                best, least = tuning, took
    return best, least


def time_step(config: ModelConfig, weights: Weights, schedule: Schedule, prefix_tokens: int, tuning: Tuning) -> float:
    """Milliseconds of one Euler step within a captured graph of three."""
    network = FusedNetwork(config, weights, tuning)
    device = network.device
    cache = network.new_cache(prefix_tokens).normal_()
    state, length = torch.zeros(config.action_dim, device=device), torch.full((1,), prefix_tokens, device=device)
    suffix = network.begin(schedule, state, length, prefix_tokens, False)
    x = torch.randn(config.action_horizon, config.action_dim, device=device)
    network.step(schedule, suffix, cache, 0, x)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(3):
            network.step(schedule, suffix, cache, 0, x)
    times = []
    for _ in range(12):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 3)
    return sorted(times)[len(times) // 2]
