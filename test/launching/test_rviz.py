"""What a launch with `rviz:=true` starts: the driver's description before the robot file's, none published twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from pi0_ros.base.errors import InputError
from pi0_ros.launching import launches
from pi0_ros.robot import load_robot, robot_to_yaml

DRIVERS = """<robot name="drivers"><link name="foot"/><link name="arm"/>
<joint name="yaw" type="revolute"><parent link="foot"/><child link="arm"/><axis xyz="0 0 1"/>
<limit lower="-3" upper="3" effort="1" velocity="1"/></joint></robot>"""


def commands(given: dict[str, str], description: str = "") -> dict[str, launches.Command]:
    words = {"robot": "demo_arm", "rviz": "true", **given}
    return {c.name: c for c in launches.resolve(launches.find("monitor"), words, description)}


def config(command: launches.Command) -> dict:
    return yaml.safe_load(Path(command.options[1]).read_text())["Visualization Manager"]


def topics(manager: dict) -> set[str]:
    return {d[key]["Value"] for d in manager["Displays"] for key in ("Topic", "Description Topic") if key in d}


@pytest.fixture
def bare_robot(tmp_path: Path) -> Path:
    """Another robot: no URDF, one camera on a relative topic, one on an absolute one."""
    robot = load_robot("demo_arm")
    first, second = robot.cameras
    cameras = (replace(first, name="top_view", topic="cameras/top"), replace(second, name="hand", topic="/hand/image"))
    path = tmp_path / "bare.yaml"
    path.write_text(robot_to_yaml(replace(robot, name="bare", urdf=None, cameras=cameras)))
    return path


def test_the_robot_files_urdf_is_published_where_no_driver_does() -> None:
    found = commands({})
    assert "<robot name=" in found["robot_state_publisher"].parameters["robot_description"]
    assert "<robot name=" in found["ghost_state_publisher"].parameters["robot_description"]
    assert config(found["rviz2"])["Global Options"]["Fixed Frame"] == "base"
    assert "rviz2" not in {c.name for c in launches.resolve(launches.find("monitor"), {"robot": "demo_arm"})}


def test_the_drivers_description_is_used_and_not_published_again() -> None:
    found = commands({"namespace": "left"}, DRIVERS)
    assert "robot_state_publisher" not in found
    assert found["ghost_state_publisher"].parameters["robot_description"] == DRIVERS
    assert found["ghost_state_publisher"].parameters["frame_prefix"] == "left/ghost/"
    assert found["ghost_base"].options == ("--frame-id", "left/foot", "--child-frame-id", "left/ghost/foot")
    manager = config(found["rviz2"])
    assert manager["Global Options"]["Fixed Frame"] == "left/foot"
    models = [display["TF Prefix"] for display in manager["Displays"] if display["Class"].endswith("RobotModel")]
    assert models == ["left", "left/ghost"]
    assert all(topic.startswith("/left/") for topic in topics(manager)), topics(manager)


def test_a_robot_without_urdf_has_markers_and_its_own_cameras(bare_robot: Path) -> None:
    found = commands({"robot": str(bare_robot), "namespace": "left"})
    assert not {"robot_state_publisher", "ghost_state_publisher", "ghost_base"} & found.keys()
    manager = config(found["rviz2"])
    assert {"/left/cameras/top", "/hand/image", "/left/pi0/markers"} <= topics(manager)
    assert not any("demo_arm" in topic for topic in topics(manager))
    assert {"Top view camera", "Hand camera"} <= {display["Name"] for display in manager["Displays"]}
    assert "ghost_state_publisher" in commands({"robot": str(bare_robot)}, DRIVERS)


def test_a_configuration_of_ones_own(tmp_path: Path) -> None:
    own = tmp_path / "own.rviz"
    own.write_text("Panels: []\n")
    assert commands({"rviz_config": str(own)})["rviz2"].options == ("-d", str(own))
    with pytest.raises(InputError, match=r"rviz_config:=/nowhere.rviz: there is no such file"):
        commands({"rviz_config": "/nowhere.rviz"})
