"""One chunk at full size with random weights: from the shape in which openpi computes it to the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from gpu.measure import (
    Deadline,
    Run,
    error,
    in_float32,
    noise_for,
    observation,
    random_model,
    time_calls,
    time_graph,
    time_wall,
)
from pi0_ros.engine.engine import Engine
from pi0_ros.engine.program import Program
from pi0_ros.model.config import ModelConfig
from pi0_ros.model.paligemma import ModelInput
from pi0_ros.model.pi0 import Pi0

TOKENS = {"pi0": 20, "pi05": 64}  # of a prompt; for pi0.5 with the state


def floor_ms(config: ModelConfig, views: int, tokens: int, flops: float, bandwidth: float) -> dict[str, float]:
    """The least time of each stage at `flops` FLOP/s and `bandwidth` byte/s: of arithmetic or of weights."""
    vlm, expert, vision = config.vlm, config.flow_expert, config.vision

    def gemma(sizes: Any) -> int:
        heads = (2 * sizes.num_heads + 2 * sizes.num_kv_heads) * sizes.head_dim
        return sizes.width * heads + 3 * sizes.width * sizes.mlp_dim

    layer = 4 * vision.width**2 + 2 * vision.width * vision.mlp_dim
    eye = vision.depth * layer + 3 * vision.patch_size**2 * vision.width + vision.width * vlm.width
    n = vision.num_positions
    seen = views * (2 * eye * n + vision.depth * 4 * n**2 * vision.width)
    prefix = views * n + tokens
    keys = vlm.width * 2 * vlm.num_kv_heads * vlm.head_dim
    read = (vlm.depth - 1) * gemma(vlm) + keys
    attention = vlm.num_heads * vlm.head_dim
    encoded = 2 * read * prefix + (vlm.depth - 1) * 4 * prefix**2 * attention
    suffix = config.action_horizon + (0 if config.is_pi05 else 1)
    written = expert.depth * gemma(expert)
    denoised = 2 * written * suffix + expert.depth * 4 * suffix * (prefix + suffix) * attention
    cache = expert.depth * 2 * vlm.num_kv_heads * vlm.head_dim * prefix
    bounds = {
        "vision": max(seen / flops, 2 * eye / bandwidth),
        "prefix": max(encoded / flops, 2 * read / bandwidth),
        "steps": 10 * max(denoised / flops, 2 * (written + cache) / bandwidth),
    }
    bounds["total"] = sum(bounds.values())
    return {stage: seconds * 1e3 for stage, seconds in bounds.items()}


def measure(run: Run, ceilings: dict[str, Any]) -> list[dict[str, Any]]:
    """A row per model, number of cameras and rung."""
    deadline, rows = Deadline(run.seconds), []
    for name in ("pi0", "pi05"):
        model = random_model(name, run)
        exact = in_float32(model)
        for views in (2, 3, 1):
            if deadline.left < 30 and not run.small:
                rows.append({"model": name, "views": views, "rung": "left out", "why": "the stage's time was up"})
                continue
            rows += _rungs(run, name, model, exact, views, ceilings)
        del model, exact
        if run.device.type == "cuda":
            torch.cuda.empty_cache()
    return rows


def _rungs(run: Run, name: str, model: Pi0, exact: Pi0, views: int, ceilings: dict[str, Any]) -> list[dict[str, Any]]:
    config, device, tokens = model.config, run.device, TOKENS[name] if not run.small else 9
    noise = noise_for(config, 0).to(device)
    shaped = observation(config, views, tokens, 0, padded=True).to(device)
    host = observation(config, views, tokens, 0)
    there = host.to(device)
    reference = exact.sample_actions(there, noise)
    flops, bandwidth = ceilings["gemm_tflop_s"] * 1e12, ceilings["copy_gb_s"] * 1e9
    floor = floor_ms(config, views, tokens, flops, bandwidth)
    slow, quick = (3, 10) if run.small or run.quick else (10, 200)
    rows = []

    def row(rung: str, call: Callable[[], Tensor], repeats: int, inputs: ModelInput, **more: Any) -> None:
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        with torch.inference_mode():
            actions = call().clone()
            took = time_calls(call, device, repeats)
        wanted = exact.sample_actions(inputs, noise) if inputs is not there else reference
        entry = {"model": name, "views": views, "tokens": tokens, "rung": rung, **asdict(took)}
        entry |= {"error": error(actions, wanted), "floor_ms": floor["total"], "ratio": took.p50 / floor["total"]}
        if device.type == "cuda":
            entry["peak_gb"] = torch.cuda.max_memory_allocated() / 1e9
        rows.append(entry | more)
        print(f"  {name} {views} views, {rung}: {took.p50:.2f} ms, error {entry['error']:.2e}", flush=True)

    row("as openpi shapes it, eager", lambda: model.sample_actions(shaped, noise), slow, shaped)
    row("valid tokens only, eager", lambda: model.sample_actions(there, noise), slow, there)
    stepwise = Engine(model, graphs=False, kernels=False)
    row("engine, plain torch, no graph", lambda: stepwise.sample_actions(there, noise), slow, there)
    for rung, engine in {
        "engine, plain torch, one graph": Engine(model, kernels=False),
        "engine, Triton kernels, one graph": Engine(model),
    }.items():
        if not engine.graphs:
            break
        program = make_program(engine, host, noise)
        row(rung, _replay(program), quick, there, stages=stages(program, run))
        wall = time_wall(lambda: engine.sample_actions(host, noise.cpu()).cpu(), device, quick)  # noqa: B023
        listed = kernels(program)
        rows[-1] |= {"wall_p50": wall.p50, "wall_p99": wall.p99, "kernels": sum(one["count"] for one in listed)}
        rows[-1] |= {"listed": listed[:25]}
        print(f"    {rows[-1]['stages']}, wall {wall.p50:.2f} ms, {rows[-1]['kernels']} kernels", flush=True)
    return rows


def make_program(engine: Engine, host: ModelInput, noise: Tensor) -> Program:
    """The captured program that the engine uses for this observation, loaded with it."""
    engine.sample_actions(host, noise)
    program = list(engine._programs.values())[-1]
    program.load(engine.observe(host, noise), noise, None)
    return program


def _replay(program: Program) -> Callable[[], Tensor]:
    def call() -> Tensor:
        assert program.graph is not None
        program.graph.replay()
        return program.actions

    return call


def stages(program: Program, run: Run) -> dict[str, float]:
    """Milliseconds of vision, prefix and steps, each in a graph of its own."""
    repeats = 20
    took = {"vision": time_graph(program.embed, run.device, repeats).p50}
    embedded = program.embed()
    took["prefix"] = time_graph(lambda: program.encode(embedded), run.device, repeats).p50
    took["steps"] = time_graph(program.denoise, run.device, repeats).p50
    return took


def kernels(program: Program) -> list[dict[str, Any]]:
    """What runs on the device during one chunk, by kernel, the most expensive first."""
    from torch.profiler import ProfilerActivity, profile

    assert program.graph is not None
    program.graph.replay()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        program.graph.replay()
        torch.cuda.synchronize()
    found = [
        {"kernel": event.key[:120], "count": event.count, "us": event.self_device_time_total}
        for event in profiler.key_averages()
        if event.self_device_time_total
    ]
    return sorted(found, key=lambda one: -one["us"])
