"""A robot with two arms in the view: each has its own path, its own ghost, its own gripper."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

viser = pytest.importorskip("viser")
yourdfpy = pytest.importorskip("yourdfpy")
pytest.importorskip("visualization_msgs")

from pi0_ros.base.share import share_path  # noqa: E402
from pi0_ros.monitor.drawn_robot import drawn_links, seen_from, with_shapes, with_sticks  # noqa: E402
from pi0_ros.monitor.kinematics import parse_urdf  # noqa: E402
from pi0_ros.monitor.model import robot_model  # noqa: E402
from pi0_ros.monitor.scene import Scene  # noqa: E402
from pi0_ros.robot import load_robot  # noqa: E402

ROBOT = load_robot("mobile_bimanual")
PATH = share_path(ROBOT.urdf or "")
TEXT = PATH.read_text()
MODEL = robot_model(ROBOT, parse_urdf(TEXT))
LEFT, RIGHT = "left_grasp_point", "right_grasp_point"


@pytest.fixture
def scene() -> Iterator[Any]:
    server = viser.ViserServer(host="127.0.0.1", port=18081, verbose=False)
    made = Scene(server)
    made.add_robot(MODEL, TEXT, PATH.parent)
    yield made
    server.stop()


def test_each_arm_has_a_tip_and_the_links_that_move_with_it_alone() -> None:
    assert MODEL.tips == (LEFT, RIGHT) and not MODEL.unmatched
    arms = MODEL.arms()
    for side, tip in (("left", LEFT), ("right", RIGHT)):
        assert all(link.startswith(side) for link in arms[tip])
        assert {f"{side}_shoulder", f"{side}_hand", f"{side}_finger", f"{side}_other_finger"} <= arms[tip]
    one = robot_model(load_robot("demo_arm"), parse_urdf(share_path("config/robots/demo_arm.urdf").read_text()))
    ((tip, links),) = one.arms().items()
    assert tip == "grasp_point" and {"yaw_link", "hand", "left_finger_link"} <= links and "base" not in links


def test_an_arms_tip_moves_by_its_own_joints_and_by_those_below_both() -> None:
    middle = np.where(ROBOT.speed_mask, 0.0, (ROBOT.lower + ROBOT.upper) / 2)
    rows = {name: middle.copy() for name in ("still", "left_elbow", "lift", "base_forward")}
    for name in ("left_elbow", "lift", "base_forward"):
        rows[name][ROBOT.joint_names.index(name)] += 0.2
    poses = MODEL.tip_poses(np.array(list(rows.values())))
    left, right = (poses[tip][:, :3, 3] - poses[tip][0, :3, 3] for tip in (LEFT, RIGHT))
    assert np.linalg.norm(left[1]) > 0.02 and not right[1].any()
    np.testing.assert_allclose([left[2], right[2]], [[0, 0, 0.2]] * 2, atol=1e-9)
    assert not left[3].any() and not right[3].any()


@pytest.mark.parametrize("closed_at", ["lower", "upper"])
def test_grippers_that_the_urdf_calls_otherwise_are_found_on_their_arms(closed_at: str) -> None:
    called = TEXT.replace('"left_gripper"', '"left_finger_joint"').replace('"right_gripper"', '"right_finger_joint"')
    model = robot_model(ROBOT, parse_urdf(called), closed_at=closed_at)
    closed = np.where(ROBOT.speed_mask, 0.0, ROBOT.upper)
    closed[ROBOT.joint_names.index("right_gripper")] = 0.0
    found = model.urdf_positions(closed)
    ends = (0.0, 0.04) if closed_at == "lower" else (0.04, 0.0)
    np.testing.assert_allclose([found["left_finger_joint"], found["right_finger_joint"]], ends)


def test_a_gripper_that_is_not_found_keeps_nobody_from_seeing_the_path() -> None:
    lost = TEXT.replace('"left_gripper" type="prismatic"', '"left_gripper" type="fixed"')
    lost = lost.replace('<mimic joint="left_gripper"/>', "")
    lost = lost.replace('"left_other_finger_joint" type="prismatic"', '"left_other_finger_joint" type="fixed"')
    model = robot_model(ROBOT, parse_urdf(lost))
    assert model.unmatched == ("left_gripper",) and model.tips == (LEFT, RIGHT)


def test_each_arm_has_a_ghost_that_shows_where_its_chunk_ends_and_hides_where_it_is(scene: Scene) -> None:
    ghosts = scene._ghosts
    assert set(ghosts) == {LEFT, RIGHT} and not any(ghost.visible for ghost in ghosts.values())
    scene.move_ghosts({"left_elbow": 0.5}, {LEFT: 0.2, RIGHT: 0.001})
    assert ghosts[LEFT].visible and not ghosts[RIGHT].visible
    scene.move_ghosts({"left_elbow": 0.5}, {LEFT: 0.2, RIGHT: 0.2})
    assert ghosts[RIGHT].visible
    scene.show_ghost(False)
    assert not any(ghost.visible for ghost in ghosts.values())
    scene.show_ghost(True)
    scene.move_ghosts({}, {LEFT: 0.2, RIGHT: 0.2})  # no plan any more
    assert not any(ghost.visible for ghost in ghosts.values())


def shapes(urdf: str) -> set[str]:
    """Links with a shape."""
    graph = yourdfpy.URDF.load(io.BytesIO(urdf.encode())).scene.graph
    return {str(graph.transforms.parents[name]) for name in graph.nodes_geometry}


def test_a_ghost_is_drawn_without_what_it_shares_with_the_other_arm() -> None:
    assert shapes(TEXT) > {"base_link", "torso", "left_hand", "right_hand"}
    arm = shapes(drawn_links(TEXT, MODEL.arms()[LEFT]))
    assert "left_hand" in arm and all(link.startswith("left") for link in arm)


def test_a_robot_whose_shapes_are_nowhere_is_drawn_as_sticks(tmp_path: Path) -> None:
    """As of a driver whose meshes lie on another machine."""
    root = ElementTree.fromstring(TEXT)
    for visual in root.iter("visual"):
        for geometry in visual.findall("geometry"):
            geometry.clear()
            ElementTree.SubElement(geometry, "mesh", filename="package://nowhere/arm.stl")
    lost = ElementTree.tostring(root, encoding="unicode")
    text, found = with_shapes(lost, tmp_path)
    assert not found and shapes(text) >= {"left_upper_arm", "right_forearm", "torso"}
    assert with_shapes(TEXT, tmp_path) == (TEXT, True)
    sticks = yourdfpy.URDF.load(io.BytesIO(with_sticks(TEXT).encode()))
    reaches = {joint.parent: joint.origin[:3, 3] for joint in parse_urdf(TEXT).joints if joint.name == "left_elbow"}
    name = next(n for n in sticks.scene.graph.nodes_geometry if sticks.scene.graph.transforms.parents[n] in reaches)
    place, geometry = sticks.scene.graph.get(name, "left_upper_arm")
    bounds = (place[:3, :3] @ sticks.scene.geometry[geometry].bounds.T).T + place[:3, 3]
    np.testing.assert_allclose(np.abs(bounds).max(axis=0)[0], reaches["left_upper_arm"][0], atol=1e-6)


@pytest.mark.parametrize("name", ["demo_arm", "mobile_bimanual"])
def test_the_camera_sees_the_whole_robot(name: str) -> None:
    robot = load_robot(name)
    model = robot_model(robot, parse_urdf(share_path(robot.urdf or "").read_text()))
    eye, look_at = seen_from(model)
    ahead = (look_at - eye) / np.linalg.norm(look_at - eye)
    assert np.linalg.norm(look_at - eye) < {"demo_arm": 1.2, "mobile_bimanual": 2.2}[name], "and it is not far away"
    for pose in model.tip_poses(np.where(robot.speed_mask, 0.0, (robot.lower + robot.upper) / 2)).values():
        way = pose[:3, 3] - eye
        angle = np.degrees(np.arccos(way @ ahead / np.linalg.norm(way)))
        assert angle < 22.5, "half of the field of view"


def test_a_robot_file_with_a_urdf_lies_within_it() -> None:
    """The shipped pair: every joint of the file has its counterpart, with the same limits."""
    by_name = {joint.name: joint for joint in parse_urdf(TEXT).free_joints}
    for joint in ROBOT.joints:
        if joint.kind in ("revolute", "prismatic"):
            assert (by_name[joint.name].lower, by_name[joint.name].upper) == (joint.lower, joint.upper), joint.name
