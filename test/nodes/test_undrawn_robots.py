"""Robots without a URDF in the monitor and the view: hands by poses are drawn in their frame, and the rest is named."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")
pytest.importorskip("viser")
from chunks import chunk_of  # noqa: E402
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion  # noqa: E402
from hand import FRAME, STATE, hand_robot, hand_text, path, vectors  # noqa: E402
from marked import points  # noqa: E402
from nav_msgs.msg import Path as PathMessage  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint  # noqa: E402
from visualization_msgs.msg import Marker, MarkerArray  # noqa: E402

from pi0_ros.monitor.hands import undrawn  # noqa: E402
from pi0_ros.nodes.messages import chunk_to_message, ns_to_stamp  # noqa: E402
from pi0_ros.nodes.monitor_node import MonitorNode  # noqa: E402
from pi0_ros.nodes.viewer_node import ViewerNode  # noqa: E402
from pi0_ros.robot import load_robot  # noqa: E402
from pi0_ros.robot.rotations import matrix  # noqa: E402

LIMIT_S = 30.0
ROTATIONS = ("rot6d", "quaternion")
SHIPPED = sorted(file.stem for file in (Path(__file__).parents[2] / "config" / "robots").glob("*.yaml"))


class Watched:
    """A monitor and a view of one robot, and a node that plays the robot."""

    def __init__(self, context: Any, robot: str) -> None:
        self.executor = SingleThreadedExecutor(context=context)
        named = Parameter("robot", value=robot)
        self.monitor = MonitorNode(context=context, parameter_overrides=[named])
        self.viewer = ViewerNode(context=context, parameter_overrides=[named, Parameter("port", value=18280)])
        self.desk = Node("desk", context=context)
        for node in (self.monitor, self.viewer, self.desk):
            self.executor.add_node(node)
        self.chunks = self.desk.create_publisher(JointTrajectory, "pi0/chunk", 1)
        self.commands = self.desk.create_publisher(JointTrajectory, "pi0/command", 1)
        self.hand = self.desk.create_publisher(PoseStamped, STATE, 10)
        self.gripper = self.desk.create_publisher(JointState, "/gripper/state", 10)
        self.markers: dict[str, Marker] = {}
        self.paths: list[PathMessage] = []
        self.desk.create_subscription(MarkerArray, "pi0/markers", self._heard, 10)
        self.desk.create_subscription(PathMessage, "pi0/path", self.paths.append, 10)

    def _heard(self, array: MarkerArray) -> None:
        self.markers = {marker.ns: marker for marker in array.markers if marker.action == Marker.ADD}

    def until(self, done: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not done():
            assert time.monotonic() < deadline, f"not within {LIMIT_S} s: {what}; markers {list(self.markers)}"
            self.executor.spin_once(timeout_sec=0.05)

    def close(self) -> None:
        self.executor.shutdown()
        self.viewer.close()
        for node in (self.monitor, self.viewer, self.desk):
            node.destroy_node()


@pytest.fixture
def watch(ros_context: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Watched]]:
    made: list[Watched] = []

    def make(robot: str) -> Watched:
        made.append(Watched(ros_context, robot))
        monkeypatch.setattr(made[-1].viewer.server, "get_clients", lambda: {0: None})
        return made[-1]

    yield make
    for watched in made:
        watched.close()


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_a_hand_by_poses_has_path_trail_target_and_axes_in_its_frame(
    watch: Callable[[str], Watched], tmp_path: Path, rotation: str
) -> None:
    (tmp_path / "hand.yaml").write_text(hand_text(rotation))
    robot, watched = hand_robot(rotation), watch(str(tmp_path / "hand.yaml"))
    place, turn = path(3, np.linspace(0.0, 4.0, 40))
    actions = vectors(robot, place, turn)
    where = Pose(
        position=Point(**dict(zip("xyz", place[0]))), orientation=Quaternion(**dict(zip("xyzw", turn[0].tolist())))
    )
    target = JointTrajectoryPoint(positions=actions[5].tolist())
    wanted = {"planned/hand", "planned/end/hand", "commanded/hand", "hand/hand"}

    def all_drawn() -> bool:
        now = watched.desk.get_clock().now().nanoseconds
        state = PoseStamped(pose=where)
        state.header.frame_id, state.header.stamp = FRAME, ns_to_stamp(now)
        watched.hand.publish(state)
        watched.commands.publish(JointTrajectory(joint_names=list(robot.joint_names), points=[target]))
        if "planned/hand" not in watched.markers:
            watched.chunks.publish(chunk_to_message(chunk_of(now * 1e-9, 0.1, actions, robot.joint_names)))
        return wanted <= watched.markers.keys() and "executed/hand" in watched.markers

    watched.until(all_drawn, "path, trail, target and axes, without a word of the gripper")
    assert {marker.header.frame_id for marker in watched.markers.values()} == {FRAME}
    np.testing.assert_allclose(points(watched.markers["planned/hand"])[-1], place[-1], atol=1e-6)
    sent = watched.markers["commanded/hand"].pose.position
    np.testing.assert_allclose([sent.x, sent.y, sent.z], place[5], atol=1e-9)
    for name, at in (("hand/hand", 0), ("planned/end/hand", -1)):
        drawn = points(watched.markers[name]).reshape(3, 2, 3)
        np.testing.assert_allclose(drawn[:, 0], np.tile(place[at], (3, 1)), atol=1e-6)
        axes = (drawn[:, 1] - drawn[:, 0]).T
        np.testing.assert_allclose(axes / np.linalg.norm(axes, axis=0), matrix(turn[at]), atol=1e-6)
    watched.until(lambda: watched.paths, "pi0/path")
    assert watched.paths[0].header.frame_id == FRAME
    scene = watched.viewer.server.scene
    for name in wanted:
        watched.until(lambda name=name: scene.get_handle_by_name(f"/markers/{name}/0"), f"{name} in the view")
    watched.until(lambda: "hand.x" in watched.viewer.panel._joints.content, "its place in numbers")
    assert robot.joint_names[3] not in watched.viewer.panel._joints.content, "numbers of a rotation say nothing"
    assert "only hands, as axes in the frame base_link" in watched.viewer.panel._undrawn_text.content


def test_a_robot_without_a_urdf_says_what_is_not_drawn_and_how_to_give_one(
    watch: Callable[[str], Watched], capfd: pytest.CaptureFixture[str]
) -> None:
    watched = watch("aloha")
    panel = watched.viewer.panel
    for said in (panel._undrawn_text.content, capfd.readouterr().err):
        assert "robot aloha has no URDF" in said and "robot_description" in said and "urdf: FILE.urdf" in said
    assert panel._undrawn.visible
    watched.until(lambda: panel._streams.content and panel._joints.content, "streams and joints all the same")


@pytest.mark.parametrize("robot", SHIPPED)
def test_of_every_shipped_robot_it_is_said_what_is_not_drawn(robot: str) -> None:
    """One line; nothing of a robot whose URDF draws all."""
    loaded = load_robot(robot)
    said = undrawn(loaded, drawn=loaded.urdf is not None)
    everything = loaded.urdf is not None and not loaded.speed_mask.any()
    assert bool(said) != everything and "\n" not in said
    for name in np.array(loaded.joint_names)[loaded.speed_mask]:
        assert name in said


def test_a_leap_begins_a_new_trail(ros_context: Any) -> None:
    """A new scene puts the arm elsewhere: no line leads there."""
    robot = load_robot("demo_arm")
    executor = SingleThreadedExecutor(context=ros_context)
    monitor = MonitorNode(context=ros_context, parameter_overrides=[Parameter("trail_s", value=60.0)])
    desk = Node("desk", context=ros_context)
    executor.add_node(monitor)
    executor.add_node(desk)
    states = desk.create_publisher(JointState, robot.state[0].topic, 10)
    heard: list[Any] = []
    desk.create_subscription(MarkerArray, "pi0/markers", heard.append, 10)
    home = np.array([0.3, 0.4, 1.0, 0.8, 0.1, 0.2])

    def trail(position: Callable[[], np.ndarray], until: Callable[[np.ndarray], bool], what: str) -> np.ndarray:
        deadline = time.monotonic() + LIMIT_S
        heard.clear()
        while True:
            assert time.monotonic() < deadline, what
            states.publish(JointState(name=list(robot.joint_names), position=position().tolist()))
            executor.spin_once(timeout_sec=0.02)
            lines = [m for array in heard for m in array.markers if m.ns.startswith("executed/") and m.points]
            if lines and until(points(lines[-1])):
                return points(lines[-1])

    began = time.monotonic()
    slowly = lambda: home + 0.2 * np.array([np.sin(time.monotonic() - began), 0, 0, 0, 0, 0])  # noqa: E731
    try:
        drawn = trail(slowly, lambda line: len(line) > 8, "a trail")
        here = drawn[-1]
        there = np.array([-1.2, 0.4, 1.0, 0.8, 0.1, 0.2])
        drawn = trail(lambda: there, lambda line: float(np.linalg.norm(line[-1] - here)) > 0.1, "the trail elsewhere")
        assert np.linalg.norm(np.diff(drawn, axis=0), axis=1).max() < 0.02, "no line from the old place to the new"
    finally:
        executor.shutdown()
        monitor.destroy_node()
        desk.destroy_node()
