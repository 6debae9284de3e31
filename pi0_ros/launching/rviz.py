"""RViz's configuration for a robot: its base link, cameras and namespace in the shipped `config/pi0.rviz`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import yaml

from pi0_ros.robot import Robot

ROBOT_SPECIFIC = "Objects (simulated arm)"


def rviz_config(shipped: str, robot: Robot, root: str, namespace: str, resolve: Callable[[str], str]) -> str:
    """The text of a configuration.

    `root`: the URDF's root link; `resolve` gives a topic of the robot file the name that it has on the network.
    """
    document = yaml.safe_load(shipped)
    manager = document["Visualization Manager"]
    prefix = f"{namespace}/" if namespace else ""  # of frames
    manager["Global Options"]["Fixed Frame"] = f"{prefix}{root}"
    picture = next(display for display in manager["Displays"] if display["Class"].endswith("/Image"))
    displays = []
    for display in manager["Displays"]:
        if display["Class"].endswith("/Image") or (display["Name"] == ROBOT_SPECIFIC and robot.name != "demo_arm"):
            continue
        for key in ("Topic", "Description Topic"):
            if key in display:
                display[key]["Value"] = f"/{prefix}{display[key]['Value'].removeprefix('/')}"
        if "TF Prefix" in display:
            display["TF Prefix"] = f"{prefix}{display['TF Prefix']}".rstrip("/")
        displays.append(display)
    cameras: list[dict[str, Any]] = []
    for camera in robot.cameras:
        name = f"{camera.name.replace('_', ' ').capitalize()} camera"
        cameras.append({**picture, "Name": name, "Topic": {**picture["Topic"], "Value": resolve(camera.topic)}})
    manager["Displays"] = [*displays, *cameras]
    geometry = {name: value for name, value in document["Window Geometry"].items() if not name.endswith(" camera")}
    shown = {camera["Name"]: {"collapsed": False} for camera in cameras}
    document["Window Geometry"] = {**geometry, **shown}
    return yaml.safe_dump(document, sort_keys=False, width=120)
