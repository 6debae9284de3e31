"""`pi0 robot new` listens to living drivers: its file passes `pi0 robot check` and `pi0 doctor --live`."""

from __future__ import annotations

from pathlib import Path

import pytest
from living_robots import ROBOTS, SEEN_HANDS, SERVO_STOPS_S, Living, living
from new_robots import ARM, ARM_JOINTS, DEGREES, SO101, SO101_JOINTS, Driven, driving
from spinning import spinning

from pi0_ros.cli.main import main
from pi0_ros.robot import Robot, load_robot
from pi0_ros.robot.message_types import POSE_ARRAY, TF

pytest.importorskip("rclpy")
from rclpy.node import Node
from sensor_msgs.msg import Joy

pytestmark = pytest.mark.dds


def is_the_so101(robot: Robot) -> None:
    """In degrees, with a roll joint that turns without end."""
    assert list(robot.joint_names) == SO101_JOINTS
    kinds = {joint.name: joint.kind for joint in robot.joints}
    assert kinds == dict.fromkeys(SO101_JOINTS, "revolute") | {"wrist_roll": "continuous", "gripper": "gripper"}
    assert {joint.unit for joint in robot.joints} == {"rad"} and robot.joints[1].lower == -1.75
    assert robot.state[0].scale == robot.commands[0].scale == pytest.approx([DEGREES] * 6)
    assert robot.commands[0].joints == tuple(SO101_JOINTS) and len(robot.commands) == 1
    assert {camera.name: camera.slot for camera in robot.cameras} == {"top": "base_0_rgb", "wrist": "left_wrist_0_rgb"}
    assert all(camera.frozen_s for camera in robot.cameras), "they have noise"


def is_the_arm(robot: Robot) -> None:
    """Two trajectory controllers that want plans; the mimicking finger is none of its joints."""
    assert list(robot.joint_names) == [*ARM_JOINTS, "finger_left"] and robot.name == "acme_arm"
    assert robot.joints[-1].kind == "gripper" and robot.joints[-1].unit == "m" and robot.joints[-1].upper == 0.04
    assert [(group.joints, group.points) for group in robot.commands] == [
        (tuple(ARM_JOINTS), "trajectory"),
        (("finger_left",), "trajectory"),
    ]
    topics = {camera.name: (camera.topic, camera.slot) for camera in robot.cameras}
    scene, hand = ("/scene/color/image_raw/compressed", "base_0_rgb"), ("/hand/image_raw", "left_wrist_0_rgb")
    assert topics == {"scene": scene, "hand": hand}


@pytest.mark.parametrize(("driven", "right"), [(SO101, is_the_so101), (ARM, is_the_arm)], ids=["so101", "arm"])
def test_a_file_for_living_drivers_passes_check_and_doctor(
    driven: Driven, right, tmp_path: Path, ros_context, ros_domain, monkeypatch, capsys
) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(ros_domain))
    file, shape = tmp_path / "new.yaml", tmp_path / "new.urdf"
    shape.write_text(driven.urdf)
    known = [] if driven.described else ["--urdf", str(shape)]
    with driving(ros_context, driven):
        assert main(["robot", "new", *known, "--seconds", "6", "--out", str(file)]) == 0, capsys.readouterr().err
        said = capsys.readouterr().out
        right(load_robot(file))
        assert main(["robot", "check", str(file)]) == 0
        reports = []
        while len(reports) < 3 and main(["doctor", "--robot", str(file), "--live", "--seconds", "3"]) != 0:
            reports.append(capsys.readouterr().out)  # a busy machine lets a picture be late now and then
        assert len(reports) < 3, reports[-1]
    text = file.read_text()
    assert text.count("# guessed: ") > 10 and "written:" in said
    assert main(["robot", "new", *known, "--seconds", "6", "--out", str(file)]) == 2
    assert "--overwrite" in capsys.readouterr().err and file.read_text() == text


def is_seen_by_transforms(robot: Robot) -> None:
    (hand,) = [item for item in robot.state if item.pose is not None]
    assert (hand.topic, hand.type, hand.child, robot.poses[0].frame) == ("/tf", TF, "tool0", "base_link")


def is_seen_in_an_array(robot: Robot) -> None:
    (hand,) = [item for item in robot.state if item.pose is not None]
    assert (hand.topic, hand.type, hand.index, robot.poses[0].frame) == ("/tracker/poses", POSE_ARRAY, 1, "base_link")


def is_servoed(robot: Robot) -> None:
    """Its arm is only seen; how long Servo waits it says itself."""
    hand = next(group for group in robot.commands if group.speeds)
    assert hand.names == ("linear.x", "linear.z", "angular.z") and hand.frame == "base_link"
    assert hand.max_age_s == SERVO_STOPS_S and robot.seen.joint_names == tuple(ARM_JOINTS)


@pytest.mark.parametrize(
    ("robot", "right"),
    [
        (SEEN_HANDS[TF], is_seen_by_transforms),
        (SEEN_HANDS[POSE_ARRAY], is_seen_in_an_array),
        (ROBOTS["servoed_hand"], is_servoed),
    ],
    ids=["tf", "array", "servoed"],
)
def test_a_file_for_a_living_hand_passes_check_and_doctor(
    robot: Living, right, tmp_path: Path, ros_context, ros_domain, message_package, monkeypatch, capsys
) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(ros_domain))
    message_package("tf2_msgs")
    file, shape = tmp_path / "new.yaml", tmp_path / "new.urdf"
    shape.write_text(robot.urdf)
    person = Node("person", context=ros_context)
    sticks = person.create_publisher(Joy, "/spacenav/joy", 10)
    person.create_timer(0.05, lambda: sticks.publish(Joy(axes=[0.0] * 6, buttons=[0, 0])))
    with living(ros_context, robot), spinning(ros_context, person):
        told = ["robot", "new", "--urdf", str(shape), "--seconds", "5", "--out", str(file)]
        assert main(told) == 0, capsys.readouterr().err
        right(load_robot(file))
        led = "twist" if robot.twists else "hand"
        assert f"#     - topic: /person/{led}  # joystick_node says it" in file.read_text()
        assert "-r joy:=/spacenav/joy" in file.read_text()
        assert main(["robot", "check", str(file)]) == 0
        reports: list[str] = []
        while len(reports) < 3 and main(["doctor", "--robot", str(file), "--live", "--seconds", "3"]) != 0:
            reports.append(capsys.readouterr().out)
        assert len(reports) < 3, reports[-1] + file.read_text()
    said = "stops 0.1 s after a command, as the robot file says" in capsys.readouterr().out
    assert said == bool(robot.twists), "Servo was asked"
