"""What the network gets of LIBERO's pictures and state is what openpi's client and server make of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from policy_fixtures import TOKENIZER, tiny_config, tiny_stats

from pi0_ros.benchmark.seat import Seat, with_lerobot_slots
from pi0_ros.checkpoints.settings import PolicySettings
from pi0_ros.checkpoints.spec import PolicySpec
from pi0_ros.policy.transforms import make_inputs
from pi0_ros.robot import load_robot
from pi0_ros.tokens.tokenizer import Tokenizer

STATS = replace(tiny_stats(8), actions=tiny_stats(7).actions)


def raw(seed: int) -> dict[str, np.ndarray]:
    """What LIBERO shows, of noise; the hand turned by more than half a turn in some."""
    random = np.random.default_rng(seed)
    quaternion = random.normal(size=4)
    pictures = random.integers(0, 256, (2, 256, 256, 3), np.uint8)
    return {
        "agentview_image": pictures[0],
        "robot0_eye_in_hand_image": pictures[1],
        "robot0_eef_pos": random.normal(size=3),
        "robot0_eef_quat": quaternion / np.linalg.norm(quaternion),
        "robot0_gripper_qpos": random.uniform(-0.04, 0.04, 2),
    }


def openpis_picture(picture: np.ndarray) -> np.ndarray:
    """openpi's client turns and resizes by Pillow, its model counts from -1 to 1: float [224, 224, 3]."""
    turned = np.rot90(picture, 2)
    small = Image.fromarray(np.ascontiguousarray(turned)).resize((224, 224), Image.Resampling.BILINEAR)
    return np.asarray(small).astype(np.float32) / 255.0 * 2.0 - 1.0


def openpis_state(seen: dict[str, np.ndarray]) -> np.ndarray:
    """robosuite's quat2axisangle, then openpi's Normalize."""
    x, y, z, w = seen["robot0_eef_quat"]
    angle = 2.0 * np.arccos(np.clip(w, -1, 1))
    turn = np.array([x, y, z]) * angle / np.sqrt(1 - w * w)
    state = np.array([*seen["robot0_eef_pos"], *turn, *seen["robot0_gripper_qpos"]])
    return (state - STATS.state.mean) / (STATS.state.std + 1e-6)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("robot_name", ["libero", "libero_pi0"])
def test_the_network_sees_what_openpis_would(seed: int, robot_name: str) -> None:
    robot, config = load_robot(robot_name), tiny_config()
    config = replace(config, vision=replace(config.vision, image_size=224, patch_size=14))
    spec = PolicySpec(config, PolicySettings("mean_std", "mean_std", fps=10.0), robot, STATS, Tokenizer.load(TOKENIZER))
    shown = raw(seed)
    seen = Seat(robot).observe(shown, "open the drawer", 0)
    inputs = make_inputs(spec, {name: one[None] for name, one in seen.images.items()}, seen.state[None], [seen.prompt])
    for slot, key in (("base_0_rgb", "agentview_image"), ("left_wrist_0_rgb", "robot0_eye_in_hand_image")):
        np.testing.assert_allclose(inputs.images[slot][0].numpy(), openpis_picture(shown[key]), atol=1e-6)
    np.testing.assert_allclose(inputs.state[0].numpy(), openpis_state(shown), rtol=1e-5, atol=1e-5)


def test_lerobots_slots_mean_the_same_cameras() -> None:
    robot, shown = load_robot("libero"), raw(0)
    ours, theirs = (Seat(one).observe(shown, "", 0).images for one in (robot, with_lerobot_slots(robot)))
    assert [camera.slot for camera in with_lerobot_slots(robot).cameras] == ["image", "image2"]
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name])
