"""Twenty optimiser steps beside openpi's and LeRobot's own loops, by this project's own step and shipped recipes.

`tools/references/train_steps.py` made test/fixtures/training/.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from synthetic import ROBOT, TINY, make_data, make_source
from torch import Tensor

from pi0_ros.checkpoints.jax_names import _rules
from pi0_ros.checkpoints.sources import disk_name
from pi0_ros.checkpoints.weights import load_model, named_weights
from pi0_ros.model.config import ModelConfig
from pi0_ros.model.fast import Pi0Fast
from pi0_ros.model.lora import add_lora, lora_layers, unreached
from pi0_ros.model.paligemma import ModelInput
from pi0_ros.model.pi0 import Pi0
from pi0_ros.training import loop
from pi0_ros.training.objective import Batch, Learner, without_padding
from pi0_ros.training.optimizer import Average
from pi0_ros.training.recipe import load_recipe
from pi0_ros.training.run import prepare
from pi0_ros.training.world import ALONE

FIXTURES = Path(__file__).parents[1] / "fixtures"
STEPS = 20
Arrays = Mapping[str, np.ndarray]
# A constant added to all keys of a vision layer changes no attention: the gradient of that bias is rounding.
NO_GRADIENT = ("k_proj.bias", "key/bias")


def some_of(values: np.ndarray) -> np.ndarray:
    """The numbers of a tensor that the fixture has."""
    flat = values.reshape(-1)
    return flat[:: max(1, len(flat) // 64)][:65]


def all_weights(model: Pi0) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def train_as(
    recipe: str, model: Pi0, given: Arrays, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[float, float, float]]:
    """Twenty steps of the trainer with a recipe, on the fixture's batch; loss, gradient norm, learning rate of each."""
    changes = ("lr=1e-4", "final_lr=1e-5", "warmup=4", f"steps={STEPS}", f"decay_steps={STEPS}", "batch=2")
    changes += ("precision=float32", "threads=1", "device=cpu", "held_out=0", "track=[]")
    changes += (f"model_overrides={json.dumps({**TINY, 'action_dim': model.config.action_dim, 'max_token_len': 64})}",)
    wanted, data = load_recipe(recipe, changes), make_data(3, length=12)
    run = prepare([make_source(data)], wanted, folder, {}, {})  # of its data nothing is used
    stage, depth, learner = wanted.stages[0], model.config.vlm.depth, Learner(model, {})
    arrays, by_robot = dict(np.load(FIXTURES / "reference" / name / "expected.npz")), wanted.loss_dims == "robot"
    masks = {c: torch.from_numpy(arrays[f"image_mask_{c}"]) for c in model.config.cameras}
    inputs = ModelInput(
        {c: torch.from_numpy(arrays[f"image_{c}"]).float() / 255 * 2 - 1 for c in model.config.cameras},
        {c: mask | by_robot for c, mask in masks.items()},  # LeRobot masks no camera that is there
        torch.from_numpy(arrays["tokens"]).long(),
        torch.from_numpy(arrays["token_mask"]),
        torch.from_numpy(arrays["state"]),
    )
    actions = torch.from_numpy(arrays["actions"]).clone()
    if by_robot:
        assert ROBOT.action_places.tolist() == list(range(6))  # those that the reference counts
        actions[..., 6:] = 0

    def batch_of(*args: object) -> tuple[Batch, object]:
        noise, time = (torch.from_numpy(given[key][args[3]]) for key in ("noise", "time"))
        batch = Batch(np.arange(2), without_padding(inputs), actions, noise, time, {})
        return batch, batch.counts

    monkeypatch.setattr(loop, "training_batch", batch_of)
    optimizer, rows = loop.new_optimizer(learner, stage, wanted, depth), []
    average = Average({}, enabled=False)  # the references' torch loops have none
    for step in range(STEPS):
        sampler = loop.stage_sampler(run, 0)
        numbers = loop.train_step(run, stage, step, sampler, learner, optimizer, average, folder)
        rows.append((numbers["loss"].item(), numbers["grad_norm"].item(), optimizer.param_groups[0]["lr"]))
    return rows


