"""The network against the reference fixtures, and the promises its structure makes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import reference
import torch

from pi0_ros.checkpoints.weights import named_weights
from pi0_ros.model.config import ModelConfig
from pi0_ros.model.flow import sample_time, time_embedding
from pi0_ros.model.init import sine_position_init
from pi0_ros.model.layers import Attention, Rotary, attention_bias, fold_heads
from pi0_ros.model.paligemma import ModelInput
from pi0_ros.model.pi0 import Pi0, prefix_positions

both_models = pytest.mark.parametrize("name", reference.MODELS)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def assert_close(actual: torch.Tensor, wanted: torch.Tensor, limit: float) -> None:
    assert actual.shape == wanted.shape
    assert (actual - wanted).abs().max().item() <= limit


def random_input(config: ModelConfig, batch: int, seed: int = 0) -> ModelInput:
    draw = torch.Generator().manual_seed(seed)
    size = config.vision.image_size
    return ModelInput(
        images={c: torch.rand(batch, size, size, 3, generator=draw) * 2 - 1 for c in config.cameras},
        image_masks={c: torch.ones(batch, dtype=torch.bool) for c in config.cameras},
        prompt_tokens=torch.randint(config.vocab_size, (batch, config.max_token_len), generator=draw),
        prompt_mask=torch.arange(config.max_token_len).expand(batch, -1) < 7,
        state=torch.randn(batch, config.action_dim, generator=draw),
    )


@both_models
def test_prefix_tokens_masks_and_positions(name):
    with torch.no_grad():
        embedded, mask = reference.model(name).embed_prefix(reference.inputs(name))
    assert torch.equal(mask, reference.tensor(name, "prefix_mask"))
    assert torch.equal(prefix_positions(mask), reference.tensor(name, "prefix_positions").long())
    assert_close(embedded[mask], reference.tensor(name, "prefix_emb_jax")[mask], 3e-4)


@both_models
def test_loss(name):
    train = (reference.tensor(name, key) for key in ("actions", "noise_train", "time_train"))
    with torch.no_grad():
        loss = reference.model(name).loss(reference.inputs(name), *train)
    assert_close(loss, reference.tensor(name, "loss_elem_torch"), 1e-4)
    assert_close(loss.mean(-1), reference.tensor(name, "loss_jax"), 3e-4)


@both_models
def test_gradients(name):
    model = reference.model(name)
    with np.load(reference.ROOT / name / "train.npz") as arrays:
        train = dict(arrays)
    noise, time = torch.from_numpy(train["noise"][0]), torch.from_numpy(train["time"][0])
    actions = reference.tensor(name, "actions")
    model.loss(reference.inputs(name), actions, noise, time, reduction="mean").backward()
    weights = named_weights(model)
    wanted = {key.removeprefix("grad0/"): torch.from_numpy(train[key]) for key in train if key.startswith("grad0/")}
    assert len(wanted) > 50
    for key, gradient in wanted.items():
        actual = weights[key].grad
        if actual is None:  # the end of the last VLM layer: see Pi0
            assert gradient.count_nonzero() == 0
        elif not key.endswith("self_attn.k_proj.bias"):  # no influence in the vision tower, so rounding noise
            assert_close(actual, gradient, 1e-3 * gradient.abs().max().item())
    norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    assert norm.item() == pytest.approx(train["grad_norm"][0], rel=1e-4)


@both_models
@pytest.mark.parametrize(
    ("key", "steps", "limit"),
    [
        ("actions_torch_10", 10, 2e-5),
        ("actions_torch_3", 3, 2e-5),
        ("actions_jax_10", 10, 1e-4),
        ("actions_jax_3", 3, 1e-4),
        ("actions_jax_1", 1, 1e-4),
    ],
)
def test_sampled_actions(name, key, steps, limit):
    noise = reference.tensor(name, "noise_sample")
    actions = reference.model(name).sample_actions(reference.inputs(name), noise, num_steps=steps)
    assert_close(actions, reference.tensor(name, key), limit)


def test_sampling_times_are_those_of_the_reference_that_trained_the_model():
    model, inputs = reference.model("pi0"), reference.inputs("pi0")
    seen: list[torch.Tensor] = []
    plain = model.velocity
    model.velocity = lambda prefix, state, x, time: seen.append(time[0]) or plain(prefix, state, x, time)
    model.sample_actions(inputs, num_steps=10)
    total = torch.ones(())
    for time in seen:  # openpi adds -0.1 in float32
        assert time == total
        total = total - 0.1
    seen.clear()
    model.lerobot_times = True
    model.sample_actions(inputs, num_steps=10)
    assert [time.item() for time in seen] == [torch.tensor(1 - step * 0.1).item() for step in range(10)]


@both_models
def test_missing_camera_has_no_influence(name):
    model, inputs = reference.model(name), reference.inputs(name)
    noise = reference.tensor(name, "noise_sample")
    slot = "right_wrist_0_rgb"
    missing = ~inputs.image_masks[slot]
    assert missing.any()
    assert not missing.all()
    before = model.sample_actions(inputs, noise, num_steps=2)
    spoiled = inputs.images[slot].clone()
    spoiled[missing] = float("nan")
    after = model.sample_actions(replace(inputs, images=inputs.images | {slot: spoiled}), noise, num_steps=2)
    assert torch.equal(before, after)


def test_missing_camera_spoils_no_gradient():
    model, inputs = reference.model("pi0"), reference.inputs("pi0")
    slot = "right_wrist_0_rgb"
    spoiled = inputs.images[slot].clone()
    spoiled[~inputs.image_masks[slot]] = float("inf")
    train = (reference.tensor("pi0", key) for key in ("actions", "noise_train", "time_train"))
    model.loss(replace(inputs, images=inputs.images | {slot: spoiled}), *train, reduction="mean").backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@both_models
def test_absent_slot_equals_masked_slot(name):
    model, inputs = reference.model(name), reference.inputs(name)
    noise = reference.tensor(name, "noise_sample")
    slot = "base_0_rgb"
    masked = replace(inputs, image_masks=inputs.image_masks | {slot: torch.zeros(2, dtype=torch.bool)})
    absent = replace(inputs, images={c: image for c, image in inputs.images.items() if c != slot})
    assert_close(
        model.sample_actions(absent, noise, num_steps=2), model.sample_actions(masked, noise, num_steps=2), 2e-5
    )


def test_order_of_the_images_is_the_configs():
    model, inputs = reference.model("pi0"), reference.inputs("pi0")
    shuffled = replace(inputs, images=dict(reversed(inputs.images.items())))
    assert torch.equal(model.embed_prefix(shuffled)[0], model.embed_prefix(inputs)[0])


def test_unknown_camera_slot_is_refused():
    inputs = reference.inputs("pi0")
    named_wrong = replace(inputs, images={"top_0_rgb": inputs.images["base_0_rgb"]})
    with pytest.raises(ValueError, match="no camera slot top_0_rgb; the model has base_0_rgb"):
        reference.model("pi0").encode_prefix(named_wrong)


def test_shapes_that_do_not_fit_are_named():
    model, inputs = reference.model("pi0"), reference.inputs("pi0")
    images = inputs.images | {"base_0_rgb": torch.zeros(2, 3, 224, 224)}
    with pytest.raises(
        ValueError, match=r"image of base_0_rgb is \[2, 3, 224, 224\], the model needs \[2, 224, 224, 3\]"
    ):
        model.encode_prefix(replace(inputs, images=images))
    with pytest.raises(ValueError, match="image of left_wrist_0_rgb has no entry in image_masks"):
        masks = {slot: mask for slot, mask in inputs.image_masks.items() if slot != "left_wrist_0_rgb"}
        model.encode_prefix(replace(inputs, image_masks=masks))
    with pytest.raises(ValueError, match=r"state is \[2, 6\], the model needs \[2, 32\]"):
        model.sample_actions(replace(inputs, state=torch.zeros(2, 6)))


@both_models
def test_sampling_encodes_the_prefix_once_and_leaves_it_alone(name, monkeypatch):
    model = reference.model(name)
    encoded, seen = [], []
    encode, velocity = model.encode_prefix, model.velocity

    def counting_encode(inputs):
        encoded.append(encode(inputs))
        return encoded[-1]

    def watching_velocity(prefix, state, x_t, time):
        assert prefix is encoded[0]
        seen.append(tuple(part.shape for pair in prefix.cached for part in pair))
        return velocity(prefix, state, x_t, time)

    monkeypatch.setattr(model, "encode_prefix", counting_encode)
    monkeypatch.setattr(model, "velocity", watching_velocity)
    model.sample_actions(reference.inputs(name), reference.tensor(name, "noise_sample"), num_steps=10)
    assert len(encoded) == 1
    assert len(seen) == 10
    assert len(set(seen)) == 1  # the cache never grows
    sizes, tokens = model.config.vlm, encoded[0].mask.shape[1]
    assert set(seen[0]) == {(2, sizes.num_kv_heads, tokens, sizes.head_dim)}
    assert len(encoded[0].cached) == sizes.depth


@both_models
def test_draws_that_share_a_prefix_equal_a_repeated_batch(name):
    model, inputs = reference.model(name), reference.inputs(name)
    actions = reference.tensor(name, "actions")
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(6, *actions.shape[1:], generator=draw)
    time = sample_time(6, draw)
    with torch.no_grad():
        shared = model.loss(inputs, actions, noise, time)
        assert torch.equal(shared, model.loss(inputs, actions, noise, time, prefix=model.encode_prefix(inputs)))
        for rows in range(0, 6, 2):
            alone = model.loss(inputs, actions, *(part[rows : rows + 2] for part in (noise, time)))
            assert_close(shared[rows : rows + 2], alone, 2e-5)
        with pytest.raises(ValueError, match="5 rows of noise and 6 times do not fit 2 chunks"):
            model.loss(inputs, actions, noise[:5], time)
        with pytest.raises(ValueError, match=r"a prefix of 2 rows x 1 draws needs \[2, horizon, 32\]"):
            model.velocity(model.encode_prefix(inputs), inputs.state, noise, time)


@both_models
def test_one_time_per_action_equals_one_time_per_row(name):
    model, inputs = reference.model(name), reference.inputs(name)
    train = {key: reference.tensor(name, key) for key in ("actions", "noise_train", "time_train")}
    per_action = train["time_train"][:, None].expand(train["actions"].shape[:2])
    with torch.no_grad():
        rows = model.loss(inputs, *train.values())
        tokens = model.loss(inputs, train["actions"], train["noise_train"], per_action)
    assert_close(tokens, rows, 1e-5)


def test_state_does_not_see_actions():
    """The state token of pi0 attends to the prefix and itself, so its keys depend on nothing noisy."""
    model = reference.model("pi0")
    bias = model.suffix_bias(torch.tensor([[True, False]]), 4, torch.float32)
    heads = model.config.expert.num_heads
    allowed = (bias == 0).view(4, heads, 6)[:, 0]
    assert allowed[0].tolist() == [True, False, True, False, False, False]
    assert allowed[1:].tolist() == [[True, False, True, True, True, True]] * 3


def test_grouped_attention_with_several_key_heads():
    """Query head n reads key head n // group, for masks that differ from query to query."""
    torch.manual_seed(0)
    attention, (batch, length, heads, kv, dim) = Attention(24, 6, 2, 8), (2, 5, 6, 2, 8)
    x = torch.randn(batch, length, 24)
    rotary = Rotary.at(torch.arange(length).expand(batch, -1), dim)
    allowed = torch.ones(length, length, dtype=torch.bool).tril().expand(batch, 1, -1, -1)
    with torch.no_grad():
        keys, values = attention.keys_values(x, rotary)
        bias = fold_heads(attention_bias(allowed, torch.float32), heads // kv)
        out = attention(x, rotary, keys, values, bias)
        queries = rotary(attention.q_proj(x).view(batch, length, heads, dim))
        mixed = torch.zeros(batch, length, heads, dim)
        for head in range(heads):
            k, v = keys[:, head // (heads // kv)], values[:, head // (heads // kv)]
            logits = queries[:, :, head] @ k.transpose(1, 2) * dim**-0.5
            mixed[:, :, head] = logits.masked_fill(~allowed[:, 0], -torch.inf).softmax(-1) @ v
        assert_close(out, attention.o_proj(mixed.flatten(2)), 1e-5)


def test_rotary_positions_turn_pairs_of_the_two_halves():
    x = torch.tensor([1.0, 0.0, 0.0, 0.0]).view(1, 1, 1, 4)
    angle = torch.tensor(3.0)
    wanted = torch.stack([angle.cos(), torch.tensor(0.0), angle.sin(), torch.tensor(0.0)])
    assert_close(Rotary.at(torch.tensor([[3]]), 4)(x).view(4), wanted, 1e-6)


def test_time_embedding_ends():
    embedded = time_embedding(torch.tensor([0.0, 1.0]), 8)
    assert embedded[0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert embedded[1, 3].item() == pytest.approx(torch.tensor(torch.pi / 2).sin().item())  # period 4 at t = 1


def test_training_times_follow_the_beta_distribution():
    times = sample_time(200_000, torch.Generator().manual_seed(0))
    assert times.min() > 0.001
    assert times.max() <= 1
    assert times.mean().item() == pytest.approx(0.001 + 0.999 * 1.5 / 2.5, abs=2e-3)
    assert ((times - 0.001) / 0.999 < 0.5).float().mean().item() == pytest.approx(0.5**1.5, abs=5e-3)


@both_models
def test_bfloat16_keeps_float32_where_the_reference_does(name):
    config = replace(reference.config(name), dtype="bfloat16")
    model = Pi0(config)
    assert model.vlm.layers[0].mlp.up_proj.weight.dtype == torch.bfloat16
    assert model.vision.layers[0].layer_norm1.weight.dtype == torch.bfloat16
    assert model.vision.position_embedding.weight.dtype == torch.float32
    assert {p.dtype for p in model.expert.norm.parameters()} == {torch.float32}
    assert model.action_in_proj.weight.dtype == torch.float32


@both_models
def test_bfloat16_actions_stay_near_float32(name):
    model = reference.model(name)
    model.set_dtype(torch.bfloat16)
    noise = reference.tensor(name, "noise_sample")
    actions = model.sample_actions(reference.inputs(name), noise)
    assert actions.dtype == torch.float32
    assert_close(actions, reference.tensor(name, "actions_torch_10"), 0.4)


@both_models
def test_a_fresh_small_model_learns_one_batch(name):
    torch.manual_seed(0)
    config = replace(ModelConfig.preset("demo"), model=name)
    model = Pi0(config)
    sine_position_init(model)
    inputs = random_input(config, 2)
    draw = torch.Generator().manual_seed(1)
    phase = torch.rand(2, 1, config.action_dim, generator=draw) * 6
    actions = torch.sin(torch.arange(config.action_horizon)[None, :, None] / 6 + phase)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(30):
        noise = torch.randn(8, *actions.shape[1:], generator=draw)
        loss = model.loss(inputs, actions, noise, sample_time(8, draw), reduction="mean")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])


def test_sampling_is_repeatable_with_a_generator():
    config = ModelConfig.preset("demo")
    model = Pi0(config)
    inputs = random_input(config, 1)
    first, second = (model.sample_actions(inputs, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert first.shape == (1, config.action_horizon, config.action_dim)
    assert torch.equal(first, second)
