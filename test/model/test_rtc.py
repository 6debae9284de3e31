"""Real-time chunking against the reference: masks, guided steps and chunks in both modes, trained prefixes, losses."""

from __future__ import annotations

import json
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import reference
import torch
from torch.testing import assert_close

from pi0_ros.model.pi0 import Pi0
from pi0_ros.model.rtc import CleanPrefix, SoftPrefix, guidance_weight, prefix_times, soft_mask

near = partial(assert_close, rtol=0, atol=1e-4)
GUIDED = [("pi0", 0), ("pi0", 1), ("pi05", 0), ("pi05", 1), ("pi05", 2)]


@cache
def arrays(path: str) -> tuple[dict[str, torch.Tensor], Any]:
    """(tensors, meta) of a reference file."""
    with np.load(reference.ROOT / path) as file:
        tensors = {key: torch.from_numpy(file[key]) for key in file.files if key != "meta_json"}
        return tensors, json.loads(str(file["meta_json"]))


@cache
def model(name: str) -> Pi0:
    return reference.model(name)


def guidance(name: str, variant: int, jacobian: bool) -> tuple[SoftPrefix, dict[str, torch.Tensor], dict[str, Any]]:
    """A variant's previous chunk, zero-padded as the reference does, its arrays by their short names, its settings."""
    tensors, meta = arrays(f"{name}/rtc_guided.npz")
    mine = {key.removeprefix(f"v{variant}_"): value for key, value in tensors.items() if key.startswith(f"v{variant}_")}
    settings, previous = meta[variant], mine["prev"]
    padded = torch.zeros_like(tensors["noise"])
    padded[:, : previous.shape[1], : previous.shape[2]] = previous
    mask = soft_mask(settings["sched"].lower(), settings["d"], settings["end_effective"], padded.shape[1])
    assert torch.equal(mask, mine["weights"])
    return SoftPrefix(padded, mask[:, None], settings["beta"], jacobian), mine | {"noise": tensors["noise"]}, settings


def test_masks_equal_lerobots() -> None:
    table = arrays("lerobot_transforms.npz")[1]["rtc_weights"]
    assert len(table) > 20
    for row in table:
        mask = soft_mask(row["schedule"].lower(), row["delay"], min(row["end"], row["total"]), row["total"])
        assert torch.equal(mask, torch.tensor(row["weights"])), row


def test_an_end_behind_the_horizon_keeps_its_slope() -> None:
    """kinetix: W_i = c (e^c - 1)/(e - 1) with c = (end - i)/(end - delay + 1), wherever the chunk ends."""
    c = (12 - torch.arange(2, 10)) / (12 - 2 + 1)
    assert_close(soft_mask("linear", 2, 12, 10), torch.cat([torch.ones(2), c]))
    assert_close(soft_mask("exp", 2, 12, 10), torch.cat([torch.ones(2), c * (c.exp() - 1) / (torch.e - 1)]))
    assert soft_mask("exp", 12, 14, 10).tolist() == [1.0] * 10


