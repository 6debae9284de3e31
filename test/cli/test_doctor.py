"""`pi0 doctor` names what is wrong and what to do, without and with a live robot."""

from __future__ import annotations

import numpy as np
import pytest

from pi0_ros.cli.doctor import layout
from pi0_ros.cli.main import main
from pi0_ros.doctor.checks import check_profile, check_topic
from pi0_ros.doctor.examination import examine
from pi0_ros.doctor.topic_report import TopicReport
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
    found = {name: next(f for f in examine(name, folder) if f.check == "checkpoint") for name in ("ur5e", "aloha")}
    assert "pi0, 5 actions of 0.050 s: a chunk lasts 0.25 s, the next comes after 0.50 s" in found["ur5e"].what
    assert found["aloha"].severity == "error" and "14 joints" in found["aloha"].what


def test_a_profile_that_does_not_exist_fails() -> None:
    robot = load_robot("demo_arm")
    assert check_profile(robot, {"FASTRTPS_DEFAULT_PROFILES_FILE": "/nowhere.xml"}).severity == "error"
    assert check_profile(robot, {"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}).severity == "ok"
    assert "FASTDDS_DEFAULT" in check_profile(robot, {"ROS_DISTRO": "kilted"}).what


def test_a_slow_or_old_stream_is_found() -> None:
    robot = load_robot("demo_arm")
    camera = robot.cameras[0]

    def report(period_s: float, age_s: float) -> TopicReport:
        times = list(np.arange(10) * period_s)
        return TopicReport(camera.topic, camera.type, (camera.type,), {"driver"}, arrivals=times, ages=[age_s] * 10)

    assert check_topic(robot, report(0.05, 0.01)).severity == "ok"
    assert check_topic(robot, report(0.5, 0.01)).severity == "warning"
    assert check_topic(robot, report(0.05, 1.0)).severity == "error"
    assert check_topic(robot, report(0.05, -0.5)).severity == "error"  # a stamp from the future
    other = TopicReport(camera.topic, camera.type, ("sensor_msgs/msg/CompressedImage",))
    assert "not sensor_msgs/msg/Image" in check_topic(robot, other).what


@pytest.mark.dds
def test_live_topics_of_the_simulator(processes, wait_until) -> None:
    pytest.importorskip("mujoco")
    from pi0_ros.nodes.topic_check import listen

    processes.node("sim_node")
    findings = list(examine("demo_arm", listen=lambda robot: listen(robot, 2.0)))
    levels = _levels(findings)
    text = "\n".join(map(layout, findings))
    assert levels["observation"] == "ok", text + processes.tail("sim_node")
    assert levels["/demo_arm/command"] == "ok", text
    assert "error" not in levels.values(), text
    processes.stop()
    findings = list(examine("demo_arm", listen=lambda robot: listen(robot, 0.5)))
    assert _levels(findings)["/demo_arm/joint_states"] == "error"


@pytest.mark.dds
def test_a_missing_camera_hides_no_other_topic(ros_context, monkeypatch) -> None:
    """The first topic of the file has no publisher; the others are looked at all the same."""
    from rclpy.node import Node
    from sensor_msgs.msg import JointState

    from pi0_ros.nodes import topic_check

    monkeypatch.setattr(topic_check, "DISCOVERY_LIMIT_S", 3.0)
    robot = load_robot("demo_arm")
    driver = Node("driver", context=ros_context)
    driver.create_publisher(JointState, robot.state[0].topic, 1)
    reports, problems = topic_check.listen(robot, 0.1)
    found = {report.topic: report.publishers for report in reports}
    assert found[robot.cameras[0].topic] == set() and found[robot.state[0].topic] == {"driver"}
    assert any(robot.cameras[0].topic in problem for problem in problems)
    driver.destroy_node()
