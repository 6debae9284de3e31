"""The engine gives the plain model's chunks: every model, guidance and shape, and within the error of bfloat16."""

from __future__ import annotations

import logging
from dataclasses import replace

import engine_cases as cases
import numpy as np
import pytest
import torch

from pi0_ros.engine.engine import Engine, pictures
from pi0_ros.engine.pictures import Letterbox
from pi0_ros.engine.schedule import flow_times
from pi0_ros.model.config import ModelConfig
from pi0_ros.model.flow import integrate
from pi0_ros.model.pi0 import Pi0
from pi0_ros.observation.images import resize_with_pad

both_models = pytest.mark.parametrize("name", ["pi0", "pi05"])


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def same(a: torch.Tensor, b: torch.Tensor, limit: float = 1e-5) -> bool:
    return a.shape == b.shape and (a - b).abs().max().item() <= limit


@both_models
@pytest.mark.parametrize("kind", cases.guidances())
def test_chunks_are_the_plain_models(name, kind):
    model, guidance = cases.model(name), cases.guidances()[kind]
    wanted = model.sample_actions(cases.observation(), cases.noise(), guidance=guidance)
    engine = Engine(model)
    with torch.inference_mode():
        first, second = (engine.sample_actions(cases.observation(), cases.noise(), guidance=guidance) for _ in range(2))
    assert same(first, wanted) and torch.equal(first, second)
    assert not same(wanted, model.sample_actions(cases.observation(), cases.noise()), 1e-3) or guidance is None


@both_models
@pytest.mark.parametrize("tokens, absent, steps", [(1, "", 3), (16, cases.SLOTS[0], 10), (9, cases.SLOTS[2], 1)])
def test_any_shape(name, tokens, absent, steps):
    model = cases.model(name)
    inputs = cases.observation(3, tokens, absent)
    wanted = model.sample_actions(inputs, cases.noise(), num_steps=steps)
    assert same(Engine(model).sample_actions(inputs, cases.noise(), num_steps=steps), wanted)


def test_tokens_in_the_middle_of_the_mask_count_as_in_the_plain_model():
    model, inputs = cases.model("pi0"), cases.observation()
    inputs = replace(inputs, prompt_mask=torch.arange(16)[None] % 3 == 1)
    assert same(Engine(model).sample_actions(inputs, cases.noise()), model.sample_actions(inputs, cases.noise()))


@both_models
def test_observations_leave_nothing_behind(name):
    """Alternating prompts, cameras and guidance over the same buffers."""
    model = cases.model(name)
    engine, exact = Engine(model), cases.guidances()["exact"]
    for seed, tokens, absent, guidance in [
        (0, 7, "", None),
        (1, 7, "", exact),
        (2, 7, "", None),
        (3, 5, "", exact),
    ] * 2:
        inputs, noise = cases.observation(seed, tokens, absent), cases.noise(seed)
        assert same(
            engine.sample_actions(inputs, noise, guidance=guidance),
            model.sample_actions(inputs, noise, guidance=guidance),
        )


def test_many_key_value_heads():
    model = cases.model("pi0", kv_heads=2)
    assert same(
        Engine(model).sample_actions(cases.observation(), cases.noise()),
        model.sample_actions(cases.observation(), cases.noise()),
    )


@pytest.mark.parametrize("lerobot", [False, True])
@pytest.mark.parametrize("steps", [1, 3, 10])
def test_times_are_those_of_the_integrator(lerobot, steps):
    asked = []

    def velocity(x, time):
        asked.append((time * steps).round() / steps if lerobot else time)
        return x

    integrate(velocity, torch.zeros(1, 1, 1), steps)
    assert torch.equal(torch.cat(asked), flow_times(steps, lerobot))


def test_lerobots_times_are_kept():
    model = cases.model("pi05")
    model.lerobot_times = True
    assert same(
        Engine(model).sample_actions(cases.observation(), cases.noise(), 3),
        model.sample_actions(cases.observation(), cases.noise(), 3),
    )


def test_what_it_cannot_do_goes_to_the_plain_model_and_is_logged(caplog):
    model, engine = cases.model("pi0"), Engine(cases.model("pi0"))
    inputs = cases.observation()
    blind = replace(inputs, image_masks={slot: torch.tensor([False]) for slot in cases.SLOTS})
    with caplog.at_level(logging.INFO, "pi0 engine"):
        assert same(engine.sample_actions(blind, cases.noise()), model.sample_actions(blind, cases.noise()))
        longer = torch.randn(1, 25, 8)
        assert same(engine.sample_actions(inputs, longer), model.sample_actions(inputs, longer))
    assert "no camera" in caplog.text and "another horizon" in caplog.text


