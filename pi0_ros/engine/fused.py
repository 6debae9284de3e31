"""The network with Triton kernels for the action expert, whose few rows leave the libraries' kernels waiting.

Per layer and step six kernels: queries, keys and values; attention by shares of the keys; output projection by heads;
residual and norm; gated feed-forward; its projection down, summed by the next residual and norm.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pi0_ros.engine import kernels
from pi0_ros.engine.plain import PlainNetwork, Suffix
from pi0_ros.engine.schedule import Schedule
from pi0_ros.engine.weights import Weights
from pi0_ros.model.config import ModelConfig


@dataclass(frozen=True)
class Tiles:
    """How a product is cut: outputs and inputs per program, shares of the inputs, warps, stages of the pipeline."""

    columns: int
    depth: int
    split: int = 1
    warps: int = 4
    stages: int = 3


@dataclass(frozen=True)
class Tuning:
    """Everything about the kernels that is chosen by measurement."""

    qkv: Tiles = Tiles(64, 256, 2)
    gate_up: Tiles = Tiles(32, 128)
    down: Tiles = Tiles(64, 512, 8, 8)
    span: int = 128  # cached keys per share of the attention
    attention_rows: int = 32
    attention_keys: int = 64
    attention_warps: int = 4
    out_columns: int = 64
    out_warps: int = 8
    pdl: bool = False


def why_not(config: ModelConfig) -> str:
    """Why the kernels cannot serve a model of these sizes; "" where they can."""
    expert = config.flow_expert
    if expert.num_kv_heads != 1:
        return f"{expert.num_kv_heads} key/value heads"
    sizes = {"head_dim": expert.head_dim, "num_heads": expert.num_heads, "expert.width": expert.width}
    odd = [f"{name} {size}" for name, size in sizes.items() if size & (size - 1) or size < 16]
    odd = [one for one in odd if not one.startswith("num_heads")]
    if odd:
        return f"sizes that are no power of two: {', '.join(odd)}"
    if config.action_horizon + 1 > 64:
        return f"a horizon of {config.action_horizon} actions, the kernels take 63"
    return ""


def _power(value: int, least: int = 16) -> int:
    return max(least, 1 << (value - 1).bit_length())


class FusedNetwork(PlainNetwork):
    """Plain vision and prefix, the expert in kernels. Buffers are its own: one chunk at a time."""

    def __init__(self, config: ModelConfig, weights: Weights, tuning: Tuning | None = None) -> None:
        super().__init__(config, weights)
        self.tuning = tuning or Tuning()
        sizes, device, tokens = self.sizes, self.device, self.suffix_tokens
        heads = sizes.num_heads + 2
        new = lambda *shape, dtype=torch.float32: torch.empty(shape, dtype=dtype, device=device)  # noqa: E731
        self.x = new(tokens, sizes.width, dtype=self.dtype)
        self.hidden = new(tokens, sizes.width, dtype=self.dtype)
        self.inner = new(tokens, sizes.mlp_dim, dtype=self.dtype)
        self.qkv = new(self.tuning.qkv.split, tokens, heads * sizes.head_dim)
        self.projected = new(max(sizes.num_heads, self.tuning.down.split), tokens, sizes.width)
        self.speed = new(config.action_horizon, config.action_dim)
        self.nothing = new(1, dtype=self.dtype)
        self.mixed = new(0)
        self.lse = new(0)

    def begin(
        self, schedule: Schedule, state: Tensor, length: Tensor, prefix_tokens: int, padded: bool, given: int = 0
    ) -> Suffix:
        """As the plain network; rotations and room for the kernels."""
        suffix = super().begin(schedule, state, length, prefix_tokens, padded, given)
        half = self.sizes.head_dim // 2
        shares, rows = -(-prefix_tokens // self.tuning.span) + 1, self.suffix_tokens * self.sizes.num_heads
        if self.mixed.shape[:1] != (shares,):
            self.mixed = torch.empty(shares, rows, self.sizes.head_dim, device=self.device)
            self.lse = torch.empty(shares, rows, device=self.device)
        self._cos, self._sin = suffix.cos[:, 0, :half].contiguous(), suffix.sin[:, 0, half:].contiguous()
        self._length = length
        return suffix

    def step(self, schedule: Schedule, suffix: Suffix, cache: Tensor, step: int, x: Tensor) -> None:
        """As the plain network's, in the last kernel."""
        self.run(schedule, suffix, cache, step, x, -1 / schedule.num_steps)

    def velocity(self, schedule: Schedule, suffix: Suffix, cache: Tensor, step: int, x: Tensor) -> Tensor:
        """As the plain network's; gradients are left to it. The result is overwritten by the next call."""
        if torch.is_grad_enabled():
            return super().velocity(schedule, suffix, cache, step, x)
        return self.run(schedule, suffix, cache, step, x.contiguous(), None)

    def run(
        self, schedule: Schedule, suffix: Suffix, cache: Tensor, step: int, x: Tensor, euler: float | None
    ) -> Tensor:
        """Return the velocity of `x` [H, A]; with `euler` x += euler * velocity."""
        given = suffix.given
        tuning, sizes, tokens = self.tuning, self.sizes, self.suffix_tokens
        width, pdl, prefix = sizes.width, tuning.pdl, cache.shape[3] - self.suffix_tokens
        launch = {"launch_pdl": True} if pdl else {}
        skip = tokens - len(x)
        columns = 16 if schedule.action_out is not None else 64
        first, biases = schedule.action_in
        second = schedule.action_out or (self.nothing, self.nothing)
        kernels.embed_kernel[(-(-width // columns),)](
            x, first, biases[step], biases[-1], given, *second,
            self.nothing if suffix.state is None else suffix.state, self.x, len(x), width, x.shape[1],
            ADIM=_power(x.shape[1]), MLP=schedule.action_out is not None, STATE=skip, BM=_power(tokens), BN=columns,
            BK=64, PDL=pdl, **launch,
        )  # fmt: skip
        parts = 0
        for index, layer in enumerate(self.weights.expert):
            self._settle(schedule, step, 2 * index, layer.attention_scale, parts, given)
            self._project(self.hidden, layer.qkv, self.qkv, tuning.qkv, False)
            shares = -(-prefix // tuning.span) + 1
            kernels.attend_kernel[(-(-tokens * sizes.num_heads // tuning.attention_rows), shares)](
                self.qkv, cache[index, 0], cache[index, 1], self._cos, self._sin, self._length, self.mixed, self.lse,
                tokens, HEADS=sizes.num_heads, HALF=sizes.head_dim // 2, PARTS=tuning.qkv.split, SPAN=tuning.span,
                OWN=_power(tokens), BM=tuning.attention_rows, BT=tuning.attention_keys, STATE=skip, PDL=pdl,
                num_warps=tuning.attention_warps, **launch,
            )  # fmt: skip
            kernels.gather_kernel[(-(-width // tuning.out_columns), sizes.num_heads)](
                self.mixed, self.lse, layer.out, self.projected, tokens, width, HEADS=sizes.num_heads,
                DIM=sizes.head_dim, SHARES=shares, BM=_power(tokens), BN=tuning.out_columns, PDL=pdl,
                num_warps=tuning.out_warps, **launch,
            )  # fmt: skip
            self._settle(schedule, step, 2 * index + 1, layer.mlp_scale, sizes.num_heads, given, gate_of=2 * index)
            self._project(self.hidden, layer.gate_up, self.inner, tuning.gate_up, True)
            self._project(self.inner, layer.down, self.projected, tuning.down, False)
            parts = tuning.down.split
        last = 2 * len(self.weights.expert)
        made = self._modulation(schedule, step, last, self.weights.final_scale, gate_of=last - 1)
        kernels.finish_kernel[(len(x),)](
            self.projected, self.x, *made, given, *self.weights.action_out, x, self.speed, euler or 0.0, tokens, width,
            SKIP=skip, DIM=x.shape[1], ADIM=_power(x.shape[1]), PARTS=parts,
            MODULATED=schedule.modulation is not None, EULER=euler is not None, BD=_power(width), PDL=pdl, num_warps=8,
            **launch,
        )  # fmt: skip
        return self.speed

    def _project(self, x: Tensor, w: Tensor, out: Tensor, tiles: Tiles, gated: bool) -> None:
        outputs = w.shape[0] // (2 if gated else 1)
        rows = _power(len(x))
        kernels.project_kernel[(-(-outputs // tiles.columns), tiles.split, 1)](
            x, w, out, len(x), outputs, w.shape[1], SPLIT=tiles.split, BM=rows, BN=tiles.columns, BK=tiles.depth,
            GEGLU=gated, PARTIAL=not gated, PDL=self.tuning.pdl, STAGES=tiles.stages, num_warps=tiles.warps,
            num_stages=tiles.stages, **({"launch_pdl": True} if self.tuning.pdl else {}),
        )  # fmt: skip

    def _modulation(
        self, schedule: Schedule, step: int, norm: int, scale: Tensor | None, gate_of: int
    ) -> tuple[Tensor, ...]:
        """Scale, shift and gate at this step, and those of given actions."""
        if scale is not None:
            return (scale, *[self.nothing] * 5)
        made = schedule.modulation
        assert made is not None
        return (
            *(made.scale[step, norm], made.shift[step, norm], made.gate[step, gate_of]),
            *(made.scale[-1, norm], made.shift[-1, norm], made.gate[-1, gate_of]),
        )

    def _settle(
        self, schedule: Schedule, step: int, norm: int, scale: Tensor | None, parts: int, given: int, gate_of: int = -1
    ) -> None:
        width, tokens = self.sizes.width, self.suffix_tokens
        gate_of = norm - 1 if gate_of < 0 and norm else max(gate_of, 0)
        made = self._modulation(schedule, step, norm, scale, gate_of)
        kernels.settle_kernel[(tokens,)](
            self.projected, self.x, self.hidden, *made, given, tokens, width, PARTS=parts,
            GATED=parts > 0 and scale is None, MODULATED=scale is None, BD=_power(width), PDL=self.tuning.pdl,
            num_warps=4, **({"launch_pdl": True} if self.tuning.pdl else {}),
        )  # fmt: skip
