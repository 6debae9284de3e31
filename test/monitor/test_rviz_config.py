"""config/pi0.rviz names topics, frames and displays that exist: RViz itself is not needed to know."""

from __future__ import annotations

import yaml

from pi0_ros.base.share import config_path, share_path
from pi0_ros.monitor.kinematics import parse_urdf
from pi0_ros.robot import load_robot

# What the monitor node, the simulated arm and robot_state_publisher publish.
PUBLISHED = {"/pi0/markers", "/pi0/path", "/demo_arm/objects", "/robot_description"}


def test_every_topic_and_the_fixed_frame_exist() -> None:
    robot = load_robot("demo_arm")
    manager = yaml.safe_load(config_path("pi0.rviz").read_text())["Visualization Manager"]
    displays = manager["Displays"]
    topics = {d[key]["Value"] for d in displays for key in ("Topic", "Description Topic") if key in d}
    assert topics == PUBLISHED | {camera.topic for camera in robot.cameras}
    assert robot.urdf is not None
    assert manager["Global Options"]["Fixed Frame"] == parse_urdf(share_path(robot.urdf).read_text()).root
    kinds = [display["Class"].removeprefix("rviz_default_plugins/") for display in displays]
    assert sorted(set(kinds)) == ["Grid", "Image", "MarkerArray", "Path", "RobotModel"]
    assert [display.get("TF Prefix") for display in displays if display["Class"].endswith("RobotModel")] == [
        "",
        "ghost",
    ]