def test_bad_input_is_refused():
    engine, inputs = Engine(cases.model("pi0")), cases.observation()
    with pytest.raises(ValueError, match="no camera slot top"):
        engine.sample_actions(replace(inputs, images={"top": torch.zeros(1, 48, 48, 3)}), cases.noise())
    with pytest.raises(ValueError, match=r"image of base_0_rgb is \[1, 40, 48, 3\]"):
        engine.sample_actions(replace(inputs, images={"base_0_rgb": torch.zeros(1, 40, 48, 3)}), cases.noise())
    with pytest.raises(ValueError, match="num_steps must be at least 1"):
        engine.sample_actions(inputs, cases.noise(), num_steps=0)


@both_models
def test_the_plain_model_stays_what_it_was(name):
    model = cases.model(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    Engine(model).sample_actions(cases.observation(), cases.noise())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@both_models
def test_acceptance_in_bfloat16(name):
    """Error against float32 at most 1.1 times that of plain bfloat16, per step and per chunk, over 20 seeds."""
    model = cases.model(name, "bfloat16")
    exact = Pi0(replace(model.config, dtype="float32")).eval().requires_grad_(False)
    exact.load_state_dict(model.state_dict())
    engine = Engine(model)
    from gpu.correctness import acceptance
    from gpu.measure import Deadline

    made = acceptance(model, exact, engine, 2, 7, 20, Deadline(600.0))
    assert made["seeds"] == 20
    assert made["velocity_ratio_worst"] <= 1.1 and made["chunk_ratio"] <= 1.1
    assert min(made["velocity"]["eager"]) > 1e-4  # the measure measures something


SIZES = [(480, 640), (720, 1280), (100, 130), (48, 32), (63, 64), (64, 63), (37, 500), (64, 64), (3, 200)]


@pytest.mark.parametrize("rows, columns", SIZES)
def test_pictures_are_pillows_to_the_last_bit(rows, columns):
    frames = np.random.default_rng(0).integers(0, 256, (2, rows, columns, 3), dtype=np.uint8)
    wanted = (
        torch.from_numpy(np.stack([resize_with_pad(frame, 64, 64) for frame in frames])).float() / 255.0 * 2.0 - 1.0
    )
    assert torch.equal(Letterbox(rows, columns, 64, "pillow", torch.device("cpu"))(torch.from_numpy(frames)), wanted)


@pytest.mark.parametrize("resize", ["pillow", "torch"])
def test_raw_frames_of_several_sizes(resize):
    draw = np.random.default_rng(1)
    inputs = cases.observation(absent="")
    shapes = {cases.SLOTS[0]: (60, 80), cases.SLOTS[1]: (48, 48), cases.SLOTS[2]: (90, 40)}
    raw = {
        slot: torch.from_numpy(draw.integers(0, 256, (1, *shape, 3), dtype=np.uint8)) for slot, shape in shapes.items()
    }
    inputs = replace(inputs, images=raw)
    model = cases.model("pi0")
    engine = Engine(model, resize=resize)
    wanted = model.sample_actions(pictures(inputs, 48, resize), cases.noise())
    for _ in range(2):
        assert same(engine.sample_actions(inputs, cases.noise()), wanted)


@pytest.mark.gpu
@pytest.mark.parametrize("tf32", [False, True])
def test_pictures_on_a_gpu_are_pillows_too(tf32, monkeypatch):
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", tf32)
    frames = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 480, 640, 3), dtype=np.uint8))
    there = Letterbox(480, 640, 224, "pillow", torch.device("cuda"))(frames.cuda()).cpu()
    grey = lambda pictures: ((pictures + 1) * 127.5).round()  # noqa: E731
    assert torch.equal(grey(there), grey(Letterbox(480, 640, 224, "pillow", torch.device("cpu"))(frames)))


@pytest.mark.gpu
@pytest.mark.parametrize("kind", cases.guidances())
@both_models
def test_graphs_and_kernels_on_a_gpu(name, kind):
    """At real width, where the kernels serve: the error against float32 stays that of bfloat16."""
    preset = ModelConfig.preset(name)
    small = replace(
        preset, vlm=replace(preset.vlm, depth=2), expert=replace(preset.flow_expert, depth=2),
        vision=replace(preset.vision, depth=2), vocab_size=512,
    )  # fmt: skip
    from gpu.correctness import guidances, on
    from gpu.measure import error, in_float32, noise_for, observation

    torch.manual_seed(0)
    with torch.device("cuda"):
        model = Pi0(small).eval().requires_grad_(False)
    exact, engine, there = in_float32(model), Engine(model), torch.device("cuda")
    guidance = guidances(small)[kind]
    inputs, noise = observation(small, 2, 20, 0), noise_for(small, 0)
    wanted = exact.sample_actions(inputs.to(there), noise.to(there), guidance=on(guidance, there))
    plain = model.sample_actions(inputs.to(there), noise.to(there), guidance=on(guidance, there))
    first, second = (engine.sample_actions(inputs, noise, guidance=guidance) for _ in range(2))
    assert engine.graphs and torch.equal(first, second)
    assert error(first, wanted) <= 1.5 * error(plain, wanted)
