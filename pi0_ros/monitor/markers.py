"""Paths as standard messages: coloured line strips for RViz, `nav_msgs/Path`, and joint states of the ghost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion
from nav_msgs.msg import Path
from sensor_msgs.msg import JointState
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker

from pi0_ros.monitor.kinematics import quaternions

# RGBA along a line, evenly spaced stops, blended in between.
PLANNED = np.array(  # soon -> replaced by the next chunk -> what is seldom reached
    [[0.0, 0.9, 1.0, 1.0], [0.4, 0.3, 1.0, 1.0], [1.0, 0.0, 0.6, 0.45], [1.0, 0.0, 0.6, 0.25], [1.0, 0.0, 0.6, 0.1]]
)
EXECUTED = np.array([[1.0, 0.6, 0.0, 0.05], [1.0, 0.6, 0.0, 0.9]])  # long ago -> just now
COMMANDED = np.array([0.2, 0.75, 0.25, 0.9])  # green: legible on light and on dark ground

AXES = np.array([[0.85, 0.15, 0.15], [0.15, 0.65, 0.15], [0.2, 0.4, 0.95]])


def gradient(stops: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    """Colours [N, 4] at `fractions` [N] (0 .. 1) along the rows of `stops` [S, 4]."""
    places = np.linspace(0.0, 1.0, len(stops))
    return np.stack([np.interp(fractions, places, channel) for channel in stops.T], axis=1)


def line_strip(
    header: Header, namespace: str, points: np.ndarray, colours: np.ndarray, width: float, lifetime_s: float
) -> Marker:
    """A line through `points` [N, 3] (m) with one RGBA colour [N, 4] per point, `width` m thick.

    Fewer than two points delete the marker of that namespace, as RViz refuses such lines.
    """
    marker = _marker(header, namespace, Marker.LINE_STRIP, lifetime_s)
    if len(points) < 2:
        marker.action = Marker.DELETE
        return marker
    marker.scale.x = width
    marker.color.a = 1.0
    marker.points = [Point(x=x, y=y, z=z) for x, y, z in points.tolist()]
    marker.colors = [ColorRGBA(r=r, g=g, b=b, a=a) for r, g, b, a in colours.tolist()]
    return marker


def sphere(
    header: Header, namespace: str, centre: np.ndarray, colour: np.ndarray, diameter: float, lifetime_s: float
) -> Marker:
    """A ball at `centre` [3] (m) of RGBA `colour` [4]."""
    marker = _marker(header, namespace, Marker.SPHERE, lifetime_s)
    marker.pose.position = _point(centre)
    marker.scale.x = marker.scale.y = marker.scale.z = diameter
    marker.color.r, marker.color.g, marker.color.b, marker.color.a = colour.tolist()
    return marker


def axes(header: Header, namespace: str, pose: np.ndarray, length: float, opacity: float, lifetime_s: float) -> Marker:
    """The axes of a `pose` [4, 4]: x red, y green, z blue, each `length` m long."""
    marker = _marker(header, namespace, Marker.LINE_LIST, lifetime_s)
    marker.scale.x = length / 12
    marker.color.a = 1.0
    for axis, colour in zip(pose[:3, :3].T, AXES):
        r, g, b = colour.tolist()
        marker.points += [_point(pose[:3, 3]), _point(pose[:3, 3] + length * axis)]
        marker.colors += [ColorRGBA(r=r, g=g, b=b, a=opacity)] * 2
    return marker


def path_message(header: Header, poses: np.ndarray, stamps: Sequence[Time]) -> Path:
    """Poses [N, 4, 4] as a Path whose every pose carries its own time."""
    rotations = quaternions(poses[:, :3, :3]).tolist()
    stamped = []
    for pose, (x, y, z, w), stamp in zip(poses, rotations, stamps):
        orientation = Quaternion(x=x, y=y, z=z, w=w)
        message = PoseStamped(pose=Pose(position=_point(pose[:3, 3]), orientation=orientation))
        message.header.frame_id, message.header.stamp = header.frame_id, stamp
        stamped.append(message)
    return Path(header=header, poses=stamped)


def joint_state(stamp: Time, positions: Mapping[str, np.ndarray]) -> JointState:
    """One configuration (URDF joint -> rad or m) as a JointState."""
    message = JointState(name=list(positions), position=[float(value) for value in positions.values()])
    message.header.stamp = stamp
    return message


def _marker(header: Header, namespace: str, kind: int, lifetime_s: float) -> Marker:
    seconds, rest = divmod(lifetime_s, 1.0)
    lifetime = Duration(sec=int(seconds), nanosec=int(rest * 1e9))
    marker = Marker(header=header, ns=namespace, id=0, type=kind, action=Marker.ADD, lifetime=lifetime)
    marker.pose.orientation.w = 1.0
    return marker


def _point(position: np.ndarray) -> Point:
    x, y, z = position.tolist()
    return Point(x=x, y=y, z=z)
