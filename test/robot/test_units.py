"""How models count joints: shipped robot files against openpi's own transforms, and the way there and back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from policy_fixtures import FIXTURES

from pi0_ros.robot import Robot, load_robot
from pi0_ros.robot.units import Crank, Scale, actions_from_model, actions_to_model, state_to_model

GRIPPERS = [6, 13]
CLOSED, OPEN = 0.01844, 0.05800  # m, PUPPET_GRIPPER_POSITION of ALOHA: where its driver says 0 and 1
JOINT_CLOSED, JOINT_OPEN = -0.6213, 1.4910  # rad, PUPPET_GRIPPER_JOINT: where its commands say 0 and 1
SHIPPED = ("aloha", "aloha_act", "aloha_sim", "demo_arm", "franka_droid", "franka_droid_position", "libero_pi0", "ur5e")


@pytest.fixture(scope="module")
def reference() -> dict[str, np.ndarray]:
    return dict(np.load(FIXTURES / "reference" / "transforms.npz"))


def finger_of_place(normalized: np.ndarray) -> np.ndarray:
    """What ALOHA's driver measures, 0 .. 1 -> place of the finger, m."""
    return normalized * (OPEN - CLOSED) + CLOSED


def finger_of_joint(normalized: np.ndarray) -> np.ndarray:
    """What ALOHA's driver is commanded, 0 .. 1 -> angle of the crank -> place of the finger, m (interbotix_xs_sdk)."""
    angle = np.clip(normalized * (JOINT_OPEN - JOINT_CLOSED) + JOINT_CLOSED, -np.pi / 2, np.pi / 2)  # dead points
    horn, arm = 0.022, 0.036
    return horn * np.sin(angle) + np.sqrt(arm**2 - (horn * np.cos(angle)) ** 2)


def in_metres(values: np.ndarray, finger) -> np.ndarray:
    """openpi's ALOHA vectors with the fingers' places in m."""
    values = values.copy()
    values[..., GRIPPERS] = finger(values[..., GRIPPERS])
    return values


def absolute(robot: Robot) -> Robot:
    """The robot without the relative part, which has a test of its own."""
    return replace(robot, joints=tuple(replace(joint, action="absolute") for joint in robot.joints))


def test_alohas_constants_agree() -> None:
    assert finger_of_joint(np.array([0.0, 1.0])) == pytest.approx([CLOSED, OPEN], abs=2e-4)


def test_aloha_state_equals_the_reference(reference: dict[str, np.ndarray]) -> None:
    """aloha.yaml in rad and m, aloha_sim.yaml in the normalised units of the reference."""
    wanted = reference["aloha_state_pi"]
    metres = in_metres(reference["aloha_state_in"], finger_of_place)
    assert state_to_model(load_robot("aloha"), metres) == pytest.approx(wanted, abs=1e-9)
    assert state_to_model(load_robot("aloha_sim"), reference["aloha_state_in"]) == pytest.approx(wanted, abs=1e-9)


def test_aloha_grippers_over_their_whole_range(reference: dict[str, np.ndarray]) -> None:
    given, robot = reference["gripper_in"], load_robot("aloha_sim")
    scale = robot.joints[6].state_scale, robot.joints[6].action_scale
    assert scale[0].to_model(given) == pytest.approx(reference["gripper_state_to_pi"], abs=1e-9)
    assert scale[1].to_model(given) == pytest.approx(reference["gripper_action_to_pi"], abs=1e-9)
    assert scale[1].from_model(given) == pytest.approx(reference["gripper_action_from_pi"], abs=1e-9)


def test_aloha_actions_equal_the_reference(reference: dict[str, np.ndarray]) -> None:
    """Both ways: what a policy commands, and what it is trained on."""
    still, given = np.zeros(14), reference["aloha_actions_in"]
    simulated, real = (absolute(load_robot(name)) for name in ("aloha_sim", "aloha"))
    sent = reference["aloha_actions_out"]
    assert actions_from_model(simulated, given, still) == pytest.approx(sent, abs=1e-9)
    assert actions_to_model(simulated, given, still) == pytest.approx(reference["aloha_actions_train"], abs=1e-9)
    assert actions_from_model(real, given, still) == pytest.approx(in_metres(sent, finger_of_joint), abs=1e-9)


def test_fingers_are_closed_and_open_where_alohas_are() -> None:
    """The model's 0 is openpi's 0.5476 rad; fully closed and open commands reach both ends of the finger's way."""
    scale = load_robot("aloha").joints[6].action_scale
    closed, opened = (angle - 0.5476 for angle in (JOINT_CLOSED, JOINT_OPEN))
    assert scale.from_model(np.array([closed, opened])) == pytest.approx([CLOSED, OPEN], abs=2e-4)
    assert scale.from_model(np.array([1.6296 - 0.5476])) == pytest.approx([0.058], abs=1e-6)  # pi's own fully open


