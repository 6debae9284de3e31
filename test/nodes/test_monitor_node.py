"""The monitor over real DDS: what RViz would be given to draw."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")
from chunks import chunk_of  # noqa: E402
from marked import points  # noqa: E402
from nav_msgs.msg import Path as PathMessage  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint  # noqa: E402
from visualization_msgs.msg import Marker, MarkerArray  # noqa: E402

from pi0_ros.control.chunk import ActionChunk  # noqa: E402
from pi0_ros.monitor.kinematics import parse_urdf  # noqa: E402
from pi0_ros.monitor.model import robot_model  # noqa: E402
from pi0_ros.nodes.messages import LATCHED, chunk_to_message, stamp_to_seconds  # noqa: E402
from pi0_ros.nodes.monitor_node import MonitorNode  # noqa: E402
from pi0_ros.robot import Robot, load_robot, robot_to_yaml  # noqa: E402

ROBOT = load_robot("demo_arm")
HOME = np.array([0.3, 0.4, 1.0, 0.8, 0.1, 0.2])
LIMIT_S = 30.0


def arm_urdf() -> str:
    """A URDF with the demo arm's joint names and a gripper that is open at 0.04 m."""
    joints, parent = [], "base"
    for name, axis in (
        ("yaw", "0 0 1"),
        ("shoulder", "0 1 0"),
        ("elbow", "0 1 0"),
        ("wrist", "0 1 0"),
        ("roll", "0 0 1"),
    ):
        joints.append(
            f'<joint name="{name}" type="revolute"><parent link="{parent}"/><child link="{name}_link"/>'
            f'<origin xyz="0 0 0.15"/><axis xyz="{axis}"/><limit lower="-3" upper="3" effort="1" velocity="1"/></joint>'
        )
        parent = f"{name}_link"
    joints.append(
        '<joint name="finger" type="prismatic"><parent link="roll_link"/><child link="finger_link"/><axis xyz="0 1 0"/>'
        '<limit lower="0" upper="0.04" effort="1" velocity="1"/></joint>'
    )
    links = "".join(f'<link name="{name}_link"/>' for name in ("yaw", "shoulder", "elbow", "wrist", "roll", "finger"))
    return f'<robot name="arm"><link name="base"/>{links}{"".join(joints)}</robot>'


MODEL = robot_model(ROBOT, parse_urdf(arm_urdf()))


