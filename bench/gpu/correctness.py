"""Whether the engine computes the model: against the reference, in float32 and bfloat16, graph and steps alike."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gpu.measure import Deadline, Run, error, in_float32, noise_for, observation, random_model
from pi0_ros.engine.engine import Engine
from pi0_ros.engine.program import Program
from pi0_ros.model.paligemma import ModelInput
from pi0_ros.model.pi0 import Pi0
from pi0_ros.model.rtc import CleanPrefix, Guidance, SoftPrefix, soft_mask

LIMIT = 1.1  # of the error that plain bfloat16 eager has


def trajectory(model: Pi0, inputs: ModelInput, noise: Tensor, num_steps: int = 10) -> tuple[list[Tensor], list[Tensor]]:
    """The points x [1, H, A] at which `model` asks for its velocity, and the velocities there."""
    prefix = model.encode_prefix(inputs)
    x, time, points, speeds = noise, torch.ones(1, device=noise.device), [], []
    for _ in range(num_steps):
        points.append(x)
        speeds.append(model.velocity(prefix, inputs.state, x, time))
        x, time = x - speeds[-1] / num_steps, time - 1 / num_steps
    return points, speeds


def engine_speeds(program: Program, points: list[Tensor]) -> list[Tensor]:
    """The engine's velocities at the same points, for the observation that the program holds."""
    network = program.network
    program.encode(program.embed())
    suffix = program.begin()
    return [
        network.velocity(program.schedule, suffix, program.cache, step, x[0]).clone()[None]
        for step, x in enumerate(points)
    ]


@torch.no_grad()
def acceptance(
    model: Pi0, exact: Pi0, engine: Engine, views: int, tokens: int, seeds: int, left: Deadline
) -> dict[str, Any]:
    """Root mean square over seeds of the errors against float32: of the engine and of plain eager, step by step."""
    device = engine.network.device
    ours: list[list[float]] = []
    theirs: list[list[float]] = []
    chunks: list[tuple[float, float]] = []
    for seed in range(seeds):
        if left.left < 0 and chunks:  # one seed at least
            break
        host, noise = observation(model.config, views, tokens, seed), noise_for(model.config, seed).to(device)
        inputs = host.to(device)
        points, wanted = trajectory(exact, inputs, noise)
        prefix = model.encode_prefix(inputs)
        times = torch.ones(1, device=device)
        eager = []
        for x in points:
            eager.append(model.velocity(prefix, inputs.state, x, times))
            times = times - 1 / len(points)
        chunk = exact.sample_actions(inputs, noise)
        mine, plain = engine.sample_actions(host, noise), model.sample_actions(inputs, noise)
        program = list(engine._programs.values())[-1]
        program.load(engine.observe(host, noise), noise, None)
        ours.append([error(v, w) for v, w in zip(engine_speeds(program, points), wanted, strict=True)])
        theirs.append([error(v, w) for v, w in zip(eager, wanted, strict=True)])
        chunks.append((error(mine, chunk), error(plain, chunk)))
    steps = {"ours": _rms(ours), "eager": _rms(theirs)}
    ratios = [a / b for a, b in zip(steps["ours"], steps["eager"], strict=True)]
    chunk_error, eager_error = _rms([list(pair) for pair in chunks])
    return {
        "seeds": len(chunks),
        "views": views,
        "velocity": steps,
        "velocity_ratio_worst": max(ratios),
        "chunk": {"ours": chunk_error, "eager": eager_error},
        "chunk_ratio": chunk_error / eager_error,
        "accepted": max(ratios) <= LIMIT and chunk_error / eager_error <= LIMIT,
    }


def _rms(rows: list[list[float]]) -> list[float]:
    return torch.tensor(rows, dtype=torch.float64).square().mean(0).sqrt().tolist()


def guidances(config: Any) -> dict[str, Guidance | None]:
    """One of each kind that a program knows."""
    shape = (1, config.action_horizon, config.action_dim)
    known = torch.randn(shape, generator=torch.Generator().manual_seed(7))
    weights = soft_mask("exp", 4, shape[1] // 2, shape[1])[:, None]
    return {
        "none": None,
        "exact": SoftPrefix(known, weights),
        "lerobot": SoftPrefix(known, weights, max_weight=10.0, jacobian=False),
        "trained": CleanPrefix(known[:, :4]),
    }


def on(guidance: Guidance | None, device: torch.device) -> Guidance | None:
    if isinstance(guidance, SoftPrefix):
        return SoftPrefix(
            guidance.actions.to(device), guidance.weights.to(device), guidance.max_weight, guidance.jacobian
        )
    return CleanPrefix(guidance.actions.to(device)) if isinstance(guidance, CleanPrefix) else guidance


def measure(run: Run) -> dict[str, Any]:
    """Everything, for pi0 and pi0.5."""
    deadline, found = Deadline(run.seconds), dict[str, Any]()
    seeds = 3 if run.small or run.quick else 20
    for name in ("pi0", "pi05"):
        model = random_model(name, run)
        exact, engine = in_float32(model), Engine(model)
        tokens = 9 if run.small else (20 if name == "pi0" else 61)
        entry: dict[str, Any] = {"acceptance": acceptance(model, exact, engine, 2, tokens, seeds, deadline)}
        stepwise, kinds = Engine(model, graphs=False), {}
        for kind, guidance in guidances(model.config).items():
            host, noise, there = observation(model.config, 2, tokens, 99), noise_for(model.config, 99), run.device
            wanted = exact.sample_actions(host.to(there), noise.to(there), guidance=on(guidance, there))
            plain = model.sample_actions(host.to(there), noise.to(there), guidance=on(guidance, there))
            mine, again = (engine.sample_actions(host, noise, guidance=guidance) for _ in range(2))
            kinds[kind] = {
                "ours": error(mine, wanted),
                "eager": error(plain, wanted),
                "same_twice": bool(torch.equal(mine, again)),
                "against_no_graph": error(mine, stepwise.sample_actions(host, noise, guidance=guidance)),
            }
        entry["guidance"] = kinds
        found[name] = entry
        print(f"  {name}: {entry['acceptance']}\n  {kinds}", flush=True)
        del model, exact, engine, stepwise
    return found