def test_the_reference_s_delta_actions(reference: dict[str, np.ndarray]) -> None:
    robot = load_robot("aloha")
    assert robot.relative_mask.tolist() == reference["delta_mask"].tolist()
    plain = tuple(replace(joint, state_scale=Scale(), action_scale=Scale()) for joint in robot.joints)
    robot, state = replace(robot, joints=plain), reference["delta_state"]
    relative = actions_to_model(robot, reference["delta_actions_abs"], state)
    np.testing.assert_allclose(relative, reference["delta_actions_rel"], rtol=1e-6)
    np.testing.assert_allclose(actions_from_model(robot, relative, state), reference["delta_roundtrip"], rtol=1e-6)


def test_lerobots_relative_actions() -> None:
    reference = np.load(FIXTURES / "reference" / "lerobot_transforms.npz")
    names = zip(load_robot("aloha_act").joints, reference["rel0_mask"])
    joints = tuple(
        replace(joint, action="relative" if relative else "absolute", state_scale=Scale(), action_scale=Scale())
        for joint, relative in names
    )
    robot, state = replace(load_robot("aloha_act"), joints=joints), reference["rel0_state"]
    relative = actions_to_model(robot, reference["rel0_abs"], state)
    np.testing.assert_allclose(relative, reference["rel0_rel"], atol=1e-6)
    np.testing.assert_allclose(actions_from_model(robot, relative, state), reference["rel0_abs"], atol=1e-6)


def test_droids_velocities_move_the_target_by_a_fifth_of_a_radian() -> None:
    """0.2 rad for an action of 1 (DROID's RobotIKSolver), held within -1 .. 1 as openpi's client does, step by step."""
    robot = load_robot("franka_droid")
    state = np.array([0.1, -0.6, 0.0, -2.5, 0.0, 1.9, 0.0, 0.2])
    actions = np.zeros((3, 8))
    actions[:, 0], actions[:, 3] = [0.5, -1.0, 3.0], [-0.25, 0.0, 0.5]
    actions[:, 7] = [0.49, 0.51, 1.2]
    found = actions_from_model(robot, actions, state)
    assert found[:, 0] == pytest.approx([0.2, 0.0, 0.2])
    assert found[:, 3] == pytest.approx([-2.55, -2.55, -2.45])
    assert found[:, [1, 2, 4, 5, 6]] == pytest.approx(np.tile(state[[1, 2, 4, 5, 6]], (3, 1)))
    assert found[:, 7] == pytest.approx([0.0, 0.8, 0.8])  # rad of the knuckle: open, closed, closed
    assert state_to_model(robot, state) == pytest.approx([*state[:7], 0.25])


def test_libero_sees_eight_values_and_moves_seven() -> None:
    robot, state = load_robot("libero_pi0"), np.arange(8.0)
    actions = np.full((2, 7), 0.5)
    assert state_to_model(robot, state).tolist() == state.tolist()
    assert actions_to_model(robot, actions, state)[0].tolist() == [0.5, -0.5, -1.5, -2.5, -3.5, -4.5, 0.5]
    assert actions_from_model(load_robot("libero"), actions, state).tolist() == actions.tolist()


@pytest.mark.parametrize("name", SHIPPED)
def test_what_was_sent_comes_back(name: str) -> None:
    """The way back to the model undoes the way to the robot, for batches, and the other way round."""
    robot, random = load_robot(name), np.random.default_rng(3)
    fraction = random.uniform(0.05, 0.95, (4, len(robot.joints)))
    inside = robot.lower + fraction * (robot.upper - robot.lower)
    state = inside[:, [joint.role != "action" for joint in robot.joints]]
    speeds = random.uniform(-0.4, 0.9, (4, 6, len(robot.action_names)))
    switches = np.array([joint.action_scale.threshold is not None for joint in robot.action_joints])
    model = np.where(switches, speeds > 0, speeds)
    sent = actions_from_model(robot, model, state)
    assert sent.shape == model.shape
    again = actions_to_model(robot, sent, state)
    np.testing.assert_allclose(again, model, atol=1e-9)
    np.testing.assert_allclose(actions_from_model(robot, again, state), sent, atol=1e-12)
    np.testing.assert_allclose(actions_to_model(robot, sent[2], state[2]), model[2], atol=1e-9)  # without a batch


def test_unknown_actions_stay_unknown() -> None:
    """Real-time chunking marks what nobody knows by NaN."""
    for name in ("aloha", "franka_droid"):
        robot = load_robot(name)
        rows = np.tile((robot.lower + robot.upper) / 2, (3, 1))
        rows[2] = np.nan
        found = actions_to_model(robot, rows, rows[0])
        assert np.isfinite(found[:2]).all() and np.isnan(found[2]).all()


def test_a_crank_goes_no_farther_than_it_can() -> None:
    crank = Crank(0.022, 0.036)
    assert crank.value(np.array([-9.0, 9.0])) == pytest.approx([0.014, 0.058])
    assert crank.angle(np.array([0.014, 0.058, 0.07])) == pytest.approx([-np.pi / 2, np.pi / 2, np.pi / 2], abs=1e-6)
