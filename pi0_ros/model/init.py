"""Random weights to start from, for models that are trained from scratch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from pi0_ros.model.layers import AdaptiveRMSNorm, RMSNorm
from pi0_ros.model.vision import VisionTower, sine_positions

if TYPE_CHECKING:
    from pi0_ros.model.paligemma import PaliGemma


@torch.no_grad()
def init_weights(model: nn.Module) -> None:
    """Draw all weights as the reference does (big_vision SigLIP, Gemma), from torch's global random numbers.

    Linear layers: normal with variance 1 / fan_in and zero bias; inside the vision layers Xavier uniform. Norms start
    as plain norms, adaptive norms as the identity of their block. Unlike the reference, the image projector does not
    start at zero and word embeddings have unit size after scaling: small models without pre-training learn from it.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)
        elif isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
        elif isinstance(module, RMSNorm):
            nn.init.zeros_(module.weight)
        if isinstance(bias := getattr(module, "bias", None), nn.Parameter):
            nn.init.zeros_(bias)
    for module in model.modules():
        if isinstance(module, AdaptiveRMSNorm):
            nn.init.zeros_(module.dense.weight)
        elif isinstance(module, VisionTower):
            for linear in (part for part in module.modules() if isinstance(part, nn.Linear)):
                nn.init.xavier_uniform_(linear.weight)


@torch.no_grad()
def sine_position_init(model: PaliGemma) -> None:
    """Start the learned positions of the vision tower from 2-D sines: without them small models do not localise."""
    sizes = model.config.vision
    table = sine_positions(sizes.image_size // sizes.patch_size, sizes.width)
    model.vision.position_embedding.weight.copy_(table)