def network(name: str) -> Pi0:
    fixture = FIXTURES / "reference" / name
    config = ModelConfig.from_dict(json.loads((fixture / "sizes.json").read_text()))
    model = load_model(config, fixture / "model.safetensors")
    assert isinstance(model, Pi0)
    return model


def the_same_curve(rows: list[tuple[float, float, float]], given: Arrays, tolerance: float) -> None:
    for number, column in enumerate(("loss", "grad_norm", "lr")):
        found = [row[number] for row in rows]
        np.testing.assert_allclose(found, given[column], rtol=max(tolerance, 2e-7), err_msg=column)


@pytest.mark.parametrize("name", ["pi0", "pi05"])
@pytest.mark.parametrize("reference", ["openpi", "lerobot"])
def test_twenty_steps_equal_the_torch_loops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: str, name: str
) -> None:
    given = dict(np.load(FIXTURES / "training" / f"{reference}_{name}.npz"))
    model = network(name)
    before = all_weights(model)
    recipe = name if reference == "openpi" else f"{name}_lerobot"
    the_same_curve(train_as(recipe, model, given, name, tmp_path, monkeypatch), given, 1e-5)
    compared = 0
    for own, after in all_weights(model).items():
        if own.endswith(NO_GRADIENT):
            continue
        kept = given[f"final/{disk_name(own)}"]
        np.testing.assert_allclose(some_of(after.numpy()), kept, atol=1e-5, rtol=1e-5, err_msg=own)
        moved, theirs = float((after.double() - before[own].double()).norm()), float(given[f"moved/{disk_name(own)}"])
        if unreached(own, model.config.vlm.depth):  # LeRobot's weight decay shrinks even these, which nothing reads
            assert moved == 0 and theirs < 1e-3, own
            continue
        assert moved == pytest.approx(theirs, rel=1e-3, abs=1e-7), own
        compared += 1
    assert compared > 90


def factor_places(model: Pi0) -> Iterator[tuple[str, tuple[int, ...], Tensor]]:
    """openpi's leaf without its last letter's layer: (leaf, place in it, our factor), for all factors."""
    parts = {"self_attn.q_proj": ("attn/q_einsum", ()), "self_attn.k_proj": ("attn/kv_einsum", (0,))}
    parts |= {"self_attn.v_proj": ("attn/kv_einsum", (1,)), "self_attn.o_proj": ("attn/attn_vec_einsum", ())}
    parts |= {"mlp.gate_proj": ("gating_einsum", (0,)), "mlp.up_proj": ("gating_einsum", (1,))}
    parts |= {"mlp.down_proj": ("linear", ())}
    for name, layer in lora_layers(model).items():
        expert, _, index, linear = name.split(".", 3)
        suffix = "_1" if expert == "expert" else ""
        leaf, place = parts[linear]
        for letter, factor in (("a", layer.lora_a), ("b", layer.lora_b)):
            inside = f"{leaf}{suffix}/lora_{letter}" if "/" in leaf else f"mlp{suffix}/{leaf}_lora_{letter}"
            yield f"PaliGemma/llm/layers/{inside}", (int(index), *place), factor


def leaves_move_alike(before: Mapping[str, Tensor], after: Mapping[str, Tensor], given: Arrays) -> int:
    """Each of openpi's leaves that the fixture has moved as far as our parameters of it; returns how many."""
    compared = 0
    for leaf, rules in _rules().items():
        if f"moved/{leaf}" not in given or leaf.endswith(NO_GRADIENT):
            continue
        names = [rule.target.format(i=i) for rule in rules for i in range(8 if "{i}" in rule.target else 1)]
        changes = [(after[n] - before[n]).double().norm() for n in names if n in after]
        moved = float(torch.stack(changes).norm())
        assert moved == pytest.approx(float(given[f"moved/{leaf}"]), rel=2e-2, abs=1e-6), leaf
        compared += 1
    return compared


