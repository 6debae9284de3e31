"""Compile every kernel launch of a pi0 and a pi0.5 chunk at full size for compute capability 9.0, without a GPU.

Prints name, warps and shared memory of each. Weights are one number, expanded: only shapes matter.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pi0_ros.engine.fused import FusedNetwork, Tuning
from pi0_ros.engine.schedule import Modulation, Schedule
from pi0_ros.engine.weights import LayerWeights, Weights
from pi0_ros.model.config import Expert, ModelConfig

SHARED = 227 * 1024  # bytes that one program may have on a Hopper GPU


class Hopper:
    """Stands for the driver of a machine that is not there."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def compile_only(run: Any) -> Any:
    """A kernel's launch that ends before the launch."""

    def compiled(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        kernel = run(self, *args, grid=grid, warmup=True, **kwargs)
        print(f"{self.__name__} {kernel.metadata.num_warps} warps, {kernel.metadata.shared} bytes", flush=True)
        assert kernel.metadata.shared <= SHARED, f"{self.__name__} wants {kernel.metadata.shared} bytes"
        return kernel

    return compiled


def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.zeros(1, dtype=dtype).expand(*shape)


def weights_of(config: ModelConfig) -> Weights:
    """Weights without memory."""

    def layer(sizes: Expert, adaptive: bool) -> LayerWeights:
        scale, heads = None if adaptive else zeros(sizes.width), sizes.num_heads * sizes.head_dim
        half = torch.bfloat16
        return LayerWeights(
            *(scale, zeros(heads + 2 * sizes.head_dim, sizes.width, dtype=half), zeros(sizes.width, heads, dtype=half)),
            *(scale, zeros(2 * sizes.mlp_dim, sizes.width, dtype=half), zeros(sizes.width, sizes.mlp_dim, dtype=half)),
        )

    expert, pair = config.flow_expert, (zeros(1), zeros(1))
    final = None if config.is_pi05 else zeros(expert.width)
    out = zeros(config.action_dim, expert.width), zeros(config.action_dim)
    table = zeros(8, config.vlm.width, dtype=torch.bfloat16)
    layers = [layer(config.vlm, False)] * 2, [layer(expert, config.is_pi05)]
    return Weights(pair, [], pair, pair, table, *layers, final, out)


def schedule_of(config: ModelConfig) -> Schedule:
    """Two steps without memory."""
    width, dim = config.flow_expert.width, config.action_dim
    entry = zeros(width, dim), zeros(3, width)
    if config.is_pi05:
        norms = [zeros(3, 3, width, dtype=dtype) for dtype in (torch.float32, torch.float32, torch.bfloat16)]
        return Schedule(2, entry, None, None, Modulation(*norms))
    return Schedule(2, entry, (zeros(width, width), zeros(width)), (zeros(width, dim), zeros(width)), None)


def main() -> None:
    """Compile whatever a chunk launches."""
    triton.runtime.driver.set_active(Hopper())
    JITFunction.run = compile_only(JITFunction.run)
    for name in ("pi0", "pi05"):
        config = ModelConfig.preset(name)
        network, prefix = FusedNetwork(config, weights_of(config), Tuning()), 544
        cache = torch.zeros(2, 2, 1, prefix + network.suffix_tokens, 256, dtype=torch.bfloat16)
        FusedNetwork._matmul = staticmethod(lambda x, w, residual=None: x.new_empty(len(x), w.shape[0]))
        network.encode(torch.zeros(prefix, config.vlm.width, dtype=torch.bfloat16), cache, None)
        patches = torch.zeros(512, config.vision.width, dtype=torch.bfloat16)
        for update in (None, patches):
            network._layer_norm(patches, update, (patches[0], patches[0]))
        schedule = schedule_of(config)
        suffix = network.begin(schedule, torch.zeros(config.action_dim), network.length, prefix, True)
        network.step(schedule, suffix, cache, 0, torch.zeros(config.action_horizon, config.action_dim))


if __name__ == "__main__":
    main()
