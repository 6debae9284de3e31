"""`pi0 doctor` names what is wrong and what to do, without and with a live robot."""

from __future__ import annotations

import html
import json
from typing import Any

import numpy as np
import pytest
from bagmaker import Recipe, make_bag

from pi0_ros.cli.doctor import layout
from pi0_ros.cli.main import main
from pi0_ros.doctor.examination import check_session, examine
from pi0_ros.doctor.machine import check_profile
from pi0_ros.robot import load_robot


def _levels(findings) -> dict[str, str]:
    return {finding.check: finding.severity for finding in findings}


def test_a_wrong_robot_ends_the_examination(capsys) -> None:
    assert main(["doctor", "--robot", "nobodys_arm"]) == 1
    printed = capsys.readouterr().out
    assert "nobodys_arm" in printed
    assert "demo_arm" in printed  # what there is instead


def test_the_shipped_robot_passes(monkeypatch) -> None:
    monkeypatch.delenv("FASTRTPS_DEFAULT_PROFILES_FILE", raising=False)
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    findings = list(examine("demo_arm"))
    assert "error" not in _levels(findings).values()
    assert _levels(findings)["image transport"] == "warning"  # raw images and no profile
    assert all(finding.todo for finding in findings if finding.severity == "warning")
    assert "-> " in layout(next(finding for finding in findings if finding.todo))


def test_a_missing_checkpoint_fails(tmp_path) -> None:
    pytest.importorskip("torch")
    found = next(f for f in examine("demo_arm", tmp_path / "nothing") if f.check == "checkpoint")
    assert found.severity == "error"
    assert "there is no such checkpoint" in found.what


def test_a_checkpoint_without_robot_file_is_for_the_robot_at_hand(tmp_path) -> None:
    """As those of LeRobot and openpi; whether it fits is told without the weights being read."""
    pytest.importorskip("torch")
    from policy_fixtures import tiny_checkpoint

    folder = tiny_checkpoint(tmp_path / "foreign", load_robot("ur5e"))
    (folder / "robot.yaml").unlink()
    found = {name: next(f for f in examine(name, folder) if f.severity == "error") for name in ("ur5e", "aloha")}
    assert "pi0, 5 actions of 0.050 s: a chunk lasts 0.25 s, the next comes after 0.50 s" in found["ur5e"].what
    assert found["aloha"].severity == "error" and "14 joints" in found["aloha"].what


def test_a_profile_that_does_not_exist_fails() -> None:
    robot = load_robot("demo_arm")
    assert check_profile(robot, {"FASTRTPS_DEFAULT_PROFILES_FILE": "/nowhere.xml"}).severity == "error"
    assert check_profile(robot, {"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}).severity == "ok"
    assert "FASTDDS_DEFAULT" in check_profile(robot, {"ROS_DISTRO": "kilted"}).what


def test_a_recording_is_looked_at_as_if_it_were_live(tmp_path, capsys) -> None:
    """What is right about it is said, what is wrong stands in the JSON with evidence and remedy."""
    robot = load_robot("demo_arm")

    scenes = np.random.default_rng(0).integers(0, 255, (2, 12, 12, 3), np.uint8).repeat(8, axis=1).repeat(8, axis=2)

    def seen(topic: str, t_s: float, message: Any) -> Any:
        for camera, scene in zip(robot.cameras, scenes, strict=True):
            if topic == camera.topic:
                message.data[:] = np.roll(scene, int(20 * t_s), axis=0).reshape(-1)
        return message

    def in_degrees(topic: str, t_s: float, message: Any) -> Any:
        message = seen(topic, t_s, message)
        if topic == robot.state[0].topic:
            message.position[1:] = np.degrees(message.position[1:])  # the first is the gripper
        return message

    right = make_bag(tmp_path / "right", robot, Recipe(change=seen))
    wrong = make_bag(tmp_path / "wrong", robot, Recipe(change=in_degrees))
    assert main(["doctor", "--bag", str(right), "--robot", "demo_arm", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "passed"
    assert main(["doctor", "--bag", str(wrong), "--robot", "demo_arm", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    errors = [finding for finding in report["findings"] if finding["severity"] == "error"]
    assert report["verdict"] == "refused" and [finding["check"] for finding in errors] == ["units"], errors
    assert "degrees" in errors[0]["what"] and "scale: 57.29578" in errors[0]["todo"]
    page = tmp_path / "doctor.html"
    assert main(["doctor", "--bag", str(wrong), "--robot", "demo_arm", "--html", str(page)]) == 1
    shown = html.unescape(page.read_text())
    for finding in errors:
        assert finding["what"] in shown and finding["todo"] in shown
    assert "1 must be mended first." in shown and "1 must be mended first." in capsys.readouterr().out
    for nowhere in (tmp_path / "nowhere" / "doctor.html", tmp_path):
        assert main(["doctor", "--bag", str(right), "--html", str(nowhere)]) == 2
        assert "--html" in capsys.readouterr().err
    assert main(["doctor", "--bag", str(right)]) == 1
    assert "holds no robot file" in capsys.readouterr().out


def test_the_last_line_says_no_more_than_was_looked_at(capsys) -> None:
    assert main(["doctor", "--robot", "demo_arm"]) == 0
    assert "topics were not looked at: --live or --bag" in capsys.readouterr().out


@pytest.mark.dds
def test_live_topics_of_the_simulator(processes) -> None:
    pytest.importorskip("mujoco")
    from pi0_ros.nodes.topic_check import listen

    processes.node("sim_node")
    findings = list(examine("demo_arm", listen=lambda robot: listen(robot, 2.0, discovery_s=20.0)))
    levels = _levels(findings)
    text = "\n".join(map(layout, findings))
    assert levels["observation"] == "ok", text + processes.tail("sim_node")
    assert levels["/demo_arm/command"] == "ok", text
    assert "error" not in levels.values(), text
    processes.stop()
    findings = list(examine("demo_arm", listen=lambda robot: listen(robot, 0.3, discovery_s=0.2)))
    assert "error" in (_levels(findings).get("domain"), _levels(findings).get("/demo_arm/joint_states"))


@pytest.mark.dds
def test_what_the_graph_shows_is_named(ros_context) -> None:
    """A missing camera hides no other topic; a second publisher; a driver that asks for what we do not offer."""
    from rclpy.node import Node
    from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import JointState
    from spinning import spinning
    from trajectory_msgs.msg import JointTrajectory

    from pi0_ros.nodes import topic_check

    robot = load_robot("demo_arm")
    state, command = robot.state[0].topic, robot.commands[0].topic
    demanding = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    nodes = [Node(name, context=ros_context) for name in ("driver", "controller", "teleop")]
    nodes[0].create_publisher(JointState, state, 1)
    nodes[0].create_subscription(JointTrajectory, command, lambda message: None, demanding)
    for node in nodes[1:]:
        node.create_publisher(JointTrajectory, command, 1)
    nodes[0].declare_parameter("joints", list(robot.joint_names[:-1]))
    with spinning(ros_context, nodes[0]):  # it answers what its parameters are
        session = topic_check.listen(robot, 4.0, discovery_s=4.0)
    found = {(finding.check, finding.severity): finding.what for finding in check_session(session)}
    assert found[robot.cameras[0].topic, "error"] == "no publisher", found
    assert found[state, "error"] == "a publisher, but no message"
    assert "is also sent by /teleop" in found["publishers", "error"]
    assert "/driver hears nothing of" in found["qos", "error"] and "TRANSIENT_LOCAL" in found["qos", "error"]
    assert "/driver has no joint gripper" in found["controller", "error"], found
    for node in nodes[1:]:
        node.destroy_node()
