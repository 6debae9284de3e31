"""The memory plan against what real steps hold; its text; its advice."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from synthetic import TINY
from test_loop import recipe

from pi0_ros.base.errors import InputError
from pi0_ros.model.config import ModelConfig
from pi0_ros.model.paligemma import ModelInput
from pi0_ros.model.pi0 import Pi0
from pi0_ros.training.objective import Batch, Learner
from pi0_ros.training.optimizer import Average, clip_gradients
from pi0_ros.training.plan import Lengths, PeakMemory, measure, parse_gpu, report
from pi0_ros.training.recipe import Recipe
from pi0_ros.training.weights import ever_learning, fit_out


def config() -> ModelConfig:
    return ModelConfig.from_dict({**ModelConfig.preset("demo").to_dict(), **TINY})


def one_stage(**changes: Any) -> Recipe:
    run = {key: changes.pop(key) for key in ("recompute", "lora") if key in changes}
    return recipe([{"name": "one", "batch": 8, **changes}], **run)


def peak_of_real_steps(wanted: Recipe, sizes: ModelConfig) -> int:
    """Bytes alive at the worst moment of the second of two real steps, in float32."""
    stage, random = wanted.stages[0], torch.Generator().manual_seed(0)
    with PeakMemory() as memory:
        model = Pi0(sizes)
        fit_out(model, wanted, False)
        learner = Learner(model, {})
        learning = ever_learning(learner, wanted, sizes.vlm.depth)
        for name, parameter in learner.named_parameters():
            parameter.requires_grad_(name in learning)
        average = Average(learning, stage.ema > 0)
        optimizer = torch.optim.AdamW(list(learning.values()), fused=True)
        side, batch = sizes.vision.image_size, stage.batch
        inputs = ModelInput(
            {slot: torch.randn(batch, side, side, 3, generator=random) for slot in sizes.cameras},
            {slot: torch.ones(batch, dtype=torch.bool) for slot in sizes.cameras},
            torch.zeros(batch, 16, dtype=torch.int64),
            torch.ones(batch, 16, dtype=torch.bool),
            torch.randn(batch, sizes.action_dim),
        )
        actions = torch.randn(batch, sizes.action_horizon, sizes.action_dim)
        whole = Batch(torch.arange(batch).numpy(), inputs, actions, torch.randn_like(actions), torch.ones(batch), {})
        for _ in range(2):
            optimizer.zero_grad()
            for part in whole.parts(stage.micro_batch or batch):
                learner(part).flow.mean().backward()
            clip_gradients(list(learning.values()), 1.0)
            optimizer.step()
            average.update(stage.ema)
    return memory.peak


@pytest.mark.parametrize(
    "wanted",
    [
        one_stage(),
        one_stage(micro_batch=2, trainable="lora", ema=0.0, lora={"vlm_rank": 4, "expert_rank": 4}),
        one_stage(recompute=1.0, trainable="expert_only"),
        one_stage(micro_batch=2, recompute=1.0),
    ],
    ids=["full", "lora", "expert", "recompute"],
)
def test_the_plan_is_within_a_tenth_of_what_real_steps_hold(wanted: Recipe) -> None:
    planned = measure(wanted, config(), Lengths(2, 16), autocast=False)
    assert planned.total == pytest.approx(peak_of_real_steps(wanted, config()), rel=0.1)
    assert planned.flop > 0


def test_the_plan_says_what_to_change_where_it_does_not_fit() -> None:
    wanted, sizes = one_stage(batch=64), dataclasses.replace(config(), action_horizon=6)
    need = measure(wanted, sizes, Lengths(2, 16), False)
    wanted = dataclasses.replace(wanted, precision="float32")
    text, fits = report(wanted, sizes, Lengths(2, 16), ("a device", need.total + 1.1e9))
    assert fits and "fits on a device" in text
    text, fits = report(wanted, sizes, Lengths(2, 16), ("a device", 0.6 * need.total + 1e9))
    assert not fits and "with micro_batch=" in text and "which fits" in text
    text, fits = report(wanted, sizes, Lengths(2, 16), ("a device", 1e9))
    assert not fits and "take a larger device" in text


def test_devices_are_given_by_name_or_memory() -> None:
    assert parse_gpu("24GB") == ("a device with 24 GB", 24e9) and parse_gpu("4090") == ("4090", 24e9)
    assert parse_gpu("H100") == ("h100", 80e9)
    with pytest.raises(InputError, match="write its memory"):
        parse_gpu("huge")
