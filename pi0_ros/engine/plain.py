"""The network in plain torch over prepared weights, for one observation: what the engine runs where no kernel of its
own is chosen, and what those kernels are compared with.

P prefix tokens (images, then prompt), S suffix tokens (pi0: the state, then the actions), D width, A action dimensions.
Activations are [tokens, D]. The cache holds [prefix | suffix] per layer, [depth, 2, kv heads, P + S, head_dim]: the
suffix's part is written anew at each step, nothing is copied.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pi0_ros.engine.schedule import Schedule
from pi0_ros.engine.weights import VisionLayerWeights, Weights
from pi0_ros.model.config import ModelConfig
from pi0_ros.model.layers import NORM_EPS, ROPE_BASE
from pi0_ros.model.vision import NORM_EPS as VISION_EPS

GELU = math.sqrt(2 / math.pi)
_EPS, _TWICE_GELU = torch.full((1, 1), NORM_EPS), torch.full((1, 1), 2 * GELU)  # made once: the sums are small


def rms_norm(x: Tensor, scale: Tensor) -> Tensor:
    """`x / rms(x) * scale` [tokens, D] in float32, rounded to the dtype of `x`."""
    return _normal(x, scale).to(x.dtype)


def _normal(x: Tensor, scale: Tensor | None) -> Tensor:
    if x.device.type != "cpu":
        return F.rms_norm(x.float(), x.shape[-1:], scale, NORM_EPS)
    x = x.float()  # on a CPU torch's own takes longer than these few steps
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    normal = x * torch.addcmul(_EPS, length, length, value=1 / x.shape[-1]).rsqrt_()
    return normal if scale is None else normal.mul_(scale)


def modulated_norm(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """`x / rms(x) * scale + shift` in float32, rounded to the dtype of `x` [S, D]; scale and shift [D] or [S, D]."""
    return torch.addcmul(shift, _normal(x, None), scale).to(x.dtype)


def rotation(positions: Tensor, head_dim: int) -> tuple[Tensor, Tensor]:
    """Cosine and signed sine [tokens, 1, head_dim] of integer `positions` [tokens]; see `model.layers.Rotary`."""
    exponents = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim
    angles = positions.float()[:, None, None] / ROPE_BASE**exponents
    sin = angles.sin()
    return angles.cos().repeat(1, 1, 2), torch.cat([-sin, sin], dim=-1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn `x` [tokens, heads, head_dim] in float32, rounded back."""
    exact = x.float()
    return torch.addcmul(exact * cos, exact.roll(x.shape[-1] // 2, dims=-1), sin).to(x.dtype)


def geglu(both: Tensor) -> Tensor:
    """`gelu_tanh(gate) * up` for [gate | up] [tokens, 2 F]."""
    gate, up = both.chunk(2, dim=-1)
    if both.device.type != "cpu" or both.dtype != torch.float32 or torch.is_grad_enabled():
        return F.gelu(gate, approximate="tanh") * up
    inner = torch.addcmul(_TWICE_GELU, gate, gate, value=2 * GELU * 0.044715).mul_(gate)
    return inner.sigmoid_().mul_(gate).mul_(up)  # gelu_tanh(x) = x sigmoid(inner), on a CPU in a third of the time


@dataclass(frozen=True)
class Suffix:
    """What the steps of one chunk share."""

    cos: Tensor  # [S, 1, head_dim]
    sin: Tensor
    bias: Tensor | None  # [1, 1, S * heads per kv head, P + S] additive, None: everything is seen
    state: Tensor | None  # pi0: the embedded state [1, D]
    given: int  # so many first actions are known and stand still at time 0
    standing: Tensor | None  # bool [H, 1], which ones those are; None: no one


Room = tuple[Tensor, Tensor, Tensor, Tensor]  # of a layer: all keys and values [kv heads, P + S, head_dim], and its own


def _rooms(cache: Tensor, first: int, count: int) -> Iterator[Room]:
    """Each layer's views of the cache; its own part are `count` tokens from `first` on."""
    keys, values = cache.unbind(1)
    own = keys.narrow(2, first, count), values.narrow(2, first, count)
    return zip(keys.unbind(), values.unbind(), own[0].unbind(), own[1].unbind())


class PlainNetwork:
    """Vision, prefix and velocity in torch. Tensors in, tensors out; the caller owns the cache."""

    def __init__(self, config: ModelConfig, weights: Weights) -> None:
        self.config = config
        self.weights = weights
        self.sizes = config.flow_expert
        self.group = self.sizes.num_heads // self.sizes.num_kv_heads
        self.suffix_tokens = config.action_horizon + (0 if config.is_pi05 else 1)
        self.dtype = weights.vlm[0].qkv.dtype
        self.device = weights.embedding.device
        self.length = torch.zeros(1, dtype=torch.int64, device=self.device)  # of the prefix now in the cache

    def new_cache(self, prefix_tokens: int) -> Tensor:
        """Room for keys and values of prefix and suffix, [depth, 2, kv heads, P + S, head_dim]."""
        sizes = self.sizes
        tokens = prefix_tokens + self.suffix_tokens
        shape = (sizes.depth, 2, sizes.num_kv_heads, tokens, sizes.head_dim)
        return torch.zeros(shape, dtype=self.dtype, device=self.device)

    # ---- prefix

    def vision_layer(self, x: Tensor, layer: VisionLayerWeights) -> Tensor:
        """Map [N, T, W] to [N, T, W]."""
        heads = self.config.vision.num_heads
        hidden = F.layer_norm(x, x.shape[-1:], *layer.norm1, VISION_EPS)
        qkv = F.linear(hidden, *layer.qkv).unflatten(-1, (3, heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        x = x + F.linear(mixed, *layer.out)
        hidden = F.layer_norm(x, x.shape[-1:], *layer.norm2, VISION_EPS)
        return x + F.linear(F.gelu(F.linear(hidden, *layer.fc1), approximate="tanh"), *layer.fc2)

    def patches(self, images: Tensor) -> Tensor:
        """Cut `images` float32 [N, size, size, 3] into embedded patches with their positions, [N, T, W]."""
        sizes, weights = self.config.vision, self.weights
        grid, patch = sizes.image_size // sizes.patch_size, sizes.patch_size
        cut = images.reshape(-1, grid, patch, grid, patch, 3).transpose(2, 3).reshape(-1, grid**2, patch**2 * 3)
        return (F.linear(cut, weights.patch[0]) + weights.patch[1]).to(self.dtype)

    def see(self, images: Tensor) -> Tensor:
        """Map `images` float32 [N, size, size, 3] in -1 .. 1 to prefix tokens [N * T, D]."""
        weights, x = self.weights, self.patches(images)
        for layer in weights.vision:
            x = self.vision_layer(x, layer)
        x = F.layer_norm(x, x.shape[-1:], *weights.vision_norm, VISION_EPS)
        return F.linear(x, *weights.projector).flatten(0, 1)

    def read(self, tokens: Tensor) -> Tensor:
        """Map prompt `tokens` int64 [L] to [L, D]."""
        return (F.embedding(tokens, self.weights.embedding) * math.sqrt(self.config.vlm.width)).to(self.dtype)

    def encode(self, x: Tensor, cache: Tensor, bias: Tensor | None) -> None:
        """Run the prefix [P, D] through the language model and write its keys and values into `cache`.

        `bias` [1, 1, 1, P] hides the padding of a shape bucket.
        """
        tokens, last = len(x), len(self.weights.vlm) - 1
        cos, sin = rotation(torch.arange(tokens, device=x.device), self.sizes.head_dim)
        rooms = _rooms(cache, 0, tokens)
        for index, (layer, (_, _, keys, values)) in enumerate(zip(self.weights.vlm, rooms, strict=True)):
            assert layer.attention_scale is not None and layer.mlp_scale is not None
            hidden = rms_norm(x, layer.attention_scale)
            if index == last:  # nobody reads what the last layer puts out
                only = layer.qkv[self.sizes.num_heads * self.sizes.head_dim :]
                self._store(F.linear(hidden, only), keys, values, cos, sin)
                return
            query = self._store(F.linear(hidden, layer.qkv), keys, values, cos, sin)
            x = x + F.linear(self._attend(query, keys, values, bias), layer.out)
            x = x + F.linear(geglu(F.linear(rms_norm(x, layer.mlp_scale), layer.gate_up)), layer.down)

    def _store(self, qkv: Tensor, keys: Tensor, values: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Write rotated keys, and values, into their room [kv heads, S, head_dim]; return the rotated queries."""
        kv_heads = self.sizes.num_kv_heads
        heads = qkv.view(len(qkv), -1, self.sizes.head_dim)
        queries = heads.shape[1] - 2 * kv_heads
        turned = rotate(heads.narrow(1, 0, queries + kv_heads), cos, sin)
        keys.copy_(turned.narrow(1, queries, kv_heads).transpose(0, 1))
        values.copy_(heads.narrow(1, queries + kv_heads, kv_heads).transpose(0, 1))
        return turned.narrow(1, 0, queries)

    def _attend(self, query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        """Attend from rotated queries [S, heads, head_dim] to [kv heads, T, head_dim]; return [S, heads * head_dim].

        Heads that share keys are folded into the sequence, where they need no copy.
        """
        count = len(query)
        if len(keys) == 1:
            folded = query.reshape(1, 1, -1, query.shape[2])
            return F.scaled_dot_product_attention(folded, keys[None], values[None], attn_mask=bias).reshape(count, -1)
        folded = query.unflatten(1, (-1, self.group)).transpose(0, 1).flatten(1, 2)
        out = F.scaled_dot_product_attention(folded[None], keys[None], values[None], attn_mask=bias)[0]
        return out.unflatten(1, (count, self.group)).transpose(0, 1).flatten(1)

    # ---- suffix

    def begin(
        self, schedule: Schedule, state: Tensor, length: Tensor, prefix_tokens: int, padded: bool, given: int = 0
    ) -> Suffix:
        """Prepare the steps for a `state` float32 [A] behind a prefix of `length` int64 [1] tokens in room for P."""
        device, suffix = length.device, self.suffix_tokens
        cos, sin = rotation(length + torch.arange(suffix, device=device), self.sizes.head_dim)
        allowed = torch.ones(suffix, prefix_tokens + suffix, dtype=torch.bool, device=device)
        if schedule.state_in is not None:
            allowed[0, prefix_tokens + 1 :] = False  # the state does not see the actions
        if padded:
            columns = torch.arange(prefix_tokens + suffix, device=device)
            allowed &= (columns < length) | (columns >= prefix_tokens)
        bias = None
        if padded or schedule.state_in is not None:
            bias = torch.zeros(allowed.shape, dtype=self.dtype, device=device)
            bias = bias.masked_fill(~allowed, 0.7 * torch.finfo(self.dtype).min).repeat_interleave(self.group, 0)[
                None, None
            ]
        embedded = None
        if schedule.state_in is not None:
            embedded = F.linear(state[None], *schedule.state_in).to(self.dtype)
        standing = (torch.arange(self.config.action_horizon, device=device) < given)[:, None] if given else None
        return Suffix(cos, sin, bias, embedded, given, standing)

    def embed(self, schedule: Schedule, step: int, x: Tensor, suffix: Suffix) -> Tensor:
        """Return the suffix [S, D] of noisy actions `x` float32 [H, A]."""
        weight, biases = schedule.action_in
        bias = biases[step] if suffix.standing is None else torch.where(suffix.standing, biases[-1], biases[step])
        embedded = F.linear(x, weight) + bias
        if schedule.action_out is not None:
            embedded = F.linear(F.silu(embedded), *schedule.action_out)
        embedded = embedded.to(self.dtype)
        return embedded if suffix.state is None else torch.cat([suffix.state, embedded])

    def step(self, schedule: Schedule, suffix: Suffix, cache: Tensor, step: int, x: Tensor) -> None:
        """Take one Euler step from `x` float32 [H, A], in place."""
        x.add_(self.velocity(schedule, suffix, cache, step, x), alpha=-1 / schedule.num_steps)

    def velocity(self, schedule: Schedule, suffix: Suffix, cache: Tensor, step: int, x: Tensor) -> Tensor:
        """Return the flow velocity float32 [H, A] of noisy actions `x` [H, A] at number `step` of the schedule.

        Differentiable in `x` where gradients are on: then keys and values are joined instead of written.
        """
        hidden = self.embed(schedule, step, x, suffix)
        given = suffix.standing
        rooms = _rooms(cache, cache.shape[3] - len(hidden), len(hidden))
        for index, (layer, room) in enumerate(zip(self.weights.expert, rooms, strict=True)):
            normal, gate = self._norm(hidden, layer.attention_scale, schedule, step, 2 * index, given)
            mixed = self._mix(F.linear(normal, layer.qkv), room, suffix)
            hidden = self._add(hidden, F.linear(mixed, layer.out), gate)
            normal, gate = self._norm(hidden, layer.mlp_scale, schedule, step, 2 * index + 1, given)
            hidden = self._add(hidden, F.linear(geglu(F.linear(normal, layer.gate_up)), layer.down), gate)
        normal, _ = self._norm(hidden, self.weights.final_scale, schedule, step, 2 * len(self.weights.expert), given)
        return F.linear(normal[-len(x) :].float(), *self.weights.action_out)

    def _mix(self, qkv: Tensor, room: Room, suffix: Suffix) -> Tensor:
        all_keys, all_values, keys, values = room
        if not torch.is_grad_enabled():
            query = self._store(qkv, keys, values, suffix.cos, suffix.sin)
            return self._attend(query, all_keys, all_values, suffix.bias)
        kv_heads, prefix = self.sizes.num_kv_heads, all_keys.shape[1] - len(qkv)
        heads = qkv.unflatten(-1, (-1, self.sizes.head_dim))
        turned = rotate(heads[:, :-kv_heads], suffix.cos, suffix.sin)
        joined_keys = torch.cat([all_keys[:, :prefix], turned[:, -kv_heads:].transpose(0, 1)], dim=1)
        joined_values = torch.cat([all_values[:, :prefix], heads[:, -kv_heads:].transpose(0, 1)], dim=1)
        return self._attend(turned[:, :-kv_heads], joined_keys, joined_values, suffix.bias)

    def _norm(
        self, x: Tensor, scale: Tensor | None, schedule: Schedule, step: int, norm: int, given: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        if scale is not None:
            return rms_norm(x, scale), None
        made = schedule.modulation
        assert made is not None
        rows = [values[step, norm] for values in (made.scale, made.shift, made.gate)]
        if given is not None:
            still = [values[-1, norm] for values in (made.scale, made.shift, made.gate)]
            rows = [torch.where(given, stand, move) for stand, move in zip(still, rows, strict=True)]
        return modulated_norm(x, rows[0], rows[1]), rows[2]

    @staticmethod
    def _add(x: Tensor, update: Tensor, gate: Tensor | None) -> Tensor:
        return x + update if gate is None else torch.addcmul(x, update, gate)
