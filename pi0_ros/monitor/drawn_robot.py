"""A robot in the browser's scene: the shapes of its URDF, or sticks from joint to joint where none of them is found."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Set
from pathlib import Path

import numpy as np
import viser
import yourdfpy
from viser.extras import ViserUrdf

from pi0_ros.monitor.kinematics import UrdfError, parse_urdf
from pi0_ros.monitor.model import RobotModel

LARGER = 1.04
STICK, SHORTEST = 0.012, 0.02  # m: radius of a stick; shorter ones are left out
Colour = tuple[float, float, float, float]  # RGB of 255, and opacity


class DrawnRobot:
    """A URDF below the scene node `name`, of `links` only where they are given, in `colour` or its own colours."""

    def __init__(
        self,
        server: viser.ViserServer,
        name: str,
        urdf: str,
        folder: Path,
        links: Set[str] | None = None,
        colour: Colour | None = None,
    ) -> None:
        """`urdf`: XML text; meshes are looked for by their address, else beside `folder`."""
        self._root = server.scene.add_frame(name, show_axes=False)
        loaded = _loaded(urdf if links is None else drawn_links(urdf, links), folder)
        if links is not None:  # a little larger: where it stands inside another drawing of it, neither flickers
            shapes = loaded.scene.geometry
            for key, shape in list(shapes.items()):
                mesh = shape.to_mesh() if hasattr(shape, "to_mesh") else shape.copy()  # boxes and the like are fixed
                centre = mesh.bounds.mean(axis=0)
                mesh.vertices = centre + LARGER * (mesh.vertices - centre)
                shapes[key] = mesh
        self._robot = ViserUrdf(server, loaded, root_node_name=name, mesh_color_override=colour)
        self._joints = self._robot.get_actuated_joint_names()

    @property
    def visible(self) -> bool:
        """Whether it is shown."""
        return bool(self._root.visible)

    @visible.setter
    def visible(self, visible: bool) -> None:
        if self._root.visible != visible:
            self._root.visible = visible

    def move(self, positions: Mapping[str, float]) -> None:
        """Put the joints (URDF name -> rad or m) there; those without a position stand at zero."""
        self._robot.update_cfg(np.array([positions.get(joint, 0.0) for joint in self._joints]))

    def remove(self) -> None:
        """Take it out of the scene."""
        self._root.remove()


def with_shapes(urdf: str, folder: Path) -> tuple[str, bool]:
    """The URDF, and whether any of its shapes is found; with sticks where none is."""
    found = bool(_loaded(urdf, folder).scene.geometry)
    return (urdf if found else with_sticks(urdf)), found


def drawn_links(urdf: str, links: Set[str]) -> str:
    """The URDF with the shapes of `links` only."""
    robot = ElementTree.fromstring(urdf)
    for link in robot.findall("link"):
        for visual in link.findall("visual") if link.get("name") not in links else ():
            link.remove(visual)
    return ElementTree.tostring(robot, encoding="unicode")


def with_sticks(urdf: str) -> str:
    """The URDF with a stick from each link's origin to those of the links that hang on it, in place of its shapes."""
    robot = ElementTree.fromstring(urdf)
    links = {link.get("name"): link for link in robot.findall("link")}
    for link in links.values():
        for visual in link.findall("visual"):
            link.remove(visual)
    for joint in parse_urdf(urdf).joints:
        reach = joint.origin[:3, 3]
        length = float(np.linalg.norm(reach))
        if length < SHORTEST or joint.parent not in links:
            continue
        x, y, z = reach / length
        turn = f"0 {np.arctan2(np.hypot(x, y), z):.9g} {np.arctan2(y, x):.9g}"  # z of the cylinder along the reach
        visual = ElementTree.SubElement(links[joint.parent], "visual")
        ElementTree.SubElement(visual, "origin", xyz=" ".join(f"{value:.9g}" for value in reach / 2), rpy=turn)
        geometry = ElementTree.SubElement(visual, "geometry")
        ElementTree.SubElement(geometry, "cylinder", radius=f"{STICK}", length=f"{length:.9g}")
    return ElementTree.tostring(robot, encoding="unicode")


def seen_from(model: RobotModel) -> tuple[np.ndarray, np.ndarray]:
    """Where a camera of 45 degrees sees arms, foot and what lies before them, and where it looks, [3] each (m)."""
    urdf = model.urdf
    parent = {joint.child: joint.parent for joint in urdf.joints}
    shown = set(model.tips)  # and what leads there, not a camera's mast somewhere else
    for tip in model.tips:
        while tip in parent:
            tip = parent[tip]
            shown.add(tip)
    inside = {
        joint.name: (joint.lower + joint.upper) / 2
        if joint.kind == "prismatic"
        else float(np.clip(0.0, joint.lower, joint.upper))
        for joint in urdf.free_joints
    }
    places = np.array([pose[:3, 3] for link, pose in urdf.poses(inside).items() if link in shown])
    return seen_box(places.min(axis=0), places.max(axis=0))


def seen_box(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same of a box, by its lowest and highest corner [3] (m)."""
    radius = max(0.3, float(np.linalg.norm(high - low)) / 2)
    look_at = (low + high) / 2 + radius * np.array([0.2, 0.0, 0.0])
    away = np.array([0.76, -0.52, 0.39])
    return look_at + 3.3 * radius * away / np.linalg.norm(away), look_at


def _loaded(urdf: str, folder: Path) -> yourdfpy.URDF:
    def find(fname: str) -> str:  # called by keyword
        return _package_file(fname) or str(yourdfpy.filename_handler_magic(fname, dir=str(folder)))

    try:
        return yourdfpy.URDF.load(io.BytesIO(urdf.encode()), filename_handler=find)
    except Exception as error:  # whatever a reader of meshes raises: a drawing must not end the page with the stop
        raise UrdfError(f"not to be drawn: {type(error).__name__}: {error}") from error


def _package_file(name: str) -> str:
    """The file that `package://PACKAGE/PATH` means where ROS knows the package, else ""."""
    package, _, path = name.removeprefix("package://").partition("/")
    if not name.startswith("package://"):
        return ""
    try:
        from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
    except ModuleNotFoundError:  # of ROS, and not of its wheels
        return ""
    try:
        return str(Path(get_package_share_directory(package)) / path)
    except (PackageNotFoundError, OSError):  # no such package, or no ROS set up in this shell
        return ""
