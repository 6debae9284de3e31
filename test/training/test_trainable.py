"""What learns and what does not, low-rank factors in both forms, and what becomes of them in the finished policy."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from synthetic import ROBOT, TINY, make_data, make_stats
from test_loop import recipe, run_training

from pi0_ros.checkpoints.checkpoint import load_checkpoint
from pi0_ros.checkpoints.lora import merge_leaf
from pi0_ros.checkpoints.weights import named_weights
from pi0_ros.model.config import ModelConfig
from pi0_ros.model.layers import AdaptiveRMSNorm
from pi0_ros.model.lora import Change, LoraLinear, add_lora, lora_layers, unreached
from pi0_ros.model.pi0 import Pi0
from pi0_ros.training.mixture import Source
from pi0_ros.training.recipe import RecipeError, load_recipe
from pi0_ros.training.run import clipped_state_tokens, prepare
from pi0_ros.training.weights import ever_learning, finished_weights, new_model

LORA = {"vlm_rank": 4, "expert_rank": 3, "expert_alpha": 6.0}


def small(model: str = "pi05", **changes: Any) -> Any:
    sizes = {} if "init" in changes else {**TINY, "model": model, "discrete_state_input": False, "max_token_len": 24}
    stage = {"name": "one", "steps": 4, "batch": 6, "lr": 1e-3, "warmup": 0, "ema": 0.0}
    stage |= {key: changes.pop(key) for key in list(changes) if key in ("trainable", "freeze", "micro_batch", "ema")}
    return recipe([stage], model_overrides=sizes, **changes)


def build(wanted: Any, autocast: bool = False) -> Pi0:
    config = ModelConfig.from_dict({**ModelConfig.preset("demo").to_dict(), **wanted.model_overrides})
    return new_model(wanted, config, torch.device("cpu"), autocast)


@pytest.mark.parametrize("model", ["pi0", "pi05"])
@pytest.mark.parametrize("trainable", ["full", "expert_only", "frozen_vision", "lora"])
def test_exactly_what_learns_changes(tmp_path: Path, model: str, trainable: str) -> None:
    begun = run_training(tmp_path / "begun", small(model, save_every=100))  # the gates of pi0.5 start closed
    before = dict(load_checkpoint(begun).model.named_parameters())
    wanted = small(model, trainable=trainable, lora={**LORA, "style": "openpi"}, save_every=100, init=str(begun))
    after = dict(load_checkpoint(run_training(tmp_path / "tuned", wanted)).model.named_parameters())
    depth = load_checkpoint(begun).spec.config.vlm.depth
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    transformers = {n for n in after if n.startswith(("vlm.", "expert."))}
    linear = {n for n in transformers if n.endswith("_proj.weight")}
    reached = {name for name in after if not unreached(name, depth)}
    # A constant added to all keys changes no attention, so a key bias may stay where it is.
    reached -= {name for name in reached if name.startswith("vision.") and name.endswith("k_proj.bias")}
    changed -= {name for name in changed if name.startswith("vision.") and name.endswith("k_proj.bias")}
    frozen = {
        "full": set(),
        "expert_only": {n for n in after if n.startswith(("vision.", "projector.", "embedding.", "vlm."))},
        "frozen_vision": {n for n in after if n.startswith("vision.")},
        "lora": (transformers - linear) | {"embedding.weight"},
    }[trainable]
    assert not changed & frozen
    assert changed == reached - frozen


def test_frozen_parts_are_bfloat16_only_where_the_reference_has_them_so() -> None:
    model = build(small("pi05", trainable="expert_only"), autocast=True)
    kinds = {name: p.dtype for name, p in model.named_parameters()}
    assert kinds["vlm.layers.0.mlp.up_proj.weight"] == kinds["embedding.weight"] == torch.bfloat16
    assert kinds["vlm.layers.0.input_layernorm.weight"] == kinds["vision.patch_embedding.weight"] == torch.float32
    learning = ever_learning(torch.nn.ModuleDict({"model": model}), small("pi05", trainable="expert_only"), 2)
    assert {p.dtype for p in learning.values()} == {torch.float32}
    assert all(p.dtype == torch.float32 for p in build(small("pi05", trainable="expert_only")).parameters())


def _merged(leaf: str, *parts: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(merge_leaf(leaf, *(part.detach().numpy() for part in parts)))


def test_factors_in_the_form_of_openpi_merge_as_its_leaves() -> None:
    """Against the rule by which released LoRA checkpoints are read, for every kind of projection."""
    config = ModelConfig.from_dict({**ModelConfig.preset("demo").to_dict(), **TINY})
    model = Pi0(config)
    add_lora(model, "openpi", {"vlm": 4, "expert": 3}, {"vlm": 4.0, "expert": 3.0}, ("attention", "mlp"))
    heads, dim = config.vlm.num_heads, config.vlm.head_dim
    layers = lora_layers(model)
    q, o, down = (layers[f"vlm.layers.0.{name}"] for name in ("self_attn.q_proj", "self_attn.o_proj", "mlp.down_proj"))
    weight = q.weight.detach().unflatten(0, (heads, dim)).transpose(1, 2)  # [heads, width, head_dim]
    merged = _merged("attn/q_einsum/w", weight, q.lora_a, q.lora_b)
    wanted = merged.transpose(1, 2).flatten(0, 1)
    torch.testing.assert_close(q.weight.detach() + q.change.delta(q.lora_a, q.lora_b).detach(), wanted)
    weight = o.weight.detach().T.unflatten(0, (heads, dim))  # [heads, head_dim, width]
    a = o.lora_a.detach()[0].unflatten(0, (heads, dim))
    wanted = _merged("attn/attn_vec_einsum/w", weight, a, o.lora_b).flatten(0, 1).T
    torch.testing.assert_close(o.weight.detach() + o.change.delta(o.lora_a, o.lora_b).detach(), wanted)
    wanted = _merged("mlp/linear", down.weight.T, down.lora_a[0], down.lora_b[0]).T
    torch.testing.assert_close(down.weight.detach() + down.change.delta(down.lora_a, down.lora_b).detach(), wanted)
    assert down.change.scale == 1.0 and layers["expert.layers.1.mlp.up_proj"].lora_a.shape[-1] == 3
    assert "vlm.layers.1.self_attn.q_proj" not in layers and "vlm.layers.1.self_attn.k_proj" in layers


@pytest.mark.parametrize("style", ["openpi", "peft"])
def test_a_merged_policy_acts_as_the_network_with_factors(style: str) -> None:
    wanted = small("pi0", trainable="lora", lora={**LORA, "style": style})
    model = build(wanted)
    for module in model.modules():
        if isinstance(module, AdaptiveRMSNorm):
            torch.nn.init.normal_(module.dense.weight, std=0.1)
    with torch.no_grad():
        for layer in lora_layers(model).values():
            layer.lora_b.normal_(std=0.1)
    tensors = {name: p.detach() for name, p in model.named_parameters()}
    infos, tensor = finished_weights(model, tensors, torch.float32)
    plain = Pi0(model.config)
    assert set(infos) == set(named_weights(plain))
    for name, parameter in named_weights(plain).items():
        parameter.data = tensor(name)
    inputs = loop_inputs(model.config)
    noise = torch.randn(2, model.config.action_horizon, model.config.action_dim)
    with torch.no_grad():
        found, expected = (m.sample_actions(inputs, noise, 4) for m in (plain, model))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def loop_inputs(config: ModelConfig) -> Any:
    from pi0_ros.model.pi0 import ModelInput

    random, size = torch.Generator().manual_seed(0), config.vision.image_size
    return ModelInput(
        {slot: torch.rand(2, size, size, 3, generator=random) * 2 - 1 for slot in config.cameras},
        {slot: torch.ones(2, dtype=torch.bool) for slot in config.cameras},
        torch.randint(0, 9, (2, 5), generator=random),
        torch.ones(2, 5, dtype=torch.bool),
        torch.randn(2, config.action_dim, generator=random),
    )


def test_the_layer_computes_what_its_weight_would() -> None:
    random = torch.Generator().manual_seed(1)
    for groups, summands, summed in ((1, 1, False), (4, 4, False), (1, 4, True)):
        layer = LoraLinear(torch.nn.Linear(12, 8, bias=False), 3, Change(0.7, summed), groups, summands)
        for factor in (layer.lora_a, layer.lora_b):
            torch.nn.init.normal_(factor, generator=random)
        x = torch.randn(5, 2, 12, generator=random)
        wanted = x @ (layer.weight + layer.change.delta(layer.lora_a, layer.lora_b)).T
        torch.testing.assert_close(layer(x), wanted, rtol=1e-4, atol=1e-5)


def test_micro_batches_and_recomputed_layers_change_no_step(tmp_path: Path) -> None:
    weights = []
    for number, changes in enumerate(({}, {"micro_batch": 2}, {"recompute": 1.0}, {"recompute": 0.5})):
        folder = run_training(tmp_path / str(number), small("pi05", save_every=100, **changes))
        weights.append(load_file(folder / "model.safetensors"))
    for other in weights[1:]:
        for name, tensor in other.items():
            if "vision_tower" not in name or "k_proj.bias" not in name:
                torch.testing.assert_close(tensor, weights[0][name], rtol=1e-4, atol=2e-5, msg=name)
    assert all(torch.equal(weights[2][name], tensor) for name, tensor in weights[0].items())  # bit for bit


def test_a_typo_in_freeze_trains_nothing() -> None:
    with pytest.raises(RecipeError, match="no parameter starts with 'vison'.*did you mean 'vision'"):
        build(small("pi0", freeze=["vison"]))


def test_normalisation_follows_the_model_and_saturated_states_are_counted(tmp_path: Path) -> None:
    data = make_data(6, length=15)
    stats = make_stats(data)
    of_pi05 = {**TINY, "model": "pi05", "discrete_state_input": True, "max_token_len": 64}
    found = {}
    for sizes, normalization in ((TINY, "auto"), (of_pi05, "auto"), (of_pi05, "mean_std")):
        wanted = recipe([{"name": "one"}], model_overrides=sizes, normalization=normalization)
        run = prepare([Source("dataset", data, ROBOT, stats)], wanted, tmp_path, {}, {})
        found[sizes.get("model", "pi0"), normalization] = run.spec.settings, clipped_state_tokens(run)
    assert found["pi0", "auto"][0].state_normalization == "mean_std" and found["pi0", "auto"][1] == 0.0
    assert found["pi05", "auto"][0].action_normalization == "quantile" and found["pi05", "auto"][1] < 0.05
    assert found["pi05", "mean_std"][0].state_normalization == "mean_std" and found["pi05", "mean_std"][1] > 0.1


@pytest.mark.parametrize("name", [p.stem for p in (Path(__file__).parents[2] / "config/train").glob("pi0*.yaml")])
def test_shipped_recipes_of_the_real_models(name: str) -> None:
    found = load_recipe(name)
    stage = found.stages[0]
    assert found.model == ("pi0_fast" if name == "pi0_fast" else name.split("_")[0]) and len(found.stages) == 1
    assert stage.trainable == {"lora": "lora", "expert": "expert_only"}.get(name.partition("_")[2], "full")
    if name.endswith("lora"):
        assert stage.ema == 0.0 and (found.lora.vlm_rank, found.lora.expert_rank) == (16, 32)


@pytest.mark.parametrize("model", ["pi0", "pi05"])
def test_lora_of_the_real_size_learns_as_many_parameters_as_openpi(model: str) -> None:
    """468.0 and 467.0 million; openpi also has factors that no action loss reaches, in the last VLM layer."""
    found = load_recipe(f"{model}_lora")
    with torch.device("meta"):
        network = Pi0(dataclasses.replace(ModelConfig.preset(model), dtype="float32"))
        ranks, alphas = {"vlm": 16, "expert": 32}, {"vlm": 16.0, "expert": 32.0}
        add_lora(network, "openpi", ranks, alphas, ("attention", "mlp"))
    learning = ever_learning(torch.nn.ModuleDict({"model": network}), found, 18)
    count = sum(p.numel() for p in learning.values()) / 1e6
    width, ffn, heads, dim = 2048, 16384, 8, 256
    last = 16 * (heads * (width + dim)) + 16 * (heads * dim + heads * width) + 16 * (3 * (width + ffn))
    assert count + last / 1e6 == pytest.approx({"pi0": 468.0, "pi05": 467.0}[model], abs=0.06)
