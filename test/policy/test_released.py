"""Checkpoints as other projects write them, driven by robot files: their pipelines from the camera to the command."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from policy_fixtures import TOKENIZER
from reference import ROOT as REFERENCE
from reference import case

from pi0_ros.checkpoints.checkpoint import CheckpointError, load_checkpoint
from pi0_ros.checkpoints.describe import describe, load_spec
from pi0_ros.observation.streams import Observation
from pi0_ros.policy.policy import Policy
from pi0_ros.policy.transforms import make_inputs
from pi0_ros.robot import Robot, load_robot
from pi0_ros.robot.units import SAME

TINY = {"vision": {"num_heads": 4}, "action_horizon": 7}  # what neither files nor tensors of the small models tell
GRIPPERS = [6, 13]


def policy(folder: Path, robot: Robot, **config: Any) -> Policy:
    """The policy of a checkpoint folder; a tokenizer of its own goes before the one given here."""
    tokenizer = "" if (folder / "tokenizer").is_dir() else TOKENIZER
    return Policy(load_checkpoint(folder, robot=robot, tokenizer=tokenizer, config={**TINY, **config}))


def observation(images: dict[str, np.ndarray], state: np.ndarray, prompt: str) -> Observation:
    return Observation(0, images, np.asarray(state, np.float64), prompt, {})


def infer(policy: Policy, seen: Observation, noise: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    monkeypatch.setattr(policy, "_noise", lambda stamp_ns: noise[None])
    return policy.infer(seen).actions


def check_inputs(policy: Policy, seen: Observation, data: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
    """The model's input is openpi's."""
    images = {name: image[None] for name, image in seen.images.items()}
    inputs = make_inputs(policy.spec, images, seen.state[None], [seen.prompt])
    for slot, mask in inputs.image_masks.items():
        assert mask.tolist() == [meta["image_masks"][slot]]
        pixels = data[f"model_image_{slot}"].astype(np.float32) / 255 * 2 - 1
        np.testing.assert_allclose(inputs.images[slot][0], pixels, atol=1.01 * 2 / 255)  # one level between Pillows
    np.testing.assert_allclose(inputs.state[0], data["model_state"], atol=1e-5)
    assert inputs.prompt_tokens[0].tolist() == data["model_tokens"].tolist()
    assert inputs.prompt_mask[0].tolist() == data["model_token_mask"].tolist()


def with_joints(robot: Robot, **changes: Any) -> Robot:
    return replace(robot, joints=tuple(replace(joint, **changes) for joint in robot.joints))


# ---- openpi, JAX checkpoints as they are downloaded


def finger_of_joint(normalized: np.ndarray) -> np.ndarray:
    """A gripper command of ALOHA, 0 .. 1 -> angle of the crank (PUPPET_GRIPPER_JOINT) -> place of the finger, m."""
    angle = np.clip(normalized * (1.4910 + 0.6213) - 0.6213, -np.pi / 2, np.pi / 2)
    return 0.022 * np.sin(angle) + np.sqrt(0.036**2 - (0.022 * np.cos(angle)) ** 2)


def test_aloha(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped file: rad and fingers in m, where openpi's client has grippers from 0 to 1. One camera is missing."""
    data, meta = case("pi0/e2e_aloha")
    robot = load_robot("aloha")
    robot = replace(robot, cameras=robot.cameras[:2])
    model = policy(REFERENCE / "pi0" / "checkpoint", robot)
    images = {name: data[f"obs|images|cam_{name}"].transpose(1, 2, 0) for name in ("high", "left_wrist")}
    state, expected = data["obs|state"].copy(), data["out_actions"].copy()
    state[GRIPPERS] = state[GRIPPERS] * (0.05800 - 0.01844) + 0.01844  # PUPPET_GRIPPER_POSITION
    expected[:, GRIPPERS] = finger_of_joint(expected[:, GRIPPERS])
    seen = observation(images, state, meta["prompt"])
    check_inputs(model, seen, data, meta)
    np.testing.assert_allclose(infer(model, seen, data["noise"], monkeypatch), expected, atol=5e-4)


def test_aloha_in_openpis_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulator's file, whose grippers are openpi's, with the relative actions of this fixture."""
    data, meta = case("pi0/e2e_aloha")
    relative = load_robot("aloha").relative_mask
    robot = load_robot("aloha_sim")
    joints = tuple(replace(j, action="relative" if mask else "absolute") for j, mask in zip(robot.joints, relative))
    wrist = replace(robot.cameras[0], name="wrist", slot="left_wrist_0_rgb")
    released = replace(robot.released, asset_id="trossen")
    robot = replace(robot, joints=joints, cameras=(*robot.cameras, wrist), released=released)
    model = policy(REFERENCE / "pi0" / "checkpoint", robot)
    images = {"top": data["obs|images|cam_high"], "wrist": data["obs|images|cam_left_wrist"]}
    images = {name: image.transpose(1, 2, 0) for name, image in images.items()}
    seen = observation(images, data["obs|state"], meta["prompt"])
    check_inputs(model, seen, data, meta)
    np.testing.assert_allclose(infer(model, seen, data["noise"], monkeypatch), data["out_actions"], atol=5e-4)


def test_libero(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight values in, seven out, statistics under an id with a slash; the first six actions are less the state."""
    data, meta = case("pi0/e2e_libero")
    model = policy(REFERENCE / "pi0" / "checkpoint", load_robot("libero_pi0"))
    images = {"image": data["obs|observation/image"], "wrist_image": data["obs|observation/wrist_image"]}
    seen = observation(images, data["obs|observation/state"], meta["prompt"])
    check_inputs(model, seen, data, meta)
    np.testing.assert_allclose(infer(model, seen, data["noise"], monkeypatch), data["out_actions"], atol=5e-4)


