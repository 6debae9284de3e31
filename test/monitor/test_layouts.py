"""Layouts for Foxglove and PlotJuggler: every panel has a place, every topic is one of our nodes or of the robot."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pi0_ros.base.share import share_path
from pi0_ros.cli.main import main
from pi0_ros.monitor.kinematics import parse_urdf
from pi0_ros.monitor.layouts import foxglove, plotjuggler
from pi0_ros.monitor.model import robot_model
from pi0_ros.robot import load_robot

ROBOTS = ("demo_arm", "aloha", "ur5e")
REFERENCE = Path(__file__).parents[2] / "docs" / "reference.md"


def leaves(layout: Any) -> Iterator[str]:
    if isinstance(layout, str):
        yield layout
    else:
        assert 0 < layout["splitPercentage"] < 100 and layout["direction"] in ("row", "column")
        yield from leaves(layout["first"])
        yield from leaves(layout["second"])


def strings(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield key
            yield from strings(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from strings(value)
    elif isinstance(tree, str):
        yield tree


@pytest.mark.parametrize("name", ROBOTS)
def test_foxglove_shows_each_panel_once_and_knows_its_topics(name: str) -> None:
    robot = load_robot(name)
    layout = foxglove(robot, "left")
    shown = list(leaves(layout["layout"]))
    for tab in layout["configById"]["Tab!joints"]["tabs"]:
        shown += leaves(tab["layout"])
    assert sorted(shown) == sorted(layout["configById"])
    topics = {re.split(r"[.\[]", text)[0] for text in strings(layout) if text.startswith("/")}
    ours = {f"/left/{topic}" for topic in re.findall(r"`(pi0/\w+)`", REFERENCE.read_text("utf8"))}
    own = {topic if topic.startswith("/") else f"/left/{topic}" for topic in robot.topics}
    assert topics <= ours | own | {"/diagnostics", "/left/robot_description"}
    assert {camera.topic for camera in robot.cameras if camera.topic.startswith("/")} <= topics
    for index, joint in enumerate(robot.joints):
        paths = layout["configById"][f"Plot!{joint.name}"]["paths"]
        assert paths[-1]["value"] == f"/left/pi0/command.points[0].positions[{index}]"


def test_measured_joints_are_where_the_monitor_puts_them() -> None:
    robot = load_robot("demo_arm")
    assert robot.urdf is not None
    path = share_path() / robot.urdf
    order = [joint.name for joint in robot_model(robot, parse_urdf(path.read_text("utf8"), str(path))).joints]
    panels = foxglove(robot)["configById"]
    for joint in robot.joints:
        paths = [path["value"] for path in panels[f"Plot!{joint.name}"]["paths"]]
        if joint.unit == "normalized":
            assert len(paths) == 1  # the monitor gives it in the URDF's unit
        else:
            assert paths[0] == f"/pi0/joint_states.position[{order.index(joint.name)}]"


def test_a_base_before_the_arm_moves_no_joint_to_another_s_curve() -> None:
    arm, mobile = load_robot("demo_arm"), load_robot("mobile_bimanual")
    speed = next(joint for joint in mobile.joints if joint.speed)
    panels = foxglove(replace(arm, joints=(speed, *arm.joints)))["configById"]
    first = panels[f"Plot!{arm.joints[0].name}"]["paths"]
    assert [path["value"] for path in first] == [
        "/pi0/joint_states.position[0]",
        "/pi0/command.points[0].positions[1]",
    ]
    assert len(panels[f"Plot!{speed.name}"]["paths"]) == 1


@pytest.mark.parametrize("name", ROBOTS)
def test_plotjuggler_has_a_curve_for_every_joint(name: str) -> None:
    robot = load_robot(name)
    root = ElementTree.fromstring(plotjuggler(robot))
    curves = [curve.get("name", "") for curve in root.iter("curve")]
    sent = [curve for curve in curves if curve.startswith("/pi0/command/")]
    assert sent == [f"/pi0/command/points[0]/positions[{index}]" for index in range(len(robot.joints))]
    for splitter in root.iter("DockSplitter"):
        assert splitter.get("count") == str(len(splitter)) == str(len((splitter.get("sizes") or "").split(";")))


def test_the_command_writes_both_and_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for viewer, name in (("foxglove", "a.json"), ("plotjuggler", "a.xml")):
        out = tmp_path / name
        assert main(["layout", viewer, "--robot", "demo_arm", "--out", str(out)]) == 0
        assert main(["layout", viewer, "--robot", "demo_arm", "--out", str(out)]) == 2
        assert "exists" in capsys.readouterr().err
    assert json.loads((tmp_path / "a.json").read_text())["layout"]
    with pytest.raises(SystemExit, match="2"):
        main(["layout", "foxglove", "--robot", "demo_arm", "--namespace", "left arm"])
    assert "--namespace: 'left arm'" in capsys.readouterr().err
