"""Layouts for other people's viewers: Foxglove (JSON) and PlotJuggler (XML), made for a robot.

Both plot what was sent beside what was measured. The sent ones are `pi0/command`, in the order of the robot file; the
measured ones are the monitor's `pi0/joint_states`, which exist where the robot has a URDF and are in its units: of a
normalized gripper, and of a speed, only what was sent is plotted.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from typing import Any

from pi0_ros.robot import Robot

PLOTS = 4  # below each other on one page
COMMANDED, MEASURED = "#d62728", "#1f77b4"
TREE = dict[str, Any]


def foxglove(robot: Robot, namespace: str = "") -> TREE:
    """A layout to import: 3D view, cameras, state, diagnostics, and a plot of every joint, four on a tab."""
    name = _names(namespace)
    panels: TREE = {
        "3D!pi0": {
            "topics": {name("pi0/markers"): {"visible": True}, name("pi0/path"): {"visible": False}},
            "layers": {
                "robot": {
                    "layerId": "foxglove.Urdf",
                    "instanceId": "robot",
                    "label": robot.name,
                    "sourceType": "topic",
                    "topic": name("robot_description"),
                    "visible": True,
                }
            },
        },
        "StateTransitions!pi0": {
            "isSynced": True,
            "paths": [_path(name("pi0/state") + ".data"), _path(name("pi0/in_charge") + ".data")],
        },
        "DiagnosticSummary!pi0": {"topicToRender": "/diagnostics", "minLevel": 0},
    }
    cameras = []
    for camera in robot.cameras:
        cameras.append(f"Image!{camera.name}")
        panels[cameras[-1]] = {
            "imageMode": {"imageTopic": name(camera.topic)},
            "foxglovePanelTitle": camera.name,
        }
    plots, measured_at = [], _measured(robot)
    for index, joint in enumerate(robot.action_joints):
        plots.append(f"Plot!{joint.name}")
        paths = [_path(name("pi0/command") + f".points[0].positions[{index}]", "sent", COMMANDED)]
        if (at := measured_at.get(joint.name)) is not None:
            paths.insert(0, _path(name("pi0/joint_states") + f".position[{at}]", "measured", MEASURED))
        panels[plots[-1]] = {
            "foxglovePanelTitle": f"{joint.name} ({joint.unit})",
            "paths": paths,
            "isSynced": True,
            "xAxisVal": "timestamp",
            "followingViewWidth": 20,
            "showLegend": True,
            "legendDisplay": "floating",
        }
    pages = [plots[first : first + PLOTS] for first in range(0, len(plots), PLOTS)]
    panels["Tab!joints"] = {
        "activeTabIdx": 0,
        "tabs": [{"title": _title(page), "layout": _split(page, "column")} for page in pages],
    }
    seen = _split(["3D!pi0", *([_split(cameras, "row")] if cameras else []), "StateTransitions!pi0"], "column")
    return {
        "configById": panels,
        "globalVariables": {},
        "userNodes": {},
        "playbackConfig": {"speed": 1},
        "layout": _split([seen, _split(["Tab!joints", "DiagnosticSummary!pi0"], "column", 75)], "row"),
    }


def plotjuggler(robot: Robot, namespace: str = "") -> str:
    """A layout to load: a plot of every joint, four on a tab."""
    name = _names(namespace)
    root = ElementTree.Element("root")
    window = ElementTree.SubElement(root, "tabbed_widget", {"name": "Main Window", "parent": "main_window"})
    joints, measured_at = list(enumerate(robot.action_joints)), _measured(robot)
    for first in range(0, len(joints), PLOTS):
        page = joints[first : first + PLOTS]
        tab = ElementTree.SubElement(window, "Tab", tab_name=_title([j.name for _, j in page]), containers="1")
        sizes = ";".join([f"{1 / len(page):.6f}"] * len(page))
        splitter = ElementTree.SubElement(
            ElementTree.SubElement(tab, "Container"), "DockSplitter", orientation="-", count=str(len(page)), sizes=sizes
        )
        for index, joint in page:
            area = ElementTree.SubElement(splitter, "DockArea", name=f"{joint.name} ({joint.unit})")
            plot = ElementTree.SubElement(
                area, "plot", mode="TimeSeries", style="Lines", flip_x="false", flip_y="false"
            )
            ElementTree.SubElement(plot, "limitY")
            if joint.name in measured_at:
                measured = f"{name('pi0/joint_states')}/{joint.name}/position"
                ElementTree.SubElement(plot, "curve", name=measured, color=MEASURED)
            sent = f"{name('pi0/command')}/points[0]/positions[{index}]"
            ElementTree.SubElement(plot, "curve", name=sent, color=COMMANDED)
    ElementTree.SubElement(window, "currentTabIndex", index="0")
    ElementTree.indent(root, " ")
    return "<?xml version='1.0' encoding='UTF-8'?>\n" + ElementTree.tostring(root, encoding="unicode") + "\n"


def _measured(robot: Robot) -> dict[str, int]:
    """Where the monitor's joint states hold each joint that is in the robot file's unit there; speeds are not."""
    if robot.urdf is None:
        return {}
    places = [joint for joint in robot.joints if not joint.speed]
    return {joint.name: at for at, joint in enumerate(places) if joint.unit != "normalized"}


def _names(namespace: str) -> Callable[[str], str]:
    """Topics as they are called in a namespace."""
    before = f"/{namespace.strip('/')}/" if namespace.strip("/") else "/"
    return lambda topic: topic if topic.startswith("/") else before + topic


def _path(value: str, label: str = "", color: str = "") -> TREE:
    path = {"value": value, "enabled": True, "timestampMethod": "receiveTime"}
    return path | ({"label": label, "color": color} if label else {})


def _title(names: Sequence[str]) -> str:
    first, last = (name.removeprefix("Plot!") for name in (names[0], names[-1]))
    return first if first == last else f"{first} to {last}"


def _split(parts: Sequence[Any], direction: str, first: float | None = None) -> Any:
    """Panels beside (`row`) or below each other (`column`), of equal size or the first one `first` per cent."""
    if len(parts) == 1:
        return parts[0]
    share = 100 / len(parts) if first is None else first
    rest = _split(parts[1:], direction)
    return {"direction": direction, "first": parts[0], "second": rest, "splitPercentage": round(share, 3)}