@pytest.mark.parametrize("shipped", [True, False], ids=["shipped", "openpi's units"])
def test_droid(shipped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """pi0.5, quantiles, the state in the prompt; what openpi hands out are speeds, which DROID's client and robot turn
    into positions."""
    data, meta = case("pi05/e2e_droid")
    robot = load_robot("franka_droid")
    if not shipped:
        robot = with_joints(robot, action="absolute", state_scale=SAME, action_scale=SAME)
    model = policy(REFERENCE / "pi05" / "checkpoint", robot)
    joints, gripper = data["obs|observation/joint_position"], data["obs|observation/gripper_position"]
    images = {
        "exterior": data["obs|observation/exterior_image_1_left"],
        "wrist": data["obs|observation/wrist_image_left"],
    }
    state = np.concatenate([joints, gripper * (0.8 if shipped else 1.0)])  # rad of the knuckle, or 0 .. 1
    seen = observation(images, state, meta["prompt"])
    check_inputs(model, seen, data, meta)
    found, expected = infer(model, seen, data["noise"], monkeypatch), data["out_actions"]
    if shipped:
        positions = joints + np.cumsum(0.2 * np.clip(expected[:, :7], -1, 1), axis=0)
        expected = np.column_stack([positions, np.where(expected[:, 7] > 0.5, 0.8, 0.0)])
    np.testing.assert_allclose(found, expected, atol=5e-4)


# ---- LeRobot


def check_lerobot_inputs(policy: Policy, seen: Observation, data: dict[str, np.ndarray], row: int) -> None:
    images = {name: image[None] for name, image in seen.images.items()}
    inputs = make_inputs(policy.spec, images, seen.state[None], [seen.prompt])
    assert inputs.prompt_tokens[0].tolist() == data["tokens"][row].tolist()
    assert inputs.prompt_mask[0].tolist() == data["token_mask"][row].tolist()
    dim = data["model_state"].shape[1]
    np.testing.assert_allclose(inputs.state[0, :dim], data["model_state"][row], atol=1e-5)
    for index, slot in enumerate(policy.spec.config.cameras):
        assert inputs.image_masks[slot].tolist() == [bool(data["image_masks"][row, index])]
        found = inputs.images[slot][0].permute(2, 0, 1)[:, 3::16, 5::16]
        np.testing.assert_allclose(found, data["images_strided"][row, index], atol=1e-5)


def lerobot_aloha() -> Robot:
    """ALOHA as a LeRobot data set has it: numbers as they are, arms relative, cameras by LeRobot's names."""
    robot = with_joints(load_robot("aloha"), state_scale=SAME, action_scale=SAME)
    return replace(robot, cameras=tuple(replace(camera, slot=f"cam_{camera.name}") for camera in robot.cameras))


@pytest.mark.parametrize("row", [0, 1])
def test_lerobot_pi0(row: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Means and deviations, relative actions by name, three cameras, a prompt that ends or does not end in a break."""
    data, meta = case("lerobot/pi0_e2e")
    model = policy(REFERENCE / "lerobot" / "pi0", lerobot_aloha())
    images = {name: data[f"obs|observation.images.cam_{name}"][row] for name in ("high", "left_wrist", "right_wrist")}
    seen = observation(images, data["obs|observation.state"][row], meta["tasks"][row])
    check_lerobot_inputs(model, seen, data, row)
    found = infer(model, seen, data["noise"][row], monkeypatch)
    np.testing.assert_allclose(found, data["actions_out"][row], atol=5e-4)


@pytest.mark.parametrize("row", [0, 1])
def test_lerobot_pi05(row: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quantiles, eight values in and seven out, and a camera that is always empty."""
    data, meta = case("lerobot/pi05_e2e")
    robot = replace(load_robot("libero"), released=load_robot("libero_pi0").released)
    model = policy(REFERENCE / "lerobot" / "pi05", robot)
    images = {
        "image": data["obs|observation.images.base_0_rgb"][row],
        "wrist_image": data["obs|observation.images.left_wrist_0_rgb"][row],
    }
    seen = observation(images, data["obs|observation.state"][row], meta["tasks"][row])
    check_lerobot_inputs(model, seen, data, row)
    found = infer(model, seen, data["noise"][row], monkeypatch)
    np.testing.assert_allclose(found, data["actions_out"][row], atol=5e-4)


# ---- what has to be said, and what contradicts


def renamed(robot: Robot) -> Robot:
    return replace(robot, released=replace(robot.released, asset_id="mine"))


def with_slots(robot: Robot, *slots: str) -> Robot:
    """Its cameras filling these slots."""
    cameras = (replace(camera, slot=slot) for camera, slot in zip(robot.cameras, slots, strict=True))
    return replace(robot, cameras=tuple(cameras))


@pytest.mark.parametrize(
    ("folder", "robot", "message"),
    [
        ("pi0/checkpoint", lambda: None, "no robot file in it: say which robot it drives, with robot:=NAME"),
        (
            "pi0/checkpoint",
            lambda: renamed(load_robot("aloha")),
            "statistics of physical-intelligence/libero, trossen; robot 'aloha' has 'mine', which is not among them",
        ),
        ("pi0/checkpoint", lambda: load_robot("so101"), "robot 'so101' does not choose: write policy.asset_id there"),
        (
            "lerobot/pi0",
            lambda: load_robot("aloha"),
            "fills slot 'right_wrist_0_rgb' of robot 'aloha', the model has cam_high",
        ),
        (
            "lerobot/pi0",
            lambda: with_joints(lerobot_aloha(), action="absolute"),
            "the actions of none are relative, the checkpoint those of left_waist, .*: correct `action`",
        ),
        (
            "lerobot/pi0",
            lambda: with_slots(load_robot("franka_droid_position"), "cam_high", "cam_left_wrist"),
            "checkpoint has 14 actions, robot .* has 8",
        ),
    ],
)
def test_what_does_not_fit_is_one_clear_error(folder: str, robot: Callable[[], Robot | None], message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(REFERENCE / folder, robot=robot(), tokenizer=TOKENIZER, config=TINY)
    assert str(REFERENCE / folder) in str(caught.value)


def test_the_only_statistics_are_taken_but_not_in_silence(tmp_path, caplog) -> None:
    shutil.copytree(REFERENCE / "pi0" / "checkpoint" / "assets" / "trossen", tmp_path / "assets" / "mine")
    (tmp_path / "params").symlink_to(REFERENCE / "pi0" / "checkpoint" / "params")
    load_spec(tmp_path, robot=load_robot("aloha"), tokenizer=TOKENIZER)
    assert "only statistics are those of mine, robot 'aloha' asks for trossen" in caplog.text
    caplog.clear()
    load_spec(REFERENCE / "pi05" / "checkpoint", robot=load_robot("franka_droid"), tokenizer=TOKENIZER)
    assert not caplog.text


def test_sizes_that_a_released_checkpoint_does_not_tell_come_from_the_robot_file() -> None:
    """pi05_droid makes chunks of 15 actions, whatever pi0.5 does elsewhere; at the rate of DROID's data."""
    folder, vision = REFERENCE / "pi05" / "checkpoint", {"vision": {"num_heads": 4}}
    loaded = load_checkpoint(folder, robot=load_robot("franka_droid"), tokenizer=TOKENIZER, config=vision)
    assert (loaded.spec.config.action_horizon, loaded.spec.config.max_token_len, loaded.spec.fps) == (15, 200, 15.0)


def test_lerobots_pi05_keeps_the_state_in_its_prompt_on_the_robot_of_openpis() -> None:
    """libero.yaml says that openpi's pi05_libero has none; LeRobot's policies have no such choice."""
    description = describe(REFERENCE / "lerobot" / "pi05", load_robot("libero"), {"vision": {"num_heads": 4}})
    assert description.config.discrete_state_input
    description = describe(REFERENCE / "pi05" / "checkpoint", load_robot("libero"), {"vision": {"num_heads": 4}})
    assert not description.config.discrete_state_input


def test_without_tokenizer_the_error_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("PI0_TOKENIZER", "HF_HUB_CACHE"):
        monkeypatch.delenv(variable, raising=False)
    for variable in ("OPENPI_DATA_HOME", "HF_HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    with pytest.raises(CheckpointError, match="no tokenizer in the checkpoint, and none on this machine"):
        load_checkpoint(REFERENCE / "pi05" / "checkpoint", robot=load_robot("franka_droid"), config=TINY)
    monkeypatch.setenv("PI0_TOKENIZER", str(TOKENIZER))
    load_checkpoint(REFERENCE / "pi05" / "checkpoint", robot=load_robot("franka_droid"), config=TINY)


def test_the_spec_alone_reads_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """LeRobot's folder has no robot file: the description needs one, too."""
    spec = load_spec(REFERENCE / "lerobot" / "pi05", robot=load_robot("libero"), config=TINY)
    assert spec.config.cameras == ("base_0_rgb", "left_wrist_0_rgb", "empty_camera_0")
    assert spec.settings.image_resize == "torch"
