"""pi0-FAST: no action expert; the vision-language model writes a chunk of actions as text (openpi `pi0_fast.py`).

Tensors in, tensors out. B batch, P prefix tokens, L prompt tokens, H action horizon, A action dimensions.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pi0_ros.model.config import ConfigError, ModelConfig
from pi0_ros.model.generation import causal_bias, write
from pi0_ros.model.init import init_weights
from pi0_ros.model.layers import Rotary, attention_bias
from pi0_ros.model.paligemma import ModelInput, PaliGemma
from pi0_ros.model.pi0 import Pi0
from pi0_ros.model.rtc import Guidance

MAX_NEW_TOKENS = 256
# openpi gives the first written token the position behind the next one; trained models expect its actions from there.
POSITION_GAP = 1


class ActionDecoder(Protocol):
    """What turns written tokens into actions: `tokens.action_tokens.ActionCodec`, or another."""

    def decode(self, tokens: np.ndarray, horizon: int, dim: int) -> np.ndarray:
        """Read int64 [T], what the model wrote, as actions float32 [horizon, dim]."""


class Pi0Fast(PaliGemma):
    """pi0-FAST. Its parameters are those of the vision-language part of `Pi0`, under the same names.

    `codec` turns what it writes into actions; without one it still computes losses and tokens.
    """

    def __init__(self, config: ModelConfig, codec: ActionDecoder | None = None) -> None:
        if not config.is_fast:
            raise ConfigError(f"Pi0Fast cannot be a {config.model} model; write model: pi0_fast, or build a Pi0")
        super().__init__(config)
        self.codec = codec
        init_weights(self)
        self.set_dtype(getattr(torch, config.dtype))

    def answer_logits(self, inputs: ModelInput, answer: Tensor) -> Tensor:
        """Return float32 [N, vocabulary], what is predicted for each of the N tokens of `answer` [B, L], by row."""
        return self.logits(self.read_answer(inputs, answer)[answer[:, 1:]])

    def read_answer(self, inputs: ModelInput, answer: Tensor) -> Tensor:
        """Return the hidden states [B, L-1, D] that predict each token of the prompt but the first.

        The prompt holds question and answer, see `Tokenizer.encode_action_answer`. As in openpi, positions count every
        token here, padding and missing cameras too; when sampling they do not.
        """
        embedded, mask = self.embed_prefix(inputs)
        images = mask.shape[1] - answer.shape[1]
        causal = F.pad(answer, (images, 0))
        positions = torch.arange(mask.shape[1], device=mask.device)[None]
        bias = causal_bias(mask, causal, embedded.dtype, self.config.vlm)
        hidden, _ = self.vlm.read(embedded, Rotary.at(positions, self.config.vlm.head_dim), bias)
        return hidden[:, images:-1]

    def loss(self, inputs: ModelInput, answer: Tensor, reduction: str = "none") -> Tensor:
        """Return the mean cross-entropy per token of the `answer` [B, L]: per sample [B], or its `mean`."""
        if reduction not in ("none", "mean"):
            raise ValueError(f"reduction must be 'none' or 'mean', not {reduction!r}")
        loss = self.answer_errors(self.read_answer(inputs, answer), inputs.prompt_tokens, answer)
        return loss.mean() if reduction == "mean" else loss

    @torch.no_grad()
    def sample_tokens(
        self,
        inputs: ModelInput,
        max_new_tokens: int = MAX_NEW_TOKENS,
        temperature: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return what the model writes after images and question: int64 [B, T], zeros behind each row's end."""
        embedded, mask = self.embed_prefix(inputs)
        bias = attention_bias(mask[:, None, None, :], embedded.dtype)  # the question is read in both directions
        return write(self, embedded, mask, bias, max_new_tokens, temperature, generator, gap=POSITION_GAP)

    @torch.no_grad()
    def sample_actions(
        self,
        inputs: ModelInput,
        noise: Tensor | None = None,
        num_steps: int = 10,
        generator: torch.Generator | None = None,
        guidance: Guidance | None = None,
    ) -> Tensor:
        """Return actions float32 [B, H, A]: the most likely answer; zeros for a row that answers without actions.

        `noise` and what follows are there so that it can stand for a `Pi0`: nothing is drawn or denoised here.
        """
        if self.codec is None:
            raise ConfigError("this pi0-FAST has no action tokenizer: set its `codec`")
        written = self.sample_tokens(inputs).cpu().numpy()
        horizon, dim = self.config.action_horizon, self.config.action_dim
        chunks = [torch.from_numpy(self.codec.decode(row, horizon, dim)) for row in written]
        return torch.stack(chunks).to(inputs.state.device)


def build_model(config: ModelConfig) -> Pi0 | Pi0Fast:
    """Return a model of the kind that `config` describes, with random weights."""
    return Pi0Fast(config) if config.is_fast else Pi0(config)
