"""The shapes that are told without torch are those of the network that is built."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace

import pytest

from pi0_ros.checkpoints.weights import meta_model
from pi0_ros.model.config import PRESETS, ModelConfig
from pi0_ros.model.shapes import parameter_shapes


def drawn(seed: int) -> ModelConfig:
    """A preset with other sizes, all different, so that no two can be taken for each other."""
    rng = random.Random(seed)
    known = PRESETS[rng.choice(list(PRESETS))]
    heads = {"num_heads": 2 * rng.randint(1, 3), "num_kv_heads": rng.choice([1, 2]), "head_dim": 2 * rng.randint(2, 9)}
    heads["depth"] = rng.randint(1, 3)
    vlm = replace(known.vlm, width=rng.randint(11, 19), mlp_dim=rng.randint(21, 29), **heads)
    expert = known.expert and replace(vlm, width=2 * rng.randint(16, 19), mlp_dim=rng.randint(41, 49))
    patch = rng.choice([4, 7])
    vision = replace(
        known.vision,
        width=4 * rng.randint(13, 15),
        depth=rng.randint(1, 4),
        mlp_dim=rng.randint(61, 69),
        num_heads=4,
        patch_size=patch,
        image_size=patch * rng.randint(1, 5),
    )
    sizes = {"vocab_size": rng.randint(71, 79), "action_dim": rng.randint(5, 9), "state_dim": rng.choice([0, 10])}
    return replace(known, vlm=vlm, expert=expert, vision=vision, **sizes)


@pytest.mark.parametrize("config", [*PRESETS.values(), *map(drawn, range(40))])
def test_shapes_are_those_of_the_network(config: ModelConfig) -> None:
    built = {name: tuple(weight.shape) for name, weight in meta_model(config).named_parameters()}
    assert parameter_shapes(config) == built


def test_no_torch_is_needed() -> None:
    code = (
        "import sys\nfrom pi0_ros.model.config import ModelConfig\nfrom pi0_ros.model.shapes import parameter_shapes\n"
        "assert parameter_shapes(ModelConfig.preset('pi0'))\nsys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
