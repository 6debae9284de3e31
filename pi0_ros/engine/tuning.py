"""The kernels' tiles, chosen by measurement on the device: whole Euler steps are timed, one choice is varied at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch

from pi0_ros.engine.fused import FusedNetwork, Tiles, Tuning
from pi0_ros.engine.schedule import Schedule
from pi0_ros.engine.weights import Weights
from pi0_ros.model.config import ModelConfig

log = logging.getLogger("pi0 engine")

CANDIDATES: dict[str, list[dict[str, Any]]] = {
    "qkv": [
        {"qkv": tiles}
        for tiles in (
            Tiles(16, 128, 1, 4, 3), Tiles(16, 64, 1, 4, 6), Tiles(16, 128, 1, 8, 4), Tiles(16, 256, 1, 4, 3),
            Tiles(32, 128, 1, 4, 4), Tiles(16, 256, 1, 8, 3),
        )
    ],
    "attention": [
        {"attention_rows": rows, "attention_keys": keys, "attention_warps": warps}
        for rows, keys, warps in ((64, 128, 4), (64, 64, 4), (64, 64, 8), (128, 128, 8), (32, 128, 4), (16, 128, 4))
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
            Tiles(64, 512, 8, 8), Tiles(64, 512, 8, 4), Tiles(64, 256, 16, 4), Tiles(32, 512, 8, 4), Tiles(32, 1024, 4, 8),
            Tiles(64, 128, 8, 4, 4), Tiles(128, 256, 16, 8), Tiles(128, 512, 8, 8), Tiles(32, 512, 8, 8),
        )
    ],
    "pdl": [{"pdl": True}, {"pdl": False}],
}  # fmt: skip


def fits(config: ModelConfig, tuning: Tuning) -> bool:
    """Whether the tiles divide the sizes of the model."""
    expert = config.flow_expert
    inputs = {"qkv": expert.width, "gate_up": expert.width, "down": expert.mlp_dim}
    for name, size in inputs.items():
        tiles: Tiles = getattr(tuning, name)
        if size % (tiles.split * tiles.depth):
            return False
    return (expert.head_dim // 2) % tuning.qkv.columns == 0


def tune(
    config: ModelConfig, weights: Weights, schedule: Schedule, prefix_tokens: int, start: Tuning,
    tell: Callable[[str], None] = log.debug, groups: Iterable[str] = tuple(CANDIDATES),
) -> tuple[Tuning, float]:  # fmt: skip
    """Return the fastest tuning found and the milliseconds of a step with it."""
    best, least = start, time_step(config, weights, schedule, prefix_tokens, start)
    tell(f"start: {least * 1e3:.1f} us")
    for group in groups:
        for change in CANDIDATES[group]:
            tuning = replace(best, **change)
            if tuning == best or not fits(config, tuning):
                continue
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
