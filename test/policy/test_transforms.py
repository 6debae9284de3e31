"""Transforms: the reference's numbers, one path for one and for many, and a whole reference pipeline end to end."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from policy_fixtures import FIXTURES, TOKENIZER, observation, tiny_config, tiny_robot, tiny_stats

from pi0_ros.images import resize_with_pad
from pi0_ros.model import ModelConfig, Tokenizer, load_model
from pi0_ros.norm import load_norm_stats, normalize
from pi0_ros.policy.transforms import (
    PolicySettings,
    PolicySpec,
    actions_from_model,
    actions_to_model,
    make_inputs,
    pad_dim,
    to_absolute,
    to_relative,
)
from pi0_ros.robot import Camera, Joint, Robot, StateTopic


def spec(normalization: str = "mean_std", **changes) -> PolicySpec:
    robot = changes.pop("robot", tiny_robot())
    config = replace(tiny_config(), **changes)
    stats = tiny_stats(len(robot.joints))
    return PolicySpec(
        config, PolicySettings(normalization, normalization, 20.0), robot, stats, Tokenizer.load(TOKENIZER)
    )


def batch(size: int, robot: Robot) -> tuple[dict[str, np.ndarray], np.ndarray, list[str]]:
    many = [observation(robot, seed, size=40) for seed in range(size)]
    images = {name: np.stack([one.images[name] for one in many]) for name in many[0].images}
    return images, np.stack([one.state for one in many]), [f"do {i}" for i in range(size)]


def test_relative_actions_equal_the_reference() -> None:
    data = np.load(FIXTURES / "reference" / "transforms.npz")
    state, mask = data["delta_state"], data["delta_mask"]
    relative = to_relative(data["delta_actions_abs"], state, mask)
    np.testing.assert_allclose(relative, data["delta_actions_rel"], rtol=1e-6)
    np.testing.assert_allclose(to_absolute(relative, state, mask), data["delta_roundtrip"], rtol=1e-6)


def test_pad_dim_pads_and_never_cuts() -> None:
    assert pad_dim(np.ones((2, 3)), 5).tolist() == [[1, 1, 1, 0, 0]] * 2
    assert pad_dim(np.ones((2, 3)), 2).shape == (2, 3)


def test_inputs_of_a_batch() -> None:
    one = spec()
    images, state, prompts = batch(3, one.robot)
    inputs = make_inputs(one, images, state, prompts)
    assert set(inputs.images) == {"base_0_rgb", "left_wrist_0_rgb"}
    for camera in one.robot.cameras:
        pixels = inputs.images[camera.slot]
        assert pixels.shape == (3, 24, 24, 3) and pixels.dtype == torch.float32
        expected = resize_with_pad(images[camera.name][1], 24, 24).astype(np.float32) / 255 * 2 - 1
        np.testing.assert_allclose(pixels[1].numpy(), expected, atol=1e-6)
        assert inputs.image_masks[camera.slot].tolist() == [True] * 3
    assert inputs.state.shape == (3, 8) and inputs.state.dtype == torch.float32
    normalized = normalize(state, one.norm_stats.state, "mean_std")
    np.testing.assert_allclose(inputs.state[:, :6].numpy(), normalized, rtol=1e-5, atol=1e-6)
    assert inputs.state[:, 6:].abs().max() == 0
    assert inputs.prompt_tokens.shape == (3, 24) and inputs.prompt_tokens.dtype == torch.int64
    assert inputs.prompt_mask.dtype == torch.bool


def test_one_of_a_batch_equals_it_alone() -> None:
    """Training batches and live observations take the same way."""
    one = spec("quantile")
    images, state, prompts = batch(3, one.robot)
    together = make_inputs(one, images, state, prompts)
    alone = make_inputs(one, {name: image[2:3] for name, image in images.items()}, state[2:3], prompts[2:3])
    for slot in together.images:
        assert torch.equal(together.images[slot][2:3], alone.images[slot])
    assert torch.equal(together.state[2:3], alone.state)
    assert torch.equal(together.prompt_tokens[2:3], alone.prompt_tokens)


def test_resizing_before_changes_nothing() -> None:
    """A server's client resizes, the trainer may: images at the model's size are taken as they are."""
    one = spec()
    images, state, prompts = batch(2, one.robot)
    small = {name: np.stack([resize_with_pad(image, 24, 24) for image in stack]) for name, stack in images.items()}
    first, second = (make_inputs(one, given, state, prompts) for given in (images, small))
    for slot in first.images:
        assert torch.equal(first.images[slot], second.images[slot])


def test_a_slot_without_camera_is_black_and_masked() -> None:
    one = spec(cameras=("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"))
    images, state, prompts = batch(2, one.robot)
    inputs = make_inputs(one, images, state, prompts)
    assert (inputs.images["right_wrist_0_rgb"] == -1).all()
    assert inputs.image_masks["right_wrist_0_rgb"].tolist() == [False, False]


def test_images_of_a_message_are_not_written_to() -> None:
    """Frames read from a message are read-only."""
    one = spec()
    images, state, prompts = batch(1, one.robot)
    small = {name: np.stack([resize_with_pad(stack[0], 24, 24)]) for name, stack in images.items()}
    for stack in small.values():
        stack.flags.writeable = False
    make_inputs(one, small, state, prompts)


@pytest.mark.parametrize("normalization", ["mean_std", "quantile"])
def test_actions_there_and_back(normalization: str) -> None:
    one = spec(normalization)
    random = np.random.default_rng(0)
    actions, state = random.normal(size=(2, 5, 6)), random.normal(size=(2, 6))
    there = actions_to_model(one, actions, state)
    assert there.shape == (2, 5, 8) and there.dtype == torch.float32
    np.testing.assert_allclose(actions_from_model(one, there, state), actions, atol=1e-5)


def test_only_relative_joints_depend_on_the_state() -> None:
    one = spec()
    actions, state = np.zeros((1, 5, 6)), np.zeros((1, 6))
    moved = (actions_to_model(one, actions, state + 1) - actions_to_model(one, actions, state)).abs().amax((0, 1))
    assert (moved[:6].numpy() > 0).tolist() == one.robot.relative_mask.tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda images, state: (images.pop("wrist"), (images, state))[1], "no image of camera 'wrist' .given: base"),
        (lambda images, state: ({**images, "base": images["base"][:1]}, state), "camera 'base'"),
        (
            lambda images, state: ({**images, "base": images["base"].astype(np.float32)}, state),
            "camera 'base': float32",
        ),
        (lambda images, state: (images, state[:, :5]), "state has shape"),
    ],
)
def test_wrong_observations_are_named(change, message: str) -> None:
    one = spec()
    images, state, prompts = batch(2, one.robot)
    images, state = change(dict(images), state)
    with pytest.raises(ValueError, match=message):
        make_inputs(one, images, state, prompts)


def test_parts_that_do_not_fit_together() -> None:
    with pytest.raises(ValueError, match="6 joints, the model's action_dim is only 4"):
        spec(action_dim=4)
    with pytest.raises(ValueError, match="slot 'left_wrist_0_rgb'.*the model has base_0_rgb"):
        spec(cameras=("base_0_rgb",))
    with pytest.raises(ValueError, match="512 pieces"):
        spec(vocab_size=300)
    good = spec()
    with pytest.raises(ValueError, match="norm_stats.state has 5 dimensions.*6 joints"):
        replace(good, norm_stats=tiny_stats(5))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"normalization": "minmax", "fps": 20}, "normalization is 'minmax'"),
        ({"normalization": "mean_std", "fps": 0}, "fps is 0"),
        ({"fps": 20}, "missing key.*action_normalization, state_normalization"),
        ({"normalization": "mean_std", "image_resize": "jax"}, "image_resize is 'jax', expected pillow or torch"),
        ({"normalization": "mean_std", "fps": 20, "speed": 1}, "unknown key.*speed"),
        ({"normalization": "mean_std", "fps": 20, "num_steps": 0}, "num_steps is 0"),
    ],
)
def test_wrong_settings(content: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PolicySettings.from_dict(content)


def droid_robot() -> Robot:
    """The reference's DROID observation as a robot file: 7 joints and a gripper, all absolute, two cameras."""
    names = [f"joint_{i}" for i in range(7)] + ["gripper"]
    joints = tuple(
        Joint(name, "rad", "gripper" if name == "gripper" else "revolute", -3, 3, 1, 1, None, "absolute")
        for name in names
    )
    cameras = tuple(
        Camera(name, f"/{name}", "sensor_msgs/msg/Image", slot, 1.0)
        for name, slot in (("exterior", "base_0_rgb"), ("wrist", "left_wrist_0_rgb"))
    )
    state = (StateTopic("/joint_states", "sensor_msgs/msg/JointState", tuple(names), 1.0),)
    return Robot("droid", "", joints, cameras, state, (), "command", 1.0, 50.0, 5.0, 15.0, "", None)


