"""The three-dimensional part of the browser view: robot, ghost and whatever comes as markers, in a viser scene."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import viser
from visualization_msgs.msg import Marker

from pi0_ros.monitor.drawn_robot import DrawnRobot, seen_box, seen_from, with_shapes
from pi0_ros.monitor.model import RobotModel

GHOST = (230, 0, 160, 0.22)  # RGB and opacity: the colour of the late end of the planned path
MIDDLE = (128, 132, 140)  # RGB of what must be seen on light and on dark ground
APART_M = 0.01  # nearer to its arm than that, a ghost is not drawn


class Scene:
    """Draws into a `viser.ViserServer`. Positions are in metres in the frame of the URDF's root link."""

    def __init__(self, server: viser.ViserServer) -> None:
        self._server = server
        self._robot: DrawnRobot | None = None
        self._ghosts: dict[str, DrawnRobot] = {}  # of each arm, by its tip
        self._ghosts_shown, self._apart = True, dict[str, float]()
        self._markers: dict[tuple[str, int], _Drawn] = {}
        self._hidden: set[str] = set()  # first parts of marker namespaces
        server.scene.set_up_direction("+z")
        server.scene.add_grid(
            "/floor",
            3.0,
            3.0,
            cell_size=0.1,
            cell_thickness=0.6,
            cell_color=MIDDLE,  # legible on light and on dark ground, and both are seen through it
            section_size=0.5,
            section_color=MIDDLE,
            section_thickness=1.4,
            plane_opacity=0.0,
            shadow_opacity=0.25,
            position=(0.0, 0.0, -0.001),
        )
        server.initial_camera.fov = float(np.deg2rad(45))

    def add_robot(self, model: RobotModel, text: str, folder: Path) -> bool:
        """Show the robot of a URDF (XML text) and a ghost of each arm, in place of one that was shown before.

        Meshes are looked for beside `folder`. Returns whether shapes were found; without, sticks are drawn.
        """
        text, found = with_shapes(text, folder)
        for old in (*self._ghosts.values(), *filter(None, [self._robot])):
            old.remove()
        self._robot = DrawnRobot(self._server, "/robot", text, folder)
        self._ghosts = {
            tip: DrawnRobot(self._server, f"/ghost/{tip}", text, folder, links, GHOST)
            for tip, links in model.arms().items()
        }
        self._place_ghosts()
        self._look(*seen_from(model))
        return found

    def look_into(self, room: np.ndarray) -> None:
        """Look at a box, by its lowest and highest corner [2, 3] (m)."""
        self._look(*seen_box(*room))

    def _look(self, position: np.ndarray, look_at: np.ndarray) -> None:
        camera = self._server.initial_camera
        camera.position, camera.look_at = position, look_at

    def move_robot(self, positions: Mapping[str, float]) -> None:
        """Put the robot's joints (URDF name -> rad or m) where they are."""
        if self._robot is not None:
            self._robot.move(positions)

    def move_ghosts(self, positions: Mapping[str, float], apart: Mapping[str, float]) -> None:
        """Put the ghosts' joints where they shall be; `apart`: m from each tip to its ghost. No positions: no plan."""
        self._apart = dict(apart) if positions else {}
        for ghost in self._ghosts.values() if positions else ():
            ghost.move(positions)
        self._place_ghosts()

    def show_ghost(self, visible: bool) -> None:
        """Show or hide the ghosts."""
        self._ghosts_shown = visible
        self._place_ghosts()

    def _place_ghosts(self) -> None:
        """A ghost that stands where its arm is would only tint it."""
        for tip, ghost in self._ghosts.items():
            ghost.visible = self._ghosts_shown and self._apart.get(tip, 0.0) > APART_M

    def show_namespace(self, namespace: str, visible: bool) -> None:
        """Show or hide the markers whose namespace is `namespace` or begins with `namespace/`."""
        self._hidden = self._hidden - {namespace} if visible else self._hidden | {namespace}
        for (name, _), drawn in self._markers.items():
            drawn.handle.visible = name.split("/")[0] not in self._hidden

    def draw(self, marker: Marker, now: float) -> None:
        """Add, change or delete what a marker says; `now` (s, any steady clock) starts its lifetime.

        Kinds without a counterpart here (arrows, meshes, texts) are left out.
        """
        key = (marker.ns, marker.id)
        if marker.action == Marker.DELETEALL:
            self._remove(list(self._markers))
        elif marker.action == Marker.DELETE:
            self._remove([key])
        elif marker.type in BUILDERS:
            drawn = self._markers.get(key)
            if drawn is None or drawn.shape != _shape(marker):
                self._remove([key])
                name = f"/markers/{marker.ns}/{marker.id}"
                handle = BUILDERS[marker.type](self._server.scene, name, marker)
                handle.visible = marker.ns.split("/")[0] not in self._hidden
                drawn = self._markers[key] = _Drawn(handle, _shape(marker))
            drawn.update(marker, now)

    def forget_expired(self, now: float) -> None:
        """Remove the markers whose lifetime is over."""
        self._remove([key for key, drawn in self._markers.items() if now > drawn.expires])

    def _remove(self, keys: list[tuple[str, int]]) -> None:
        for key in keys:
            if key in self._markers:
                self._markers.pop(key).handle.remove()


