"""Transforms: shapes, one path for one and for many, and parts that do not fit together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from policy_fixtures import FIXTURES, TOKENIZER, observation, tiny_config, tiny_robot, tiny_stats

from pi0_ros.checkpoints.norm_stats import NormStats, Stats, normalize
from pi0_ros.checkpoints.settings import PolicySettings
from pi0_ros.checkpoints.spec import PolicySpec
from pi0_ros.observation.images import resize_with_pad
from pi0_ros.policy.transforms import (
    _pictures,
    actions_from_model,
    actions_to_model,
    make_inputs,
    pad_dim,
)
from pi0_ros.robot import Robot
from pi0_ros.tokens.tokenizer import Tokenizer


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


def test_frames_for_the_engine_are_resized_here_on_a_cpu_and_there_on_a_device() -> None:
    one = spec()
    images, state, prompts = batch(2, one.robot)
    size, first = one.config.vision.image_size, one.robot.cameras[0]
    here = make_inputs(one, images, state, prompts, raw=True).images[first.slot]
    wanted = np.stack([resize_with_pad(frame, size, size) for frame in images[first.name]])
    assert here.dtype == torch.uint8 and np.array_equal(here.numpy(), wanted)
    there = make_inputs(one, images, state, prompts, "meta", raw=True).images[first.slot]
    assert there.dtype == torch.uint8 and there.shape[1:3] == images[first.name].shape[1:3]


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
    with pytest.raises(ValueError, match="6 joints of actions, the model's action_dim is only 4"):
        spec(action_dim=4)
    with pytest.raises(ValueError, match="slot 'left_wrist_0_rgb'.*the model has base_0_rgb"):
        spec(cameras=("base_0_rgb",))
    with pytest.raises(ValueError) as caught:  # all at once, and the line that makes a model of this robot
        spec(action_dim=4, state_dim=0, cameras=("base_0_rgb",))
    slots = ", ".join(camera.slot for camera in tiny_robot().cameras)
    assert str(caught.value).endswith(f"model_overrides: {{action_dim: 6, cameras: [{slots}]}}")
    changed = yaml.safe_load(str(caught.value)[str(caught.value).index("model_overrides:") :])["model_overrides"]
    spec(**changed | {"cameras": tuple(changed["cameras"]), "state_dim": 0})
    with pytest.raises(ValueError, match="512 pieces"):
        spec(vocab_size=300)
    good = spec()
    with pytest.raises(ValueError, match="norm_stats.state has 5 dimensions.*6 joints"):
        replace(good, norm_stats=tiny_stats(5))
    without = NormStats(tiny_stats(6).state, Stats(np.zeros(6), np.ones(6)))
    with pytest.raises(ValueError, match="norm_stats.actions: the statistics have no 'q01'"):
        replace(good, norm_stats=without, settings=PolicySettings("quantile", "quantile"))


def test_statistics_may_be_wider_than_the_robot_and_fps_that_of_its_data() -> None:
    """openpi's base models have statistics of 32 dimensions; no file of theirs says how fast they act."""
    one, wide = spec(), replace(spec(), norm_stats=tiny_stats(9), settings=PolicySettings("mean_std", "mean_std"))
    images, state, prompts = batch(2, one.robot)
    assert wide.fps == one.robot.dataset_fps
    found = make_inputs(replace(one, norm_stats=wide.norm_stats), images, state, prompts)
    cut = NormStats(*(Stats(*(v[:6] for v in s.present().values())) for s in vars(wide.norm_stats).values()))
    np.testing.assert_array_equal(found.state, make_inputs(replace(one, norm_stats=cut), images, state, prompts).state)


def test_a_checkpoint_that_contradicts_the_robot_file() -> None:
    """LeRobot says which actions are relative, and their names."""
    good = spec()
    names = [f"{name}.pos" for name in good.robot.joint_names]
    mask = tuple(good.robot.relative_mask.tolist())
    agreeing = replace(good.settings, relative_actions=mask, action_names=tuple(names))
    replace(good, settings=agreeing)
    with pytest.raises(ValueError, match="actions of .* are relative, the checkpoint those of none: correct `action`"):
        replace(good, settings=replace(good.settings, relative_actions=(False,) * 6))
    with pytest.raises(ValueError, match="the checkpoint has 5 actions, robot .* has 6"):
        replace(good, settings=replace(good.settings, action_names=tuple(names[:5])))
    with pytest.raises(ValueError, match="in the order .*: put the joints of the robot file into the checkpoint's"):
        replace(good, settings=replace(good.settings, action_names=tuple(reversed(names))))
    replace(good, settings=replace(good.settings, action_names=tuple("abcdef")))  # other names say nothing


def test_lerobots_resize_equals_the_reference() -> None:
    data = np.load(FIXTURES / "reference" / "lerobot_transforms.npz")
    found = _pictures({"base": data["lrresize_in_u8"][None]}, 224, "torch", "cpu")["base"][0]
    np.testing.assert_allclose((found[::4, ::4] + 1) / 2, data["lrresize_out"], atol=1e-6)


def test_openpis_resize_equals_the_reference() -> None:
    data = np.load(FIXTURES / "reference" / "transforms.npz")
    for i in range(4):
        found = _pictures({"base": data[f"resize{i}_in"][None]}, 224, "pillow", "cpu")["base"][0]
        expected = data[f"resize{i}_pil"].astype(np.float32) / 255 * 2 - 1
        np.testing.assert_allclose(found, expected, atol=1.01 * 2 / 255)  # one grey level between Pillow's versions


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"normalization": "minmax", "fps": 20}, "normalization is 'minmax'"),
        ({"normalization": "mean_std", "fps": 0}, "fps is 0"),
        ({"fps": 20}, "missing key.*action_normalization, state_normalization"),
        ({"normalization": "mean_std", "image_resize": "jax"}, "image_resize is 'jax', expected one of pillow, torch"),
        ({"normalization": "mean_std", "fps": 20, "speed": 1}, "unknown key.*speed"),
        ({"normalization": "mean_std", "fps": 20, "num_steps": 0}, "num_steps is 0"),
    ],
)
def test_wrong_settings(content: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PolicySettings.from_dict(content)
