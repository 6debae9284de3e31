"""What the machine can do at best, measured in the same run: bandwidth, matrix products, a chain of empty kernels."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from gpu.measure import Deadline, Run, config_of, time_calls, time_graph


def measure(run: Run) -> dict[str, Any]:
    """All ceilings: GB/s, TFLOP/s, microseconds."""
    deadline, device, repeats = Deadline(run.seconds), run.device, 5 if run.small else 20
    elements = 1 << (20 if run.small else 31)
    source = torch.empty(elements, dtype=torch.bfloat16, device=device).normal_()
    target = torch.empty_like(source)
    copied = time_calls(lambda: target.copy_(source), device, repeats).best
    read = time_calls(lambda: source.view(torch.int64).sum(), device, repeats).best
    found: dict[str, Any] = {
        "copy_gb_s": 2 * source.nbytes / copied / 1e6,
        "read_gb_s": source.nbytes / read / 1e6,
    }
    size = 256 if run.small else 8192
    a, b = (torch.randn(size, size, device=device).to(torch.bfloat16) for _ in range(2))
    product = time_calls(lambda: a @ b, device, repeats).best
    found["gemm_tflop_s"] = 2 * size**3 / product / 1e9
    tiny = torch.zeros(8, device=device)
    chain = 20 if run.small else 1000
    found["kernel_chain_us"] = time_graph(lambda: tiny.add_(1.0), device, repeats, chain).p50 * 1e3
    if device.type == "cuda":
        found["pinned_copy_gb_s"] = _pinned(device)
    found["products"] = _products(run, deadline)
    return found


def _pinned(device: torch.device) -> float:
    host = torch.empty(3 * 640 * 480 * 3, dtype=torch.uint8).pin_memory()
    there = torch.empty_like(host, device=device)
    return host.nbytes / time_calls(lambda: there.copy_(host, non_blocking=True), device, 50).p50 / 1e6


def _products(run: Run, deadline: Deadline) -> list[dict[str, Any]]:
    """The library's matrix products at the shapes of the model, each over its own weights as in a real layer."""
    config, rows = config_of("pi0", run.small), []
    vlm, expert, vision = config.vlm, config.flow_expert, config.vision
    views, suffix = 2 * vision.num_positions, config.action_horizon + 1
    heads = (vlm.num_heads + 2 * vlm.num_kv_heads) * vlm.head_dim
    attention = vlm.num_heads * vlm.head_dim
    shapes = [
        ("vision qkv", views, 3 * vision.width, vision.width),
        ("vision out", views, vision.width, vision.width),
        ("vision fc1", views, vision.mlp_dim, vision.width),
        ("vision fc2", views, vision.width, vision.mlp_dim),
        ("prefix qkv", views + 20, heads, vlm.width),
        ("prefix out", views + 20, vlm.width, attention),
        ("prefix gate+up", views + 20, 2 * vlm.mlp_dim, vlm.width),
        ("prefix down", views + 20, vlm.width, vlm.mlp_dim),
        ("expert qkv", suffix, heads, expert.width),
        ("expert out", suffix, expert.width, attention),
        ("expert gate+up", suffix, 2 * expert.mlp_dim, expert.width),
        ("expert down", suffix, expert.width, expert.mlp_dim),
    ]
    for name, m, n, k in shapes:
        if deadline.left < 0:
            break
        layers = 2 if run.small else max(2, min(18, int(1.5e9 / (2 * n * k))))
        weights = [torch.randn(n, k, device=run.device).to(torch.bfloat16) * k**-0.5 for _ in range(layers)]
        x = torch.randn(m, k, device=run.device).to(torch.bfloat16)

        def all_layers(x: torch.Tensor = x, weights: list[torch.Tensor] = weights) -> None:
            for weight in weights:
                F.linear(x, weight)

        took = time_graph(all_layers, run.device, 20).p50 / layers
        moved = 2 * (n * k + m * k + m * n)
        rows.append(
            {"what": name, "m": m, "n": n, "k": k, "us": took * 1e3}
            | {"tflop_s": 2 * m * n * k / took / 1e9, "gb_s": moved / took / 1e6}
        )
    return rows
