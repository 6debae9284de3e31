"""The pi0 and pi0.5 networks: a vision-language prefix, an action expert on top of it, and their flow-matching loss.

Tensors in, tensors out. B batch, P prefix tokens, L prompt tokens, H action horizon, A action dimensions, D width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pi0_ros.model.config import ModelConfig
from pi0_ros.model.flow import integrate, interpolate, time_embedding
from pi0_ros.model.generation import prefix_positions
from pi0_ros.model.init import init_weights
from pi0_ros.model.layers import Rotary, attention_bias, fold_heads
from pi0_ros.model.paligemma import ModelInput, PaliGemma, Pictures
from pi0_ros.model.rtc import Guidance
from pi0_ros.model.transformer import KeysValues, Transformer


@dataclass(frozen=True)
class Prefix:
    """What the action expert sees of images and prompt: computed once, read by every velocity."""

    cached: list[KeysValues]  # per layer, each [B, kv heads, P, head_dim]
    mask: Tensor  # bool [B, P]: False for padding and missing cameras
    hidden: Tensor  # [B, P, D]: normed input of the last VLM layer, behind the last keys and values
    draws: int = 1  # suffix rows per prefix row

    def repeat(self, draws: int) -> Prefix:
        """Return the prefix for a suffix batch tiled like `actions.repeat(draws, 1, 1)`, without copying it."""
        return replace(self, draws=self.draws * draws)


class Pi0(PaliGemma):
    """pi0 or pi0.5, by its config. New weights are random; `load_model` reads trained ones.

    Nothing reads what the last VLM layer puts out, so its query and output projections, feed-forward and second norm
    and the final VLM norm are parameters (checkpoints have them) that no action loss reaches: their gradient stays
    None, unless text is learned too (`text_errors`).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.sizes = config.flow_expert
        width, dim = self.sizes.width, config.action_dim
        self.expert = Transformer(self.sizes, adaptive=config.is_pi05)
        self.action_in_proj = nn.Linear(dim, width)
        self.action_out_proj = nn.Linear(width, dim)
        if config.is_pi05:
            self.time_mlp_in = nn.Linear(width, width)
            self.time_mlp_out = nn.Linear(width, width)
        else:
            self.state_proj = nn.Linear(config.state_width, width)
            self.action_time_mlp_in = nn.Linear(2 * width, width)
            self.action_time_mlp_out = nn.Linear(width, width)
        self.lerobot_times = False  # sample at multiples of a step, as LeRobot does, instead of openpi's running sum
        init_weights(self)
        self.set_dtype(getattr(torch, config.dtype))

    # ---- prefix: images and prompt ----

    def encode_prefix(self, inputs: ModelInput, pictures: Pictures | None = None) -> Prefix:
        """Run images and prompt through the vision-language model once; `pictures` as in `embed_prefix`."""
        embedded, mask = self.embed_prefix(inputs, pictures)
        rotary = Rotary.at(prefix_positions(mask), self.config.vlm.head_dim)
        cached, hidden = self.vlm.cache(embedded, rotary, attention_bias(mask[:, None, None, :], embedded.dtype))
        return Prefix(cached, mask, hidden)

    # ---- suffix: state and noisy actions ----

    def embed_suffix(self, state: Tensor, x_t: Tensor, time: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return suffix embeddings [B, S, D] and, for pi0.5, the condition of the adaptive norms [B, 1 or H, D]."""
        actions = self.action_in_proj(x_t)
        embedded = time_embedding(time, self.sizes.width)
        embedded = embedded[:, None] if time.ndim == 1 else embedded
        if self.config.is_pi05:
            return actions, F.silu(self.time_mlp_out(F.silu(self.time_mlp_in(embedded))))
        mixed = torch.cat([actions, embedded.expand_as(actions)], dim=-1)
        mixed = self.action_time_mlp_out(F.silu(self.action_time_mlp_in(mixed)))
        return torch.cat([self.state_proj(state)[:, None], mixed], dim=1), None

    def suffix_bias(self, mask: Tensor, length: int, dtype: torch.dtype) -> Tensor:
        """Return the attention bias of `length` suffix tokens over [prefix | suffix] for a prefix `mask` [B, P].

        All tokens see the valid prefix and all actions see everything; the state token of pi0 does not see actions.
        """
        allowed = F.pad(mask, (0, length), value=True)[:, None, None, :]
        if self.config.is_pi05:
            return attention_bias(allowed, dtype)
        allowed = allowed.repeat(1, 1, length, 1)
        allowed[:, :, 0, mask.shape[1] + 1 :] = False
        return fold_heads(attention_bias(allowed, dtype), self.sizes.num_heads // self.sizes.num_kv_heads)

    def velocity(self, prefix: Prefix, state: Tensor, x_t: Tensor, time: Tensor) -> Tensor:
        """Return the flow velocity float32 [B, H, A] of noisy actions `x_t` at `time` [B] (or one per action [B, H]).

        `state` [B, S] (S is `state_width`) is read by pi0 only. The prefix is read, never changed.
        """
        rows, dim = prefix.mask.shape[0] * prefix.draws, self.config.action_dim
        if x_t.ndim != 3 or x_t.shape[0] != rows or x_t.shape[2] != dim:
            raise ValueError(
                f"actions are {list(x_t.shape)}, a prefix of {prefix.mask.shape[0]} rows x {prefix.draws} draws "
                f"needs [{rows}, horizon, {dim}]"
            )
        if not self.config.is_pi05 and tuple(state.shape) != (rows, self.config.state_width):
            raise ValueError(f"state is {list(state.shape)}, the model needs {[rows, self.config.state_width]}")
        embedded, condition = self.embed_suffix(state, x_t, time)
        embedded = embedded.to(self.expert.dtype)
        length = embedded.shape[1]
        mask = prefix.mask.repeat(prefix.draws, 1)
        positions = mask.sum(1, keepdim=True) + torch.arange(length, device=mask.device)
        rotary = Rotary.at(positions, self.sizes.head_dim)
        bias = self.suffix_bias(mask, length, embedded.dtype)
        out = self.expert(embedded, rotary, bias, prefix.cached, condition)
        return self.action_out_proj(out[:, -x_t.shape[1] :].float())

    # ---- training and sampling ----

    def loss(
        self,
        inputs: ModelInput,
        actions: Tensor,
        noise: Tensor,
        time: Tensor,
        reduction: str = "none",
        prefix: Prefix | None = None,
    ) -> Tensor:
        """Return the flow-matching loss for `actions` [B, H, A]: the squared velocity error per element, or its `mean`.

        `noise` [n * B, H, A] and `time` [n * B] (or one per action, [n * B, H]) are n draws per row, draw after draw:
        all of them read one pass through images and prompt. `prefix` is that pass, where it has been made already.
        """
        if reduction not in ("none", "mean"):
            raise ValueError(f"reduction must be 'none' or 'mean', not {reduction!r}")
        draws, rest = divmod(len(noise), len(actions))
        if rest or draws == 0 or len(time) != len(noise):
            raise ValueError(f"{len(noise)} rows of noise and {len(time)} times do not fit {len(actions)} chunks")
        prefix = (self.encode_prefix(inputs) if prefix is None else prefix).repeat(draws)
        state, actions = inputs.state.repeat(draws, 1), actions.repeat(draws, 1, 1)
        predicted = self.velocity(prefix, state, interpolate(actions, noise, time), time)
        error = (predicted - (noise - actions)).square()
        return error.mean() if reduction == "mean" else error

    def sample_actions(
        self,
        inputs: ModelInput,
        noise: Tensor | None = None,
        num_steps: int = 10,
        generator: torch.Generator | None = None,
        guidance: Guidance | None = None,
    ) -> Tensor:
        """Return actions float32 [B, H, A] from `noise` (drawn when not given) in `num_steps` Euler steps.

        `guidance` makes the chunk continue known actions, see `rtc.py`.
        """
        if noise is None:
            shape = (inputs.state.shape[0], self.config.action_horizon, self.config.action_dim)
            noise = torch.randn(shape, generator=generator, device=inputs.state.device)
        inference = torch.is_inference_mode_enabled() and guidance is None  # guidance may differentiate the velocity
        with torch.inference_mode(inference), torch.no_grad():
            prefix, state = self.encode_prefix(inputs), inputs.state.clone()

            def velocity(x: Tensor, time: Tensor) -> Tensor:
                time = (time * num_steps).round() / num_steps if self.lerobot_times else time
                return self.velocity(prefix, state, x, time)

            if guidance is not None:
                return guidance.integrate(velocity, noise, num_steps)
            return integrate(velocity, noise, num_steps)