class Desk:
    """A monitor, the topics that feed it, and the newest message of everything that it publishes."""

    def __init__(self, context: Any, parameters: dict[str, object]) -> None:
        self.executor = SingleThreadedExecutor(context=context)
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        self.monitor = MonitorNode(context=context, parameter_overrides=overrides)
        self.node = Node("desk", context=context)
        self.executor.add_node(self.monitor)
        self.executor.add_node(self.node)
        self.chunks = self.node.create_publisher(JointTrajectory, "pi0/chunk", 1)
        self.commands = self.node.create_publisher(JointTrajectory, "pi0/command", 1)
        self.states = self.node.create_publisher(JointState, ROBOT.state[0].topic, 10)
        self.received: dict[str, Any] = {}
        kinds = {"markers": MarkerArray, "path": PathMessage, "ghost": JointState, "joint_states": JointState}
        for name, kind in kinds.items():
            remember = lambda message, name=name: self.received.update({name: message})  # noqa: E731
            self.node.create_subscription(kind, f"pi0/{name}", remember, 10)
        self.until(lambda: self.states.get_subscription_count() and self.chunks.get_subscription_count(), "monitor")

    def until(self, done: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not done():
            assert time.monotonic() < deadline, f"not within {LIMIT_S} s: {what}"
            self.executor.spin_once(timeout_sec=0.05)

    def publish_state(self, position: np.ndarray) -> None:
        self.states.publish(JointState(name=list(ROBOT.joint_names)[::-1], position=position[::-1].tolist()))

    def publish_chunk(self, duration_s: float = 5.0) -> ActionChunk:
        now = self.node.get_clock().now().nanoseconds * 1e-9
        actions = HOME + np.linspace(0, 0.5, 20)[:, None] * np.array([1, 0.2, -0.3, 0.5, 0.1, 0.8])
        chunk = chunk_of(now, duration_s / 19, actions, ROBOT.joint_names)
        self.chunks.publish(chunk_to_message(chunk))
        return chunk

    def marker(self, namespace: str) -> Marker | None:
        """The newest marker of a namespace, None while there is none or it says delete."""
        found = [marker for marker in self.received.get("markers", MarkerArray()).markers if marker.ns == namespace]
        return found[0] if found and found[0].action == Marker.ADD else None

    def close(self) -> None:
        self.executor.shutdown()
        self.monitor.destroy_node()
        self.node.destroy_node()


@pytest.fixture
def desk(ros_context: Any, tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    """`desk(**parameters)`: a monitor of the demo arm with the URDF above."""
    (tmp_path / "arm.urdf").write_text(arm_urdf())
    desks: list[Desk] = []

    def make(**parameters: object) -> Desk:
        desks.append(Desk(ros_context, {"robot": "demo_arm", "urdf": str(tmp_path / "arm.urdf"), **parameters}))
        return desks[-1]

    yield make
    for made in desks:
        made.close()


def test_the_planned_path_ends_where_the_last_action_puts_the_tip(desk: Callable[..., Desk]) -> None:
    watched = desk()
    watched.until(lambda: watched.states.get_subscription_count() == 1, "state subscription")
    chunk = watched.publish_chunk()
    watched.until(lambda: watched.marker("planned/roll_link"), "planned path")
    watched.until(lambda: {"path", "ghost"} <= watched.received.keys(), "path and ghost")
    marker = watched.marker("planned/roll_link")
    assert marker is not None and marker.header.frame_id == "base" and marker.type == Marker.LINE_STRIP
    expected = MODEL.tip_poses(chunk.actions)["roll_link"]
    np.testing.assert_allclose(points(marker)[-1], expected[-1, :3, 3], atol=1e-9)
    assert 20 < len(marker.points) == len(marker.colors) <= 100  # smooth: more than the chunk has
    path = watched.received["path"]
    positions = [pose.pose.position for pose in path.poses]
    np.testing.assert_allclose([[p.x, p.y, p.z] for p in positions], expected[:, :3, 3], atol=1e-9)
    np.testing.assert_allclose([stamp_to_seconds(pose.header.stamp) for pose in path.poses], chunk.times, atol=1e-6)
    ghost = watched.received["ghost"]
    assert list(ghost.name) == ["yaw", "shoulder", "elbow", "wrist", "roll", "finger"]
    np.testing.assert_allclose(ghost.position[:5], chunk.actions[-1, :5], atol=1e-9)
    assert ghost.position[5] == pytest.approx(0.04 * (1 - chunk.actions[-1, 5]))


def test_the_planned_path_shrinks_and_goes_when_the_chunk_is_over(desk: Callable[..., Desk]) -> None:
    watched = desk()
    chunk = watched.publish_chunk(duration_s=1.5)
    watched.until(lambda: watched.marker("planned/roll_link"), "planned path")
    watched.until(lambda: watched.marker("planned/roll_link") is None, "its end")
    assert watched.node.get_clock().now().nanoseconds * 1e-9 >= chunk.end


def test_the_trail_shows_where_the_tip_was_and_the_ball_where_it_is_sent(desk: Callable[..., Desk]) -> None:
    watched = desk(trail_s=60.0)

    def moved() -> Any:
        watched.publish_state(HOME + 0.01 * len(getattr(watched.marker("executed/roll_link"), "points", [])))
        marker = watched.marker("executed/roll_link")
        return marker and len(marker.points) >= 5

    watched.until(moved, "trail")
    marker = watched.marker("executed/roll_link")
    assert marker is not None
    np.testing.assert_allclose(points(marker)[0], MODEL.tip_poses(HOME)["roll_link"][:3, 3], atol=1e-9)
    assert marker.colors[0].a < marker.colors[-1].a
    measured = watched.received["joint_states"]
    assert measured.name[-1] == "finger" and 0 <= measured.position[-1] <= 0.04
    point = JointTrajectoryPoint(positions=HOME.tolist())
    watched.commands.publish(JointTrajectory(joint_names=list(ROBOT.joint_names), points=[point]))
    watched.until(lambda: watched.marker("commanded/roll_link"), "commanded ball")


def test_messages_that_cannot_be_drawn_do_not_stop_it(desk: Callable[..., Desk]) -> None:
    watched = desk()
    watched.states.publish(JointState(name=["thumb"], position=[1.0]))
    nan = JointTrajectoryPoint(positions=[float("nan")] * 6)
    watched.chunks.publish(JointTrajectory(joint_names=list(ROBOT.joint_names), points=[nan, nan]))
    watched.commands.publish(JointTrajectory(joint_names=["thumb"], points=[nan]))
    cut = JointTrajectoryPoint(positions=[0.0])
    watched.commands.publish(JointTrajectory(joint_names=list(ROBOT.joint_names), points=[cut]))
    watched.until(lambda: "markers" in watched.received, "markers")
    assert watched.marker("planned/roll_link") is None
    watched.publish_chunk()
    watched.until(lambda: watched.marker("planned/roll_link"), "planned path of a good chunk")


def test_the_urdf_may_come_from_robot_description(desk: Callable[..., Desk], tmp_path: Path) -> None:
    (tmp_path / "bare.yaml").write_text(robot_to_yaml(without_urdf(ROBOT)))
    watched = desk(robot=str(tmp_path / "bare.yaml"), urdf="", ghost="sweep")
    description = watched.node.create_publisher(String, "/robot_description", LATCHED)
    description.publish(String(data="<robot/>"))
    description.publish(String(data=arm_urdf()))

    def swept() -> bool:
        ghosts.update(watched.received["ghost"].position[:1] if "ghost" in watched.received else [])
        return len(ghosts) > 3

    ghosts: set[float] = set()
    watched.until(lambda: watched.monitor.model is not None, "model")
    watched.publish_chunk()
    watched.until(swept, "a sweeping ghost")


def without_urdf(robot: Robot) -> Robot:
    return replace(robot, urdf=None)


def test_wrong_parameters_are_refused(ros_context: Any, tmp_path: Path) -> None:
    (tmp_path / "arm.urdf").write_text(arm_urdf())
    for name, value, message in (
        ("ghost", "dance", "parameter ghost is 'dance': it takes one of end, sweep"),
        ("tips", ["tool0"], "no link tool0"),
    ):
        overrides = [Parameter("urdf", value=str(tmp_path / "arm.urdf")), Parameter(name, value=value)]
        with pytest.raises(ValueError, match=message):
            MonitorNode(context=ros_context, parameter_overrides=overrides)


def test_each_arm_of_a_robot_has_its_own_path(ros_context: Any) -> None:
    robot = load_robot("mobile_bimanual")
    executor = SingleThreadedExecutor(context=ros_context)
    monitor = MonitorNode(context=ros_context, parameter_overrides=[Parameter("robot", value="mobile_bimanual")])
    node = Node("desk", context=ros_context)
    executor.add_node(monitor)
    executor.add_node(node)
    heard: list[Any] = []
    node.create_subscription(MarkerArray, "pi0/markers", heard.append, 10)
    chunks = node.create_publisher(JointTrajectory, "pi0/chunk", 1)
    middle = np.where(robot.speed_mask, 0.0, (robot.lower + robot.upper) / 2)
    actions = np.tile(middle, (40, 1))
    actions[:, robot.joint_names.index("left_elbow")] += np.linspace(0.0, 0.5, 40)
    paths: dict[str, np.ndarray] = {}
    deadline = time.monotonic() + LIMIT_S
    try:
        while len(paths) < 2:
            assert time.monotonic() < deadline, f"paths of {set(paths)}"
            chunks.publish(chunk_to_message(chunk_of(time.time(), 0.1, actions, robot.joint_names)))
            executor.spin_once(timeout_sec=0.1)
            lines = [m for array in heard for m in array.markers if m.ns.startswith("planned/") and m.points]
            paths = {line.ns: points(line) for line in lines}
    finally:
        executor.shutdown()
        monitor.destroy_node()
        node.destroy_node()
    left, right = (np.ptp(paths[f"planned/{side}_grasp_point"], axis=0).max() for side in ("left", "right"))
    assert left > 0.05 and right < 1e-9
