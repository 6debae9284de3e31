"""What the torch references of openpi and LeRobot have in common: names of parameters and sizes written as numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from common import draw_weight

_KINDS = (  # part of a parameter's name -> kind of `draw_weight`; the first that fits
    ("lora_", "adaptive"),
    (".bias", "bias"),
    (".dense.weight", "adaptive"),
    ("layer_norm", "layer_norm"),
    ("post_layernorm", "layer_norm"),
    ("norm", "norm"),
    ("position_embedding", "position"),
    ("embed_tokens", "embedding"),
    ("lm_head", "embedding"),
)


def shrink(config: Any, sizes: dict[str, Any]) -> None:
    """Put the sizes that openpi and LeRobot write as numbers into a Hugging Face config."""
    if not hasattr(config, "vision_config"):
        config.vocab_size = sizes["vocab_size"]
        return
    vision = sizes["vision"]
    config._vocab_size = config.image_token_index = sizes["vocab_size"]
    config.text_config.vocab_size = sizes["vocab_size"]
    for key, value in {
        "hidden_size": vision["width"],
        "num_hidden_layers": vision["depth"],
        "num_attention_heads": vision["num_heads"],
        "intermediate_size": vision["mlp_dim"],
        "patch_size": vision["patch_size"],
        "image_size": vision["image_size"],
        "num_image_tokens": vision["num_positions"],
        "projection_dim": sizes["vlm"]["width"],
    }.items():
        setattr(config.vision_config, key, value)


@torch.no_grad()
def draw_parameters(rng: np.random.Generator, model: torch.nn.Module, only: str = "") -> None:
    """Draw every parameter whose name contains `only`, of a torch model of openpi or LeRobot."""
    for name, parameter in model.named_parameters():
        if only in name:
            shape = tuple(parameter.shape)
            kind = next((kind for part, kind in _KINDS if part in name), "")
            fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else shape[0]
            parameter.copy_(torch.from_numpy(draw_weight(rng, kind, shape, fan_in)).to(parameter.dtype))


def cast_parameters(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Cast the parameters and nothing else: `model.to` would round the frequencies of the rotary positions too."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
