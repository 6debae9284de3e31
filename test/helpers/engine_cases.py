"""Small random models and observations for the engine's tests."""

from __future__ import annotations

from dataclasses import replace

import torch

from pi0_ros.model.config import Expert, ModelConfig
from pi0_ros.model.paligemma import ModelInput
from pi0_ros.model.pi0 import Pi0
from pi0_ros.model.rtc import CleanPrefix, Guidance, SoftPrefix, soft_mask

SLOTS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")


def config(name: str, dtype: str = "float32", kv_heads: int = 1) -> ModelConfig:
    demo = ModelConfig.preset("demo")
    sizes = Expert(width=64, depth=2, mlp_dim=128, num_heads=4, num_kv_heads=kv_heads, head_dim=32)
    vision = replace(demo.vision, image_size=48)
    return replace(
        demo, model=name, vlm=replace(sizes, width=96), expert=sizes, vision=vision, cameras=SLOTS, action_horizon=20,
        discrete_state_input=name == "pi05", dtype=dtype,
    )  # fmt: skip


def model(name: str, dtype: str = "float32", kv_heads: int = 1, seed: int = 0) -> Pi0:
    """Random weights; the adaptive norms do something, plain ones scale."""
    torch.manual_seed(seed)
    made = Pi0(config(name, dtype, kv_heads)).eval().requires_grad_(False)
    for key, parameter in made.named_parameters():
        if ".dense." in key or "layernorm.weight" in key or key.endswith("norm.weight"):
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return made


def observation(seed: int = 0, tokens: int = 7, absent: str = SLOTS[1], side: int = 48) -> ModelInput:
    draw = torch.Generator().manual_seed(seed)
    return ModelInput(
        images={slot: torch.rand(1, side, side, 3, generator=draw) * 2 - 1 for slot in SLOTS},
        image_masks={slot: torch.tensor([slot != absent]) for slot in SLOTS},
        prompt_tokens=torch.randint(512, (1, 16), generator=draw),
        prompt_mask=torch.arange(16)[None] < tokens,
        state=torch.randn(1, 8, generator=draw),
    )


def noise(seed: int = 0) -> torch.Tensor:
    return torch.randn(1, 20, 8, generator=torch.Generator().manual_seed(100 + seed))


def guidances() -> dict[str, Guidance | None]:
    known = noise(50)
    weights = soft_mask("exp", 4, 12, 20)[:, None]
    return {
        "none": None,
        "exact": SoftPrefix(known, weights),
        "lerobot": SoftPrefix(known, weights, max_weight=10.0, jacobian=False),
        "trained": CleanPrefix(known[:, :4]),
    }