def test_whole_pipeline_equals_the_reference_pi05_droid() -> None:
    """Raw observation -> model input -> sampled actions -> robot actions, as openpi computes them."""
    data = dict(np.load(FIXTURES / "policy" / "e2e_droid.npz"))
    meta = json.loads(str(data["meta_json"]))
    folder = FIXTURES / "reference" / "pi05"
    config = ModelConfig.from_dict(
        {**json.loads((folder / "sizes.json").read_text()), "max_token_len": meta["max_token_len"]}
    )
    stats = load_norm_stats(FIXTURES / "policy" / "droid_norm_stats.json")
    one = PolicySpec(
        config, PolicySettings("quantile", "quantile", 15.0), droid_robot(), stats, Tokenizer.load(TOKENIZER)
    )
    images = {
        "exterior": data["obs|observation/exterior_image_1_left"][None],
        "wrist": data["obs|observation/wrist_image_left"][None],
    }
    state = np.concatenate([data["obs|observation/joint_position"], data["obs|observation/gripper_position"]])[None]

    inputs = make_inputs(one, images, state, [meta["prompt"]])
    for slot in ("base_0_rgb", "left_wrist_0_rgb"):
        pixels = data[f"model_image_{slot}"].astype(np.float32) / 255 * 2 - 1
        np.testing.assert_allclose(inputs.images[slot][0].numpy(), pixels, atol=1.01 * 2 / 255)  # one grey level
    assert {slot: bool(mask[0]) for slot, mask in inputs.image_masks.items()} == meta["image_masks"]
    np.testing.assert_allclose(inputs.state[0].numpy(), data["model_state"], atol=1e-5)
    assert inputs.prompt_tokens[0].tolist() == data["model_tokens"].tolist()
    assert inputs.prompt_mask[0].tolist() == data["model_token_mask"].tolist()

    model = load_model(config, folder / "model.safetensors")
    sampled = model.sample_actions(inputs, noise=torch.from_numpy(data["noise"])[None], num_steps=meta["num_steps"])
    np.testing.assert_allclose(sampled[0].numpy(), data["model_actions"], atol=5e-4)
    np.testing.assert_allclose(actions_from_model(one, sampled, state)[0], data["out_actions"], atol=5e-4)
