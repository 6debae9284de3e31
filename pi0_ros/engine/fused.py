"""The network with Triton kernels for the action expert, whose few rows leave the libraries' kernels waiting.

Per layer and step six kernels: queries, keys and values; attention by shares of the keys; output projection by heads;
residual and norm; gated feed-forward; its projection down, summed by the next residual and norm.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pi0_ros.engine import kernels
from pi0_ros.engine.plain import PlainNetwork, Suffix, rotation
from pi0_ros.engine.schedule import Schedule
from pi0_ros.engine.weights import Weights
from pi0_ros.model.config import ModelConfig

MAX_TOKENS = 512  # of a prompt


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

    qkv: Tiles = Tiles(16, 128, 1, 4, 4)  # columns are pairs
    gate_up: Tiles = Tiles(32, 128)
    down: Tiles = Tiles(64, 512, 8, 8)
    attention_rows: int = 64
    attention_keys: int = 128  # per share
    attention_warps: int = 8
    out_columns: int = 64
    out_warps: int = 8
    prefix_rows: int = 64
    prefix_keys: int = 64
    pdl: int = 1  # programmatic dependent launch, see `kernels.py`


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


def _linear_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """gelu_tanh(x w^T + b): one kernel of cuBLASLt; on a CPU torch's operator of this name takes another gelu."""
    if x.device.type == "cuda":
        return torch._addmm_activation(bias, x, weight.T, use_gelu=True)
    return F.gelu(F.linear(x, weight, bias), approximate="tanh")


