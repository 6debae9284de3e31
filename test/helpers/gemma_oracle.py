"""An independent Gemma with a model's weights: Hugging Face's own, run without a cache under an explicit mask."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pi0_ros.model.config import ModelConfig
from pi0_ros.model.paligemma import ModelInput, PaliGemma


class Oracle:
    """Full recomputation in float32; masks are made token by token, the slow and plain way."""

    def __init__(self, model: PaliGemma) -> None:
        transformers = pytest.importorskip("transformers", minversion="5.4")  # older ones scale images and text alike
        sizes = model.config.vlm
        config = transformers.GemmaConfig(
            vocab_size=model.config.vocab_size,
            hidden_size=sizes.width,
            intermediate_size=sizes.mlp_dim,
            num_hidden_layers=sizes.depth,
            num_attention_heads=sizes.num_heads,
            num_key_value_heads=sizes.num_kv_heads,
            head_dim=sizes.head_dim,
            hidden_act="gelu_pytorch_tanh",
            attn_implementation="eager",
        )
        self.gemma = transformers.GemmaForCausalLM(config).eval()
        weights = {f"model.{name}": weight for name, weight in model.vlm.state_dict().items()}
        weights["model.embed_tokens.weight"] = weights["lm_head.weight"] = model.embedding.weight
        self.gemma.load_state_dict(weights)
        self.model = model

    @torch.no_grad()
    def logits(
        self,
        inputs: ModelInput,
        written: torch.Tensor,
        row: int,
        first_causal: int,
        gap: int = 0,
        all_positions: bool = False,
    ) -> torch.Tensor:
        """Logits [S, vocabulary] of one row: images, its prompt, then `written` [T].

        Prompt tokens from number `first_causal` on, and all written ones, see only what stands before them. Written
        tokens stand `gap` positions further. Invalid tokens are taken out, or stay in with `all_positions`.
        """
        embedded, mask = self.model.embed_prefix(inputs)
        images = mask.shape[1] - inputs.prompt_tokens.shape[1]
        text = torch.cat([inputs.prompt_tokens[row], written])
        tokens = torch.cat([embedded[row, :images], self.gemma.model.embed_tokens(text)])
        valid = torch.cat([mask[row], torch.ones(len(written), dtype=torch.bool)])
        number = torch.arange(len(tokens))
        positions = number if all_positions else valid.cumsum(0) - 1
        positions = positions + gap * (number >= mask.shape[1])
        kept = number if all_positions else number[valid]
        allowed = torch.zeros(len(kept), len(kept), dtype=torch.bool)
        for i, query in enumerate(kept):
            for j, key in enumerate(kept):
                before = key <= query or max(key, query) < images + first_causal
                allowed[i, j] = bool(before and valid[key])
        bias = torch.where(allowed, 0.0, torch.finfo(torch.float32).min)[None, None]
        out = self.gemma(
            inputs_embeds=tokens[kept][None], attention_mask=bias, position_ids=positions[kept][None], use_cache=False
        )
        return out.logits[0]


def small_input(config: ModelConfig, batch: int, seed: int, masked: bool = True) -> ModelInput:
    """Random images and prompts of different lengths; the second camera is missing in the first row where `masked`."""
    draw = torch.Generator().manual_seed(seed)
    size, lengths = config.vision.image_size, torch.randint(3, config.max_token_len, (batch,), generator=draw)
    present = {slot: torch.ones(batch, dtype=torch.bool) for slot in config.cameras}
    if masked and len(config.cameras) > 1:
        present[config.cameras[1]][0] = False
    return ModelInput(
        images={slot: torch.rand(batch, size, size, 3, generator=draw) * 2 - 1 for slot in config.cameras},
        image_masks=present,
        prompt_tokens=torch.randint(4, config.vocab_size, (batch, config.max_token_len), generator=draw),
        prompt_mask=torch.arange(config.max_token_len) < lengths[:, None],
        state=torch.from_numpy(np.random.default_rng(seed).normal(size=(batch, config.action_dim)).astype(np.float32)),
    )