class _Drawn:
    """One marker in the scene."""

    def __init__(self, handle: Any, shape: tuple[Any, ...]) -> None:
        self.handle = handle
        self.shape = shape
        self.expires = np.inf
        self._pose: np.ndarray | None = None

    def update(self, marker: Marker, now: float) -> None:
        lifetime = marker.lifetime.sec + marker.lifetime.nanosec * 1e-9
        self.expires = now + lifetime if lifetime > 0 else np.inf
        position, turn = marker.pose.position, marker.pose.orientation
        pose = np.array([position.x, position.y, position.z, turn.w, turn.x, turn.y, turn.z])
        if self._pose is None or not np.allclose(pose, self._pose, rtol=0, atol=1e-5):
            self.handle.position, self.handle.wxyz = pose[:3], pose[3:] if pose[3:].any() else np.array([1.0, 0, 0, 0])
            self._pose = pose
        if marker.type in (Marker.LINE_STRIP, Marker.LINE_LIST):
            self.handle.points, self.handle.colors = _segments(marker)


def _shape(marker: Marker) -> tuple[Any, ...]:
    """What cannot be changed on a drawn marker: with another shape it is drawn anew."""
    scale, colour = marker.scale, marker.color
    return (marker.type, scale.x, scale.y, scale.z, colour.r, colour.g, colour.b, colour.a)


def _rgb(colour: Any) -> tuple[int, int, int]:
    red, green, blue = (int(round(255 * min(max(value, 0.0), 1.0))) for value in (colour.r, colour.g, colour.b))
    return red, green, blue


def _segments(marker: Marker) -> tuple[np.ndarray, np.ndarray]:
    """Points float32 [N, 2, 3] and colours uint8 [N, 2, 3] of a line marker.

    The browser's lines are opaque: the less alpha, the nearer to the grid's colour, on light and on dark ground.
    """
    points = np.array([[point.x, point.y, point.z] for point in marker.points], np.float32).reshape(-1, 3)
    given = marker.colors if len(marker.colors) == len(points) else [marker.color] * len(points)
    rgba = np.array([[colour.r, colour.g, colour.b, colour.a] for colour in given], np.float64).reshape(-1, 4)
    opacity = rgba[:, 3:]
    mixed = np.clip(rgba[:, :3] * opacity + np.array(MIDDLE) / 255 * (1 - opacity), 0, 1)
    colours = np.round(255 * as_light(mixed)).astype(np.uint8)
    if marker.type == Marker.LINE_STRIP:
        return np.stack([points[:-1], points[1:]], axis=1), np.stack([colours[:-1], colours[1:]], axis=1)
    even = len(points) // 2 * 2
    return points[:even].reshape(-1, 2, 3), colours[:even].reshape(-1, 2, 3)


def as_light(colours: np.ndarray) -> np.ndarray:
    """Colours (sRGB, 0 .. 1) as amounts of light: what the browser's lines take, which else come out pale."""
    return np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)


def _box(scene: viser.SceneApi, name: str, marker: Marker) -> Any:
    scale, colour = marker.scale, marker.color
    return scene.add_box(name, _rgb(colour), (scale.x, scale.y, scale.z), opacity=_opacity(colour))


def _cylinder(scene: viser.SceneApi, name: str, marker: Marker) -> Any:
    scale, colour = marker.scale, marker.color
    return scene.add_cylinder(name, scale.x / 2, scale.z, _rgb(colour), opacity=_opacity(colour))


def _sphere(scene: viser.SceneApi, name: str, marker: Marker) -> Any:
    return scene.add_icosphere(name, marker.scale.x / 2, _rgb(marker.color), opacity=_opacity(marker.color))


def _lines(scene: viser.SceneApi, name: str, marker: Marker) -> Any:
    points, colours = _segments(marker)
    return scene.add_line_segments(name, points, colours, thickness=marker.scale.x)


def _opacity(colour: Any) -> float | None:
    return None if colour.a >= 1.0 else float(colour.a)


BUILDERS: dict[int, Callable[[viser.SceneApi, str, Marker], Any]] = {
    Marker.CUBE: _box,
    Marker.CYLINDER: _cylinder,
    Marker.SPHERE: _sphere,
    Marker.LINE_STRIP: _lines,
    Marker.LINE_LIST: _lines,
}
