"""The viewer over real DDS: what it hears is drawn, and its buttons reach policy, controller and recorder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")
pytest.importorskip("viser")
from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402
from geometry_msgs.msg import Vector3  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from sensor_msgs.msg import Image, JointState  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from std_srvs.srv import SetBool, Trigger  # noqa: E402
from visualization_msgs.msg import Marker, MarkerArray  # noqa: E402

from pi0_ros.base.share import share_path  # noqa: E402
from pi0_ros.nodes.messages import LATCHED, diagnostic_array, diagnostic_status  # noqa: E402
from pi0_ros.nodes.viewer_node import ViewerNode  # noqa: E402
from pi0_ros.robot import load_robot  # noqa: E402

ROBOT = load_robot("demo_arm")
LIMIT_S = 30.0
Until = Callable[[Callable[[], Any], str], None]


@pytest.fixture
def executor(ros_context: Any) -> Iterator[SingleThreadedExecutor]:
    executor = SingleThreadedExecutor(context=ros_context)
    yield executor
    executor.shutdown()


@pytest.fixture
def until(executor: SingleThreadedExecutor) -> Until:
    def spin_until(done: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not done():
            assert time.monotonic() < deadline, f"not within {LIMIT_S} s: {what}"
            executor.spin_once(timeout_sec=0.05)

    return spin_until


@pytest.fixture
def viewer(executor: SingleThreadedExecutor, monkeypatch: pytest.MonkeyPatch) -> Iterator[ViewerNode]:
    """A viewer that believes somebody looks."""
    overrides = [Parameter("port", value=18080)]
    viewer = ViewerNode(context=executor.context, parameter_overrides=overrides)
    monkeypatch.setattr(viewer.server, "get_clients", lambda: {0: None})
    executor.add_node(viewer)
    yield viewer
    viewer.close()
    viewer.destroy_node()


@pytest.fixture
def desk(executor: SingleThreadedExecutor) -> Iterator[Node]:
    """The node that plays everything else."""
    node = Node("desk", context=executor.context)
    executor.add_node(node)
    yield node
    node.destroy_node()


def test_what_it_hears_is_drawn(
    viewer: ViewerNode, desk: Node, until: Until, capsys: pytest.CaptureFixture[str]
) -> None:
    states = desk.create_publisher(JointState, ROBOT.state[0].topic, 10)
    cameras = [desk.create_publisher(Image, camera.topic, 2) for camera in ROBOT.cameras]
    markers = desk.create_publisher(MarkerArray, "/demo_arm/objects", 1)
    health = desk.create_publisher(type(diagnostic_array(desk.get_clock().now().to_msg(), [])), "/diagnostics", 10)
    until(lambda: all(p.get_subscription_count() for p in (states, markers, health, *cameras)), "viewer")
    states.publish(JointState(name=list(ROBOT.joint_names), position=[0.5, 0.2, 1.0, 0.5, 0.0, 0.5]))
    image = Image(height=96, width=96, encoding="rgb8", step=288)
    image.data.frombytes(np.full(96 * 96 * 3, 200, np.uint8))
    for camera in cameras:
        camera.publish(image)
    cube = Marker(ns="cube/red", type=Marker.CUBE, scale=Vector3(x=0.04, y=0.04, z=0.04))
    cube.header.frame_id = "base"
    stray = Marker(ns="stray", type=Marker.CUBE, scale=cube.scale)
    stray.header.frame_id = "world"
    markers.publish(MarkerArray(markers=[cube, stray]))
    status = diagnostic_status(
        "controller", DiagnosticStatus.WARN, "HOLDING: stale", {"state": "HOLDING", "in_charge": "nobody", "clamps": 3}
    )
    health.publish(diagnostic_array(desk.get_clock().now().to_msg(), [status]))
    scene = viewer.server.scene
    until(lambda: scene.get_handle_by_name("/markers/cube/red/0"), "cube")
    until(lambda: viewer.panel._images.image.shape == (192, 390, 3), "cameras")
    until(lambda: viewer._standing().state == "HOLDING", "state")
    assert viewer._standing().detail == "nobody in charge"
    assert scene.get_handle_by_name("/markers/stray/0") is None
    assert "<b>controller</b> (warning) HOLDING: stale (commands limited 3)" in viewer.panel._health.content
    until(lambda: "0.50 rad" in viewer.panel._joints.content, "the joints' places")
    until(lambda: "base" in viewer.panel._streams.content and " old" in viewer.panel._streams.content, "streams")
    assert "HOLDING" in viewer.panel._log_shown.content
    until(lambda: abs(scene.get_handle_by_name("/robot/visual/yaw_link").wxyz[3]) > 0.2, "the arm's turn")
    assert urlopen(f"http://127.0.0.1:{viewer.port}").status == 200


def test_the_drivers_robot_is_drawn_in_place_of_the_robot_files(viewer: ViewerNode, desk: Node, until: Until) -> None:
    description = desk.create_publisher(String, "robot_description", LATCHED)
    scene = viewer.server.scene
    assert scene.get_handle_by_name("/robot/visual/yaw_link") is not None
    description.publish(String(data="<robot/>"))  # cannot be drawn: the one before stays
    text = share_path(ROBOT.urdf or "").read_text().replace("yaw_link", "turret")
    description.publish(String(data=text))
    until(lambda: scene.get_handle_by_name("/robot/visual/turret"), "the driver's robot")
    assert scene.get_handle_by_name("/robot/visual/yaw_link") is None


def test_a_ghost_goes_when_no_plan_comes_any_more(viewer: ViewerNode, desk: Node, until: Until) -> None:
    states = desk.create_publisher(JointState, ROBOT.state[0].topic, 10)
    ghosts = desk.create_publisher(JointState, "pi0/ghost", 1)
    until(lambda: states.get_subscription_count() and ghosts.get_subscription_count(), "viewer")
    ghost = viewer.scene._ghosts["grasp_point"]
    names, here = list(ROBOT.joint_names), [0.5, 0.2, 1.0, 0.5, 0.0, 0.5]

    def shown() -> bool:
        states.publish(JointState(name=names, position=here))
        ghosts.publish(JointState(name=names, position=[0.9, *here[1:]]))
        return ghost.visible

    until(shown, "the ghost beside its arm")
    until(lambda: not ghost.visible, "its end")


def test_buttons_reach_policy_controller_and_recorder(viewer: ViewerNode, desk: Node, until: Until) -> None:
    heard: list[Any] = []

    def answer(request: Any, response: Any, name: str) -> Any:
        heard.append((name, getattr(request, "data", None)))
        response.success, response.message = True, f"{name} it is"
        return response

    switches, triggers = ("controller/arm", "controller/takeover"), ("controller/estop", "controller/reset")
    for name, kind in (*((name, SetBool) for name in switches), *((name, Trigger) for name in triggers)):
        desk.create_service(kind, name, lambda request, response, name=name: answer(request, response, name))
    for name in ("start", "stop", "discard"):
        desk.create_service(Trigger, f"recorder/{name}", lambda q, a, name=name: answer(q, a, f"recorder/{name}"))
    for topic in ("policy/prompt", "recorder/prompt", "recorder/outcome"):
        qos = LATCHED if topic == "policy/prompt" else 10
        desk.create_subscription(String, topic, lambda text, topic=topic: heard.append((topic, text.data)), qos)
    clients = (viewer._arm, viewer._takeover, *viewer._triggers.values())
    until(lambda: all(client.service_is_ready() for client in clients), "services")
    until(lambda: viewer._outcome.get_subscription_count() == 1, "recorder/outcome")
    until(lambda: all(p.get_subscription_count() for p in viewer._prompt_publishers), "prompt topics")

    pressed: list[tuple[Callable[..., None], tuple[Any, ...], set[tuple[str, Any]]]] = [
        (viewer.actions.instruct, (" wave ",), {("policy/prompt", "wave"), ("recorder/prompt", "wave")}),
        (viewer.actions.control, ("arm",), {("controller/arm", True)}),
        (viewer.actions.control, ("disarm",), {("controller/arm", False)}),
        (viewer.actions.control, ("take over",), {("controller/takeover", True)}),
        (viewer.actions.control, ("hand back",), {("controller/takeover", False)}),
        (viewer.actions.control, ("estop",), {("controller/estop", None)}),
        (viewer.actions.control, ("reset",), {("controller/reset", None)}),
        (viewer.actions.record, ("start",), {("recorder/start", None)}),
        (viewer.actions.record, ("failure",), {("recorder/outcome", "failure"), ("recorder/stop", None)}),
        (viewer.actions.record, ("discard",), {("recorder/discard", None)}),
    ]
    for action, arguments, expected in pressed:
        heard.clear()
        action(*arguments)
        until(lambda expected=expected: expected <= set(heard), f"{expected}, heard {heard}")
    until(lambda: "discard: done, recorder/discard it is" in viewer.panel._headline.content, "the answer")


def test_an_absent_service_is_named(viewer: ViewerNode, until: Until) -> None:
    viewer.actions.control("estop")
    until(lambda: "estop: nobody offers" in viewer.panel._headline.content, "notice")


def test_the_next_free_port_is_taken(viewer: ViewerNode) -> None:
    other = ViewerNode(context=viewer.context, parameter_overrides=[Parameter("port", value=viewer.port)])
    try:
        assert other.port > viewer.port
    finally:
        other.close()
        other.destroy_node()
