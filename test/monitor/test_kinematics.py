"""Forward kinematics against yourdfpy, and the match of a robot file with its URDF."""

from __future__ import annotations

import io

import numpy as np
import pytest

from pi0_ros.base.share import share_path
from pi0_ros.monitor.kinematics import UrdfError, parse_urdf, quaternions, rotation_about
from pi0_ros.monitor.model import robot_model
from pi0_ros.robot import Robot, load_robot

ARM = """
<robot name="small">
  <link name="base"/><link name="turret"/><link name="upper"/><link name="slide"/><link name="hand"/>
  <link name="left"/><link name="right"/><link name="grasp"/>
  <joint name="grasp_joint" type="fixed"><parent link="hand"/><child link="grasp"/><origin xyz="0 0 0.12"/></joint>
  <joint name="right_finger" type="prismatic"><parent link="hand"/><child link="right"/><origin xyz="0 -0.02 0"/>
    <axis xyz="0 -1 0"/><limit lower="0" upper="0.04" effort="1" velocity="1"/>
    <mimic joint="left_finger" multiplier="0.9" offset="0.001"/></joint>
  <joint name="left_finger" type="prismatic"><parent link="hand"/><child link="left"/><origin xyz="0 0.02 0"/>
    <axis xyz="0 1 0"/><limit lower="0" upper="0.04" effort="1" velocity="1"/></joint>
  <joint name="yaw" type="revolute"><parent link="base"/><child link="turret"/>
    <origin xyz="0.1 0.2 0.3" rpy="0.1 -0.2 0.3"/>
    <axis xyz="0 0 1"/><limit lower="-2" upper="2" effort="1" velocity="1"/></joint>
  <joint name="shoulder" type="continuous"><parent link="turret"/><child link="upper"/>
    <origin xyz="0 0 0.1" rpy="1 0 -0.5"/>
    <axis xyz="0 2 1"/></joint>
  <joint name="reach" type="prismatic"><parent link="upper"/><child link="slide"/><axis xyz="1 0 0"/>
    <limit lower="0" upper="0.3" effort="1" velocity="1"/></joint>
  <joint name="roll" type="revolute"><parent link="slide"/><child link="hand"/><origin xyz="0.05 0 0" rpy="0 1.57 0"/>
    <limit lower="-3" upper="3" effort="1" velocity="1"/></joint>
</robot>
"""


def small_robot() -> Robot:
    """A robot file's content for ARM: four arm joints in another order than the URDF's, and a gripper."""
    from dataclasses import replace

    demo = load_robot("demo_arm")
    by_name = {joint.name: joint for joint in demo.joints}
    reach = replace(by_name["elbow"], name="reach", unit="m", kind="prismatic")
    joints = (by_name["roll"], by_name["yaw"], reach, by_name["shoulder"], by_name["gripper"])
    return replace(demo, name="small", joints=joints)


