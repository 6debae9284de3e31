"""Forward kinematics of a URDF: numpy and xml.etree only, vectorised over any number of configurations."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pi0_ros.base.errors import InputError

MOVING = ("revolute", "continuous", "prismatic")


class UrdfError(InputError):
    """A URDF that cannot be used; the message names the file and the joint or link."""


@dataclass(frozen=True)
class UrdfJoint:
    """One joint: `child` is at `origin`, moved by its position about or along `axis`, in the frame of `parent`."""

    name: str
    kind: str  # fixed | revolute | continuous | prismatic
    parent: str
    child: str
    origin: np.ndarray  # float64 [4, 4]
    axis: np.ndarray  # float64 [3], unit length
    lower: float  # rad or m; -inf where the file gives none
    upper: float
    mimic: tuple[str, float, float] | None  # position = multiplier * position(joint) + offset
    velocity: float = np.nan  # rad/s or m/s; NaN where the file gives none

    def motion(self, position: np.ndarray) -> np.ndarray:
        """Pose of the child after moving by `position` (rad or m, [...]), float64 [..., 4, 4]."""
        motion = np.broadcast_to(np.eye(4), (*position.shape, 4, 4)).copy()
        if self.kind == "prismatic":
            motion[..., :3, 3] = position[..., None] * self.axis
        elif self.kind != "fixed":
            motion[..., :3, :3] = rotation_about(self.axis, position)
        return motion


@dataclass(frozen=True)
class Urdf:
    """A kinematic tree; `joints` in an order in which every parent link is placed before its children."""

    name: str
    root: str
    joints: tuple[UrdfJoint, ...]

    @property
    def links(self) -> tuple[str, ...]:
        """Every link, the root first."""
        return (self.root, *(joint.child for joint in self.joints))

    @property
    def free_joints(self) -> tuple[UrdfJoint, ...]:
        """Joints that move by themselves: neither fixed nor mimicking another."""
        return tuple(joint for joint in self.joints if joint.kind in MOVING and joint.mimic is None)

    def poses(self, positions: Mapping[str, np.ndarray | float]) -> dict[str, np.ndarray]:
        """Pose of every link in the root's frame, float64 [..., 4, 4].

        `positions`: free joint -> rad or m, scalars or arrays that broadcast to [...]; other joints stand at zero.
        """
        shape = np.broadcast_shapes(*(np.shape(value) for value in positions.values()))
        values = {name: np.broadcast_to(np.asarray(value, np.float64), shape) for name, value in positions.items()}
        zero = np.zeros(shape)
        poses = {self.root: np.broadcast_to(np.eye(4), (*shape, 4, 4))}
        for joint in self.joints:
            name, multiplier, offset = joint.mimic or (joint.name, 1.0, 0.0)
            position = multiplier * values.get(name, zero) + offset
            poses[joint.child] = poses[joint.parent] @ joint.origin @ joint.motion(position)
        return poses


def parse_urdf(text: str | bytes, origin: str = "urdf") -> Urdf:
    """Read the joints of a URDF; `origin` (say, its path) begins every error message.

    Raises UrdfError for malformed XML, joints of other kinds than fixed, revolute, continuous and prismatic, mimicked
    joints that do not exist, loops, and more or less than one root link.
    """
    try:
        robot = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise UrdfError(f"{origin}: not XML: {error}") from error
    try:
        joints = [_joint(element) for element in robot.findall("joint")]
    except (UrdfError, ValueError) as error:
        raise UrdfError(f"{origin}: {error}") from error
    names = {joint.name for joint in joints if joint.kind in MOVING}
    for joint in joints:
        if joint.mimic is not None and joint.mimic[0] not in names:
            raise UrdfError(f"{origin}: joint {joint.name} mimics {joint.mimic[0]}, which is no moving joint")
    children = {joint.child for joint in joints}
    links = {element.get("name", "") for element in robot.findall("link")} | {joint.parent for joint in joints}
    roots = sorted(links - children)
    if len(roots) != 1 or len(children) != len(joints):
        raise UrdfError(f"{origin}: needs one root link and one parent for each other link, found roots {roots}")
    ordered: list[UrdfJoint] = []
    placed = {roots[0]}
    while ready := [joint for joint in joints if joint.parent in placed and joint.child not in placed]:
        ordered += ready
        placed |= {joint.child for joint in ready}
    if len(ordered) != len(joints):
        loose = sorted(children - placed)
        raise UrdfError(f"{origin}: links {', '.join(loose)} hang in a loop, not on {roots[0]}")
    return Urdf(robot.get("name", ""), roots[0], tuple(ordered))


def _joint(element: ElementTree.Element) -> UrdfJoint:
    name, kind = element.get("name", ""), element.get("type", "")
    if kind not in (*MOVING, "fixed"):
        raise UrdfError(f"joint {name} is of type {kind!r}, expected fixed, {', '.join(MOVING)}")
    ends = [element.find("parent"), element.find("child")]
    parent, child = ("" if end is None else end.get("link", "") for end in ends)
    if not parent or not child:
        raise UrdfError(f"joint {name} needs <parent link=...> and <child link=...>")
    pose = element.find("origin")
    origin = np.eye(4)
    if pose is not None:
        origin[:3, :3] = rotation_from_rpy(_numbers(pose.get("rpy"), (0, 0, 0)))
        origin[:3, 3] = _numbers(pose.get("xyz"), (0, 0, 0))
    direction = element.find("axis")
    axis = _numbers(None if direction is None else direction.get("xyz"), (1, 0, 0))
    length = float(np.linalg.norm(axis))
    if kind in MOVING and length == 0:
        raise UrdfError(f"joint {name} has an axis of length zero")
    limit, mimic = element.find("limit"), element.find("mimic")
    bounded = limit is not None and kind != "continuous"
    return UrdfJoint(
        name=name,
        kind=kind,
        parent=parent,
        child=child,
        origin=origin,
        axis=axis / (length or 1.0),
        lower=float(limit.get("lower", 0)) if limit is not None and bounded else -np.inf,
        upper=float(limit.get("upper", 0)) if limit is not None and bounded else np.inf,
        mimic=None
        if mimic is None
        else (mimic.get("joint", ""), float(mimic.get("multiplier", 1)), float(mimic.get("offset", 0))),
        velocity=float(limit.get("velocity", "nan")) if limit is not None else np.nan,
    )


def _numbers(text: str | None, default: tuple[float, float, float]) -> np.ndarray:
    values = np.array(default if text is None else [float(word) for word in text.split()], np.float64)
    if values.shape != (3,):
        raise UrdfError(f"{text!r} is not three numbers")
    return values


def rotation_about(axis: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Rotation by `angle` (rad, [...]) about the unit vector `axis` [3], float64 [..., 3, 3] (Rodrigues' formula)."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    sine, versine = np.sin(angle)[..., None, None], 1 - np.cos(angle)[..., None, None]
    return np.eye(3) + sine * cross + versine * (cross @ cross)


def rotation_from_rpy(rpy: np.ndarray) -> np.ndarray:
    """Rotation [3, 3] of URDF's fixed-axis roll, pitch, yaw [3] (rad): Rz(yaw) Ry(pitch) Rx(roll)."""
    roll, pitch, yaw = (rotation_about(axis, angle) for axis, angle in zip(np.eye(3), rpy))
    return yaw @ pitch @ roll


def quaternions(rotations: np.ndarray) -> np.ndarray:
    """Unit quaternions (x, y, z, w), w >= 0, of rotation matrices [..., 3, 3], float64 [..., 4].

    The eigenvector of the largest eigenvalue of Bar-Itzhack's symmetric 4x4 matrix: no branches, no division.
    """
    r = np.asarray(rotations, np.float64)
    matrix = np.zeros((*r.shape[:-2], 4, 4))
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        matrix[..., i, i] = r[..., i, i] - r[..., j, j] - r[..., k, k]
        matrix[..., i, j] = matrix[..., j, i] = r[..., i, j] + r[..., j, i]
        matrix[..., i, 3] = matrix[..., 3, i] = r[..., k, j] - r[..., j, k]
    matrix[..., 3, 3] = np.trace(r, axis1=-2, axis2=-1)
    quaternion = np.linalg.eigh(matrix)[1][..., -1]
    return quaternion * np.where(quaternion[..., 3:] < 0, -1.0, 1.0)