@pytest.mark.parametrize(("schedule", "delay", "message"), [("cosine", 1, "'cosine'"), ("exp", -1, "negative")])
def test_mask_arguments(schedule: str, delay: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        soft_mask(schedule, delay, 5, 7)


@pytest.mark.parametrize(("name", "variant"), GUIDED)
def test_guidance_weights(name: str, variant: int) -> None:
    _, wanted, settings = guidance(name, variant, True)
    times = 1 - torch.arange(settings["n"]) / settings["n"]
    near(times, wanted["times"])
    near(guidance_weight(times, settings["beta"]), wanted["guidance_weights"])


@pytest.mark.parametrize("jacobian", [True, False])
@pytest.mark.parametrize(("name", "variant"), GUIDED)
def test_one_guided_step(name: str, variant: int, jacobian: bool) -> None:
    guide, wanted, _ = guidance(name, variant, jacobian)
    inputs, x = reference.inputs(name), wanted["step_x"]
    time = wanted["step_t"].expand(len(x))
    with torch.no_grad():
        prefix = model(name).encode_prefix(inputs)
        velocity = partial(model(name).velocity, prefix, inputs.state)
        near(velocity(x, time), wanted["step_v"])
        v = guide.guided(velocity, x, time)
        near(v, wanted["step_v_exact" if jacobian else "step_v_identity"])
        if jacobian:
            weight = guidance_weight(time, guide.max_weight)[:, None, None]
            near((wanted["step_v"] - v) / weight, wanted["step_vjp"])


@pytest.mark.parametrize("jacobian", [True, False])
@pytest.mark.parametrize(("name", "variant"), GUIDED)
def test_guided_chunks(name: str, variant: int, jacobian: bool) -> None:
    guide, wanted, settings = guidance(name, variant, jacobian)
    chunk = model(name).sample_actions(reference.inputs(name), wanted["noise"], settings["n"], guidance=guide)
    near(chunk, wanted["chunk_exact" if jacobian else "chunk_identity"])


def test_guidance_works_in_inference_mode_and_leaves_no_gradient() -> None:
    guide, wanted, _ = guidance("pi0", 1, True)
    plain = model("pi0").sample_actions(reference.inputs("pi0"), wanted["noise"], 2, guidance=guide)
    with torch.inference_mode():
        inputs, noise = reference.inputs("pi0"), wanted["noise"] + 0
        inputs = type(inputs)(**{**vars(inputs), "state": inputs.state + 0})  # a tensor born in inference mode
        chunk = model("pi0").sample_actions(inputs, noise, 2, guidance=guide)
    assert torch.equal(chunk, plain)
    assert not plain.requires_grad
    assert all(parameter.grad is None for parameter in model("pi0").parameters())


def test_the_vision_language_model_is_not_differentiated(monkeypatch: pytest.MonkeyPatch) -> None:
    guide, wanted, _ = guidance("pi05", 0, True)
    encode, velocity = Pi0.encode_prefix, Pi0.velocity
    seen: list[bool] = []
    monkeypatch.setattr(Pi0, "encode_prefix", lambda *a: seen.append(torch.is_grad_enabled()) or encode(*a))
    monkeypatch.setattr(Pi0, "velocity", lambda *a: seen.append(torch.is_grad_enabled()) or velocity(*a))
    model("pi05").sample_actions(reference.inputs("pi05"), wanted["noise"], 3, guidance=guide)
    assert seen == [False, True, True, True]  # one prefix, and one expert pass per step serves value and gradient


@pytest.mark.parametrize("jacobian", [True, False])
def test_unknown_actions_have_no_influence(jacobian: bool) -> None:
    guide, wanted, _ = guidance("pi0", 0, jacobian)
    weights = guide.weights.expand_as(guide.actions[0]).clone()
    weights[3:], weights[:, 20:] = 0, 0
    spoiled = torch.where(weights > 0, guide.actions, torch.nan)
    chunks = [
        model("pi0").sample_actions(
            reference.inputs("pi0"), wanted["noise"], 3, guidance=SoftPrefix(actions, weights, 5.0, jacobian)
        )
        for actions in (guide.actions, spoiled)
    ]
    assert torch.equal(*chunks)
    assert chunks[0].isfinite().all()


@pytest.mark.parametrize("variant", [0, 1])
def test_trained_prefix(variant: int) -> None:
    tensors, meta = arrays("pi05/rtc_trained.npz")
    settings, previous = meta[variant], tensors[f"v{variant}_prev"]
    noise = tensors.get("noise", reference.tensor("pi05", "noise_sample"))
    prefix = torch.zeros(len(previous), settings["d"], noise.shape[2])
    prefix[:, :, : settings["pdim"]] = previous[:, : settings["d"]]
    chunk = model("pi05").sample_actions(reference.inputs("pi05"), noise, settings["n"], guidance=CleanPrefix(prefix))
    near(chunk, tensors[f"v{variant}_chunk"])
    assert torch.equal(chunk[:, : settings["d"]], prefix)


def test_trained_prefix_in_pi0() -> None:
    """Its time MLP works per action already: the prefix comes out as it is, and the rest depends on it."""
    noise = reference.tensor("pi0", "noise_sample")
    chunks = [
        model("pi0").sample_actions(reference.inputs("pi0"), noise, 3, guidance=CleanPrefix(prefix))
        for prefix in (noise[:, :2] * 0, noise[:, :2] * 0 + 0.5)
    ]
    assert chunks[1][:, :2].unique().tolist() == [0.5]
    assert (chunks[0][:, 2:] - chunks[1][:, 2:]).abs().max() > 1e-3


def test_a_prefix_as_long_as_the_chunk_is_refused() -> None:
    noise = reference.tensor("pi0", "noise_sample")
    with pytest.raises(ValueError, match="a prefix of 7 actions leaves nothing to predict in a chunk of 7"):
        model("pi0").sample_actions(reference.inputs("pi0"), noise, 3, guidance=CleanPrefix(noise))


def test_training_loss_with_clean_prefixes() -> None:
    tensors, _ = arrays("pi05/rtc_trained.npz")
    actions, noise, time = (tensors[key] for key in ("actions", "noise_train", "time_train"))
    times = prefix_times(time, tensors["loss_delays"], actions.shape[1])
    assert torch.equal(times == 0, tensors["loss_prefix_mask"])
    with torch.no_grad():
        loss = model("pi05").loss(reference.inputs("pi05"), actions, noise, times)
    near(loss, tensors["loss_elem"])
    counted = (times > 0)[..., None]
    near((loss * counted).sum((1, 2)) / counted.sum((1, 2)) / loss.shape[2], tensors["loss_per_sample"])
    near((loss * counted).sum() / counted.sum() / loss.shape[2], tensors["loss_mean"])