@pytest.mark.parametrize("name", ["pi0", "pi05"])
def test_twenty_steps_of_lora_equal_openpi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """openpi's JAX model, freeze filter and optax chain; ranks 3 (attention) and 2 (feed-forward), alpha 6."""
    given = dict(np.load(FIXTURES / "training" / f"openpi_lora_{name}.npz"))
    model = network(name)
    for part, rank in (("attention", 3), ("mlp", 2)):
        add_lora(model, "openpi", {"vlm": rank, "expert": rank}, {"vlm": 6.0, "expert": 6.0}, (part,))
    for leaf, place, factor in factor_places(model):
        start = torch.from_numpy(given[f"start/{leaf}"][place].astype(np.float32))
        factor.data.copy_(start.reshape(factor.shape))
    before = all_weights(model)
    the_same_curve(train_as(f"{name}_lora", model, given, name, tmp_path, monkeypatch), given, 1e-4)
    whole = {key[6:]: array.astype(np.float32) for key, array in given.items() if key.startswith("start/")}
    for leaf, place, factor in factor_places(model):
        whole[leaf][place] = factor.detach().numpy().reshape(whole[leaf][place].shape)
    for leaf, array in whole.items():
        np.testing.assert_allclose(some_of(array), given[f"final/{leaf}"], atol=1e-4, rtol=1e-4, err_msg=leaf)
    leaves_move_alike(before, all_weights(model), given)  # and what learns fully or not at all


def test_twenty_steps_of_fast_equal_openpi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """openpi's JAX pi0-FAST and optax chain, of the language part of the pi0 fixture; every parameter learns."""
    given = dict(np.load(FIXTURES / "training" / "openpi_fast_pi0.npz"))
    reference, length = FIXTURES / "reference" / "pi0", given["tokens"].shape[1]
    sizes = {**json.loads((reference / "sizes.json").read_text()), "model": "pi0_fast", "expert": None}
    sizes |= {"max_token_len": length, "discrete_state_input": False}
    model = Pi0Fast(ModelConfig.from_dict(sizes))
    own = named_weights(model)
    for name, tensor in load_file(reference / "model.safetensors").items():
        if name in own:
            own[name].data.copy_(tensor)
    wanted = load_recipe(
        "pi0_fast",
        ("lr=1e-4", "final_lr=1e-5", "warmup=4", f"steps={STEPS}", f"decay_steps={STEPS}", "batch=2", "threads=1")
        + ("precision=float32", "device=cpu", "ema=0"),
    )
    arrays = dict(np.load(reference / "expected.npz"))
    inputs = ModelInput(
        {c: torch.from_numpy(arrays[f"image_{c}"]).float() / 255 * 2 - 1 for c in model.config.cameras},
        {c: torch.ones(2, dtype=torch.bool) for c in model.config.cameras},
        torch.from_numpy(given["tokens"]).long(),
        torch.from_numpy(given["token_mask"]),
        torch.from_numpy(arrays["state"]),
    )
    nothing, answer = torch.zeros(0), torch.from_numpy(given["token_loss_mask"])
    batch = Batch(np.arange(2), inputs, None, nothing, nothing, {}, answer)
    monkeypatch.setattr(loop, "training_batch", lambda *asked: (batch, batch.counts))
    run = SimpleNamespace(spec=SimpleNamespace(config=model.config), recipe=wanted, world=ALONE, autocast=False)
    run.device = torch.device("cpu")
    learner, stage, average = Learner(model, {}), wanted.stages[0], Average({}, enabled=False)
    optimizer, before, rows = loop.new_optimizer(learner, stage, wanted, None), all_weights(model), []
    for step in range(STEPS):
        numbers = loop.train_step(run, stage, step, None, learner, optimizer, average, tmp_path)  # type: ignore[arg-type]
        rows.append((numbers["tokens"].item(), numbers["grad_norm"].item(), optimizer.param_groups[0]["lr"]))
    the_same_curve(rows, given, 1e-4)
    assert leaves_move_alike(before, all_weights(model), given) > 20