def random_positions(urdf_joints: tuple[str, ...], count: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(1)
    return {name: generator.uniform(-1, 1, count) for name in urdf_joints}


def check_against_yourdfpy(text: str, ignore: tuple[str, ...] = ()) -> None:
    yourdfpy = pytest.importorskip("yourdfpy")
    urdf = parse_urdf(text)
    reference = yourdfpy.URDF.load(io.BytesIO(text.encode()), load_meshes=False, build_scene_graph=True)
    positions = random_positions(tuple(joint.name for joint in urdf.free_joints), 25)
    poses = urdf.poses(positions)
    for index in range(25):
        reference.update_cfg({name: values[index] for name, values in positions.items()})
        for link in set(urdf.links) - set(ignore):
            expected = reference.get_transform(link, urdf.root)
            np.testing.assert_allclose(poses[link][index], expected, atol=1e-9, err_msg=link)


def test_every_link_of_every_joint_kind_agrees_with_yourdfpy() -> None:
    check_against_yourdfpy(ARM)


def test_the_demo_arm_agrees_with_yourdfpy() -> None:
    robot = load_robot("demo_arm")
    assert robot.urdf is not None
    # Its axis is not of unit length, which ROS (KDL) normalises and yourdfpy does not.
    check_against_yourdfpy(share_path(robot.urdf).read_text(), ignore=("gripper_value",))


def test_scalars_batches_and_joints_at_zero() -> None:
    urdf = parse_urdf(ARM)
    assert [joint.name for joint in urdf.free_joints] == ["yaw", "shoulder", "reach", "roll", "left_finger"]
    assert urdf.root == "base" and len(urdf.links) == 8
    single = urdf.poses({"yaw": 0.3})["grasp"]
    batch = urdf.poses({"yaw": np.full((2, 3), 0.3), "roll": 0.0})["grasp"]
    assert single.shape == (4, 4) and batch.shape == (2, 3, 4, 4)
    np.testing.assert_allclose(batch[1, 2], single)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("<robot", "not XML"),
        (ARM.replace('type="continuous"', 'type="floating"'), "joint shoulder is of type 'floating'"),
        (ARM.replace('<child link="hand"/>', ""), "joint roll needs"),
        (ARM.replace('joint="left_finger" multiplier', 'joint="thumb" multiplier'), "right_finger mimics thumb"),
        (ARM.replace('<link name="base"/>', '<link name="base"/><link name="floor"/>'), r"roots \['base', 'floor'\]"),
        (ARM.replace('xyz="0 2 1"', 'xyz="0 2"'), "'0 2' is not three numbers"),
    ],
)
def test_a_wrong_urdf_is_refused_with_its_name(broken: str, message: str) -> None:
    with pytest.raises(UrdfError, match=f"arm.urdf: .*{message}"):
        parse_urdf(broken, "arm.urdf")


def test_quaternions_rotate_like_their_matrices() -> None:
    generator = np.random.default_rng(2)
    axes = generator.normal(size=(50, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    angles = generator.uniform(-np.pi, np.pi, 50)
    angles[:2] = 0.0, np.pi
    matrices = np.stack([rotation_about(axis, angle) for axis, angle in zip(axes, angles)])
    expected = np.concatenate([axes * np.sin(angles / 2)[:, None], np.cos(angles / 2)[:, None]], axis=1)
    found = quaternions(matrices)
    np.testing.assert_allclose(np.abs(np.sum(found * expected, axis=1)), 1.0, atol=1e-9)
    assert (found[:, 3] >= 0).all()


def test_the_robots_joints_are_found_by_name_and_the_gripper_between_its_limits() -> None:
    model = robot_model(small_robot(), parse_urdf(ARM))
    assert model.tips == ("grasp",)
    opened, closed = np.array([0.1, 0.2, 0.3, 0.4, 0.0]), np.array([0.1, 0.2, 0.3, 0.4, 1.0])
    positions = model.urdf_positions(np.stack([opened, closed]))
    assert list(positions) == ["roll", "yaw", "reach", "shoulder", "left_finger"]
    np.testing.assert_allclose(positions["left_finger"], [0.04, 0.0])
    np.testing.assert_allclose(positions["reach"], [0.3, 0.3])
    other = robot_model(small_robot(), parse_urdf(ARM), tips=["left"], closed_at="upper")
    np.testing.assert_allclose(other.urdf_positions(closed)["left_finger"], 0.04)
    path = model.tip_poses(np.stack([opened, closed]))["grasp"]
    assert path.shape == (2, 4, 4)
    np.testing.assert_allclose(path[0], path[1])


def test_a_gripper_joint_of_zero_to_one_takes_the_value_as_it_is() -> None:
    unit = ARM.replace('lower="0" upper="0.04"', 'lower="0" upper="1"').replace("left_finger", "gripper")
    positions = robot_model(small_robot(), parse_urdf(unit)).urdf_positions(np.array([0, 0, 0, 0, 0.25]))
    np.testing.assert_allclose(positions["gripper"], 0.25)


def test_unmatched_joints_and_tips_are_named() -> None:
    with pytest.raises(UrdfError, match="no free joint elbow, wrist.*it has yaw, shoulder, reach, roll, left_finger"):
        robot_model(load_robot("demo_arm"), parse_urdf(ARM))
    with pytest.raises(UrdfError, match="no link tool0; it has base"):
        robot_model(small_robot(), parse_urdf(ARM), tips=["tool0"])