class FusedNetwork(PlainNetwork):
    """Plain vision and prefix, the expert in kernels. Buffers are its own: one chunk at a time."""

    def __init__(self, config: ModelConfig, weights: Weights, tuning: Tuning | None = None) -> None:
        super().__init__(config, weights)
        self.tuning = tuning or Tuning()
        sizes, device, tokens = self.sizes, self.device, self.suffix_tokens
        new = lambda *shape, dtype=torch.float32: torch.empty(shape, dtype=dtype, device=device)  # noqa: E731
        self.x = new(tokens, sizes.width, dtype=self.dtype)
        self.hidden = new(tokens, sizes.width, dtype=self.dtype)
        self.inner = new(tokens, sizes.mlp_dim, dtype=self.dtype)
        self.queries = new(tokens, sizes.num_heads * sizes.head_dim, dtype=self.dtype)
        parts = max(sizes.num_heads, self.tuning.down.split, -(-sizes.width // 128))
        self.projected = new(parts, tokens, sizes.width)
        self.speed = new(config.action_horizon, config.action_dim)
        self.nothing = new(1, dtype=self.dtype)
        self.mixed = new(0)
        self.lse = new(0)
        positions = (
            len(config.cameras) * config.vision.num_positions + max(MAX_TOKENS, config.max_token_len) + 2 * tokens
        )
        cos, sin = rotation(torch.arange(positions, device=device), sizes.head_dim)
        half = sizes.head_dim // 2
        self.cos, self.sin = cos[:, 0, :half].contiguous(), sin[:, 0, half:].contiguous()

    # ---- prefix

    def see(self, images: Tensor) -> Tensor:
        """As the plain network: the libraries' products, with their neighbours in one kernel each."""
        if torch.is_grad_enabled():
            return super().see(images)
        weights, width = self.weights, self.config.vision.width
        x = self.patches(images)
        views, patches, _ = x.shape
        x = x.flatten(0, 1)
        heads, update = self.config.vision.num_heads, None
        for layer in weights.vision:
            hidden = self._layer_norm(x, update, layer.norm1)
            qkv = torch.addmm(layer.qkv[1], hidden, layer.qkv[0].T)
            query, key, value = qkv.view(views, patches, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(-1, width)
            update = torch.addmm(layer.out[1], mixed, layer.out[0].T)
            hidden = self._layer_norm(x, update, layer.norm2)
            inner = _linear_gelu(hidden, *layer.fc1)
            update = torch.addmm(layer.fc2[1], inner, layer.fc2[0].T)
        return F.linear(self._layer_norm(x, update, weights.vision_norm), *weights.projector)

    def _layer_norm(self, x: Tensor, update: Tensor | None, pair: tuple[Tensor, Tensor]) -> Tensor:
        out, width = torch.empty_like(x), x.shape[1]
        kernels.layer_norm_kernel[(len(x),)](
            x,
            x if update is None else update,
            *pair,
            out,
            width,
            ADDS=update is not None,
            BD=_power(width),
            num_warps=4,
        )
        return out

    def encode(self, x: Tensor, cache: Tensor, bias: Tensor | None) -> None:
        """As the plain network; `x` is overwritten, padding is hidden by the length that `begin` was given."""
        sizes, tokens, last = self.sizes, len(x), len(self.weights.vlm) - 1
        heads, dim = sizes.num_heads, sizes.head_dim
        hidden, mixed = torch.empty_like(x), x.new_empty(tokens, heads * dim)
        queries, inner = torch.empty_like(mixed), x.new_empty(tokens, self.config.vlm.mlp_dim)
        for index, layer in enumerate(self.weights.vlm):
            assert layer.attention_scale is not None and layer.mlp_scale is not None
            self._norm_prefix(x, hidden, layer.attention_scale)
            qkv = self._matmul(hidden, layer.qkv)
            kernels.rotate_kernel[(tokens,)](
                qkv, self.cos, self.sin, queries, cache[index, 0], cache[index, 1], HEADS=heads, HALF=dim // 2,
                BH=_power(heads + 1, 1), num_warps=4,
            )  # fmt: skip
            if index == last:
                return
            rows = self.tuning.prefix_rows
            kernels.prefix_attend_kernel[(-(-tokens * heads // rows),)](
                queries, cache[index, 0], cache[index, 1], self.length, mixed, tokens * heads, DIM=dim,
                LIMIT=-(-tokens // self.tuning.prefix_keys) * self.tuning.prefix_keys, BM=rows,
                BT=self.tuning.prefix_keys, STAGES=2, num_warps=8 if rows >= 128 else 4,
            )  # fmt: skip
            self._matmul(mixed, layer.out, x)
            self._norm_prefix(x, hidden, layer.mlp_scale)
            both = self._matmul(hidden, layer.gate_up)
            kernels.geglu_kernel[(-(-inner.shape[1] // 2048), tokens)](
                both, inner, inner.shape[1], BLOCK=2048, num_warps=8
            )
            self._matmul(inner, layer.down, x)

    @staticmethod
    def _matmul(x: Tensor, w: Tensor, residual: Tensor | None = None) -> Tensor:
        """x w^T, or added to `residual` in place."""
        return torch.mm(x, w.T) if residual is None else residual.addmm_(x, w.T)

    def _norm_prefix(self, x: Tensor, hidden: Tensor, scale: Tensor) -> None:
        none, width = self.nothing, x.shape[1]
        kernels.settle_kernel[(len(x),)](
            none, x, hidden, scale, none, none, none, none, none, 0, none, none, len(x), width, PARTS=0, FIRST=False,
            GATED=False, MODULATED=False, BD=_power(width), PDL=0, num_warps=4,
        )  # fmt: skip

    # ---- suffix

    def begin(
        self, schedule: Schedule, state: Tensor, length: Tensor, prefix_tokens: int, padded: bool, given: int = 0
    ) -> Suffix:
        """As the plain network, whose rotations and masks are the kernels' own."""
        shares, rows = self._shares(prefix_tokens), self.suffix_tokens * self.sizes.num_heads
        if self.mixed.shape[:1] != (shares,):
            self.mixed = torch.empty(shares, rows, self.sizes.head_dim, dtype=self.dtype, device=self.device)
            self.lse = torch.empty(shares, rows, device=self.device)
        embedded = None
        if schedule.state_in is not None:
            embedded = F.linear(state[None], *schedule.state_in).to(self.dtype)
        return Suffix(self.cos, self.sin, None, embedded, given, None)

    def _shares(self, prefix_tokens: int) -> int:
        return -(-(prefix_tokens + self.suffix_tokens) // self.tuning.attention_keys)

    def velocity(self, schedule: Schedule, suffix: Suffix, cache: Tensor, step: int, x: Tensor) -> Tensor:
        """As the plain network's, without gradients. The next call overwrites the result."""
        return self.run(schedule, suffix, cache, step, x.contiguous(), None)

    def step(self, schedule: Schedule, suffix: Suffix, cache: Tensor, step: int, x: Tensor) -> None:
        """As the plain network's, in the last kernel."""
        self.run(schedule, suffix, cache, step, x, -1 / schedule.num_steps)

    def run(
        self, schedule: Schedule, suffix: Suffix, cache: Tensor, step: int, x: Tensor, euler: float | None
    ) -> Tensor:
        """Return the velocity of `x` [H, A]; with `euler` x += euler * velocity."""
        given = suffix.given
        tuning, sizes, tokens = self.tuning, self.sizes, self.suffix_tokens
        width, pdl, prefix = sizes.width, tuning.pdl, cache.shape[3] - self.suffix_tokens
        launch = {"launch_pdl": True} if pdl else {}
        skip, shares = tokens - len(x), self._shares(prefix)
        first, biases = schedule.action_in
        sizing = {"DIM": x.shape[1], "ADIM": _power(x.shape[1]), "BM": _power(tokens), "BN": 64, "PDL": pdl}
        if schedule.action_out is None:
            kernels.embed_kernel[(-(-width // 64),)](
                x, first, biases[step], biases[-1], given, self.x, len(x), tokens, width, **sizing, **launch
            )
            parts = 0
        else:
            parts = max(1, width // 128)
            kernels.embed_mlp_kernel[(-(-width // 64), parts)](
                x, first, biases[step], biases[-1], given, schedule.action_out[0], self.projected, len(x), tokens,
                width, BK=_power(width // parts), **sizing, num_warps=4, **launch,
            )  # fmt: skip
        for index, layer in enumerate(self.weights.expert):
            begins = None if index or schedule.action_out is None else (schedule.action_out[1], suffix.state)
            self._settle(schedule, step, 2 * index, layer.attention_scale, parts, given, begins=begins)
            keys, values = cache[index, 0, 0], cache[index, 1, 0]
            kernels.turn_kernel[((sizes.num_heads + 2) * sizes.head_dim // 2 // tuning.qkv.columns,)](
                self.hidden, layer.qkv, self.cos, self.sin, self.length, self.queries, keys[prefix:], values[prefix:],
                tokens, width, HEADS=sizes.num_heads, HALF=sizes.head_dim // 2, BM=_power(tokens),
                BN=tuning.qkv.columns, BK=tuning.qkv.depth, PDL=pdl, STAGES=tuning.qkv.stages,
                num_warps=tuning.qkv.warps, **launch,
            )  # fmt: skip
            kernels.attend_kernel[(-(-tokens * sizes.num_heads // tuning.attention_rows), shares)](
                self.queries, keys, values, self.length, self.mixed, self.lse, tokens, prefix, HEADS=sizes.num_heads,
                DIM=sizes.head_dim, BM=tuning.attention_rows, BT=tuning.attention_keys, STATE=skip, PDL=pdl,
                num_warps=tuning.attention_warps, **launch,
            )  # fmt: skip
            kernels.gather_kernel[(-(-width // tuning.out_columns), sizes.num_heads)](
                self.mixed, self.lse, layer.out, self.projected, tokens, width, HEADS=sizes.num_heads,
                DIM=sizes.head_dim, SHARES=shares, BM=_power(tokens), BN=tuning.out_columns, PDL=pdl,
                num_warps=tuning.out_warps, **launch,
            )  # fmt: skip
            self._settle(schedule, step, 2 * index + 1, layer.mlp_scale, sizes.num_heads, given)
            self._project(self.hidden, layer.gate_up, self.inner, tuning.gate_up, True)
            self._project(self.inner, layer.down, self.projected, tuning.down, False)
            parts = tuning.down.split
        last = 2 * len(self.weights.expert)
        made = self._modulation(schedule, step, last, self.weights.final_scale)
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

    def _modulation(self, schedule: Schedule, step: int, norm: int, scale: Tensor | None) -> tuple[Tensor, ...]:
        """Scale and shift of a norm and the gate of the one before it, at this step and for given actions."""
        if scale is not None:
            return (scale, *[self.nothing] * 5)
        made = schedule.modulation
        assert made is not None
        return (
            *(made.scale[step, norm], made.shift[step, norm], made.gate[step, max(norm - 1, 0)]),
            *(made.scale[-1, norm], made.shift[-1, norm], made.gate[-1, max(norm - 1, 0)]),
        )

    def _settle(
        self, schedule: Schedule, step: int, norm: int, scale: Tensor | None, parts: int, given: int,
        begins: tuple[Tensor, Tensor | None] | None = None,
    ) -> None:  # fmt: skip
        """Add `parts` shares of an update to the residual stream, or with `begins` (bias, state) start it; norm it."""
        width, tokens = self.sizes.width, self.suffix_tokens
        made = self._modulation(schedule, step, norm, scale)
        kernels.settle_kernel[(tokens,)](
            self.projected, self.x, self.hidden, *made, given, *(begins or (self.nothing, self.nothing)), tokens, width,
            PARTS=parts, FIRST=begins is not None, GATED=parts > 0 and scale is None, MODULATED=scale is None,
            BD=_power(width), PDL=self.tuning.pdl, num_warps=4, **({"launch_pdl": True} if self.tuning.pdl else {}),
        )  # fmt: skip
