"""One recording, two ways: over DDS into the real policy process, and through the converter. Equal observations."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bagmaker import (
    START_NS,
    TYPES,
    Recipe,
    array_message,
    header,
    joint_message,
    make_bag,
    odometry_message,
    pose_message,
    poses_message,
    state_at,
    transforms_message,
    twist_message,
    unsure_pose_message,
)
from hand import COMMAND, FRAME, STAMPED, STATE, hand_robot, path
from seen_poses import SEEN
from servoed_arm import SERVOED
from video import COMPRESSED, encoded

from pi0_ros.bags.reader import Bag
from pi0_ros.control.chunk import ActionChunk
from pi0_ros.conversion.align import rows, scan
from pi0_ros.inference.metadata import Metadata
from pi0_ros.observation.streams import Observation
from pi0_ros.robot import CommandGroup, Joint, Robot, StateTopic, load_robot, robot_from_yaml, robot_to_yaml
from pi0_ros.robot.message_types import TF, TWIST, TWIST_STAMPED
from pi0_ros.robot.types import NOBODY

pytestmark = pytest.mark.dds
STEP_NS = 100_000_000  # few steps: an acknowledgement may take a second
INFERS_WITHIN_S = 2.0  # of a new time, or not at all: streams were not all there yet


class Listener:
    """A policy behind the ZeroMQ server that keeps every observation it is shown and answers "stay"."""

    timing: Mapping[str, float] = {}

    def __init__(self, robot: Robot) -> None:
        self.robot = robot
        self.metadata = Metadata("listener", "pi0", self.robot, 4, 20.0, 96)
        self.seen: list[Observation] = []

    def infer(self, observation: Observation, prefix: object = None) -> ActionChunk:
        self.seen.append(observation)
        here = dict(zip(self.robot.state_names, observation.state))
        still = np.tile([here.get(name, 0.0) for name in self.robot.action_names], (4, 1))
        return ActionChunk(observation.stamp_ns, 50_000_000, still, self.robot.action_names)

    def close(self) -> None:
        pass


def play(path: Path, robot: Robot, executor, node, seen: list[Observation]) -> None:
    """Publish a bag's cameras and states with `/clock` between them: time moves on once the policy node has taken a
    step's messages in, and messages once it has observed."""
    from rcl_interfaces.srv import GetParameters
    from rclpy.duration import Duration
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from rosgraph_msgs.msg import Clock

    from pi0_ros.nodes.messages import message_class, ns_to_stamp

    topics = {**{c.topic: c.type for c in robot.cameras}, **{s.topic: s.type for s in robot.state}}
    qos = QoSProfile(depth=20, reliability=ReliabilityPolicy.RELIABLE)
    publishers = {topic: node.create_publisher(message_class(kind), topic, qos) for topic, kind in topics.items()}
    clock = node.create_publisher(Clock, "/clock", 10)

    def heard_reliably() -> bool:
        listeners = [node.get_subscriptions_info_by_topic(topic) for topic in topics]
        reliable = [{i.qos_profile.reliability for i in infos} == {ReliabilityPolicy.RELIABLE} for infos in listeners]
        return all(reliable) and clock.get_subscription_count() > 0

    end = time.monotonic() + 60
    while not heard_reliably():
        assert time.monotonic() < end, "the policy node did not subscribe"
        executor.spin_once(timeout_sec=0.05)
    answering = node.create_client(GetParameters, "/policy/get_parameters")
    assert answering.wait_for_service(60.0)

    def taken_in(messages: int) -> None:
        """The node takes one message of a topic, and answers, in each turn of its loop."""
        for publisher in publishers.values():
            assert publisher.wait_for_all_acked(Duration(seconds=10))
        for _ in range(messages + 1):
            answer = answering.call_async(GetParameters.Request(names=["prompt"]))
            executor.spin_until_future_complete(answer, 60.0)
            assert answer.done(), "the policy node does not answer"

    with Bag(path) as bag:
        recorded = [(receive, topic, bytes(data)) for topic, receive, data in bag.raw(set(topics))]
    now = recorded[0][0]
    while recorded:
        step = [item for item in recorded if item[0] <= now]
        recorded = recorded[len(step) :]
        for _, topic, data in step:
            publishers[topic].publish(data)
        taken_in(max(Counter(topic for _, topic, _ in step).values(), default=0))
        before, end = len(seen), time.monotonic() + INFERS_WITHIN_S
        clock.publish(Clock(clock=ns_to_stamp(now)))
        while len(seen) == before and time.monotonic() < end:
            time.sleep(0.005)
        now += STEP_NS


ODOMETRY = "nav_msgs/msg/Odometry"
JOINT_STATE, POSES = "sensor_msgs/msg/JointState", "geometry_msgs/msg/PoseArray"
UNSURE = "geometry_msgs/msg/PoseWithCovarianceStamped"


@pytest.mark.parametrize(
    ("kind", "second_hz", "delays_s"),
    [("sensor_msgs/msg/Image", 20.0, (0.0, 0.0, 0.0)), (COMPRESSED, 12.5, (0.07, 0.02, 0.03))],
)
def test_live_and_offline_observations_are_equal(
    tmp_path, processes, ros_context, kind: str, second_hz: float, delays_s: tuple[float, ...]
) -> None:
    """Jittered stamps, cameras at other rates than the joints and than each other, raw or compressed (one of them a
    stream of H.264), on time or all late by a known time of their own."""
    demo = load_robot("demo_arm")
    late = tuple(replace(camera, type=kind, latency_s=by) for camera, by in zip(demo.cameras, delays_s))
    robot = replace(demo, cameras=late, state=(replace(demo.state[0], latency_s=delays_s[2]),))
    second = robot.cameras[1].topic
    sent = encoded(24, key_every=7)

    def as_stream(topic: str, t_s: float, message: Any) -> Any:
        if topic == second and kind == COMPRESSED:
            message.format, message.data = "h264", np.frombuffer(sent[round(t_s * second_hz)], np.uint8)
        return message

    recipe = Recipe(seconds=1.6, jitter_s=0.004, delay_s=0.0, rates={second: second_hz}, change=as_stream)
    path = make_bag(tmp_path / "bag", robot, recipe)
    check_parity(path, robot, processes, ros_context)


def test_joints_from_several_publishers_and_types_are_equal(tmp_path, processes, ros_context) -> None:
    """Arm and gripper at other rates on one topic, foreign joints and empty positions between them, one joint from a
    bare number and two by the path of a field; a base's speeds from its odometry."""
    demo = load_robot("demo_arm")
    yaw, shoulder, elbow, wrist, roll, gripper = demo.joint_names
    ends = {"lower": -0.5, "upper": 0.5, "velocity": 1.0, "acceleration": 10.0, "jerk": None, "action": "absolute"}
    base = (Joint("forward", "m/s", "speed", **ends), Joint("turn", "rad/s", "speed", **ends))
    parts = ("linear.x", "angular.z")
    driving = CommandGroup("base", "/cmd_vel", TWIST, ("forward", "turn"), parts, speeds=True)
    robot = replace(
        demo,
        takeover=NOBODY,
        joints=(*demo.joints, *base),
        commands=(*(replace(group, joints=demo.joint_names) for group in demo.commands), driving),
        state=(
            StateTopic("/joint_states", "sensor_msgs/msg/JointState", (yaw, shoulder), 0.15),
            StateTopic("/joint_states", "sensor_msgs/msg/JointState", (gripper,), 0.6, names=("finger",)),
            StateTopic("/elbow", "std_msgs/msg/Float64", (elbow,), 0.3),
            StateTopic("/hand", "geometry_msgs/msg/PoseArray", (wrist, roll), 0.3, field="poses[1:3].position.x"),
            StateTopic("/odom", ODOMETRY, ("forward", "turn"), 0.3, "velocity", parts, speeds=True),
        ),
    )
    extra: list[tuple[float, str, str, object]] = []
    for number in range(81):
        t_s = number * 0.02
        ns = START_NS + round(t_s * 1e9)
        values = dict(zip(demo.joint_names, state_at(t_s, 6)))
        said = [("wheel", shoulder, yaw), *([("finger",)] if number % 10 == 3 else []), ("wheel", "tail")]
        for names in said:
            positions = np.array([values.get(gripper if name == "finger" else name, 9.0) for name in names])
            extra.append((t_s, "/joint_states", JOINT_STATE, joint_message(ns, names, positions)))
        silent = joint_message(ns, demo.joint_names, np.zeros(0))
        extra.append((t_s, "/joint_states", JOINT_STATE, silent))
        if number % 5 == 0:  # as often as the clock goes on: it has no stamp
            extra.append((t_s, "/elbow", "std_msgs/msg/Float64", TYPES["std_msgs/msg/Float64"](data=values[elbow])))
        extra.append((t_s, "/odom", ODOMETRY, odometry_message(ns, 0.1 * np.sin(t_s), 0.3 * np.cos(t_s))))
        extra.append((t_s, "/hand", POSES, places_message(ns, [0.0, values[wrist], values[roll]])))
    recipe = Recipe(seconds=1.6, delay_s=0.0, extra=extra, silent=[("/cmd_vel", TWIST)])
    path = make_bag(tmp_path / "bag", replace(robot, state=(), commands=demo.commands, joints=demo.joints), recipe)
    check_parity(path, robot, processes, ros_context, unstamped={"/elbow"})


def test_a_hands_pose_is_equal(tmp_path, processes, ros_context) -> None:
    """A hand that tumbles, its rotation as an axis and an angle, whose name jumps where the turn is half a one; seen
    with a covariance."""
    robot = hand_robot("axis_angle")
    robot = replace(robot, state=(replace(robot.state[0], type=UNSURE), *robot.state[1:]))
    extra: list[tuple[float, str, str, object]] = []
    for number, (place, turn) in enumerate(zip(*path(3, np.arange(81) * 0.02, turns=4.0))):
        t_s, ns = number * 0.02, START_NS + number * 20_000_000
        extra.append((t_s, STATE, UNSURE, unsure_pose_message(ns, place, turn, FRAME)))
        fingers = joint_message(ns, ["gripper"], np.array([0.5 + 0.1 * np.sin(t_s)]))
        extra.append((t_s, "/gripper/state", JOINT_STATE, fingers))
        extra.append((t_s, COMMAND, STAMPED, pose_message(ns, place, turn, FRAME)))
        extra.append((t_s, "/gripper/command", JOINT_STATE, fingers))
    bag = make_bag(
        tmp_path / "bag", replace(robot, state=(), commands=()), Recipe(seconds=1.6, delay_s=0.0, extra=extra)
    )
    check_parity(bag, robot, processes, ros_context)


def test_poses_that_share_a_topic_with_others_are_equal(tmp_path, processes, ros_context, message_package) -> None:
    """Two of one PoseArray, a base's odometry with place and speed, and a hand that /tf tells of, among others."""
    message_package("tf2_msgs")
    robot = robot_from_yaml(SEEN, "seen.yaml")
    places, turns = path(5, np.arange(81) * 0.02, turns=3.0)
    extra: list[tuple[float, str, str, object]] = []
    for number, (place, turn) in enumerate(zip(places, turns)):
        t_s, ns = number * 0.02, START_NS + number * 20_000_000
        several = poses_message(ns, [place, -place, 2 * place], [turn, turns[0], turn], FRAME)
        extra.append((t_s, "/poses", POSES, several))
        odometry = odometry_message(ns, 0.1 * np.sin(t_s), 0.0, (0.2 * t_s, 0.1), 3.0 + t_s)
        extra.append((t_s, "/odom", ODOMETRY, odometry))
        extra.append((t_s, "/base/target", STAMPED, pose_message(ns, place, turn, "odom")))
        if number % 5 == 0:  # as often as the clock goes on: it counts by its arrival
            of_hand, other = (FRAME, "tool0", place, turn), ("map", "odom", -place, turn)
            extra.append((t_s, "/tf", TF, transforms_message(ns, other, of_hand)))
            extra.append((t_s, "/tf", TF, transforms_message(ns, other)))
    nobody = replace(robot, state=(), commands=())
    bag = make_bag(tmp_path / "bag", nobody, Recipe(seconds=1.6, delay_s=0.0, extra=extra))
    check_parity(bag, robot, processes, ros_context, unstamped={"/tf"})


def test_an_arm_whose_hand_is_told_by_twists_is_equal(tmp_path, processes, ros_context) -> None:
    """The arm's joints and the hand's measured twist, in its frame, are seen; other twists are told."""
    robot = robot_from_yaml(SERVOED, "servoed.yaml")
    seen = Joint("seen_vz", "m/s", "speed", -1.0, 1.0, 1.0, 10.0, None, "", "state")
    says = StateTopic("/hand/twist", TWIST_STAMPED, ("seen_vz",), 0.3, "velocity", ("linear.z",))
    robot = replace(
        robot,
        joints=(*robot.joints, seen),
        state=(*robot.state, replace(says, speeds=True, frame="base_link")),
    )
    extra: list[tuple[float, str, str, object]] = []
    for number in range(81):
        t_s, ns = number * 0.02, START_NS + number * 20_000_000
        place = np.array([np.sin(t_s), np.cos(t_s), 0.5])
        extra.append((t_s, "/joint_states", JOINT_STATE, joint_message(ns, ("elbow", "wrist", "grip"), place)))
        extra.append((t_s, robot.commands[0].topic, TWIST_STAMPED, twist_message(ns, [0.1, 0.0, 0.0])))
        extra.append((t_s, robot.commands[1].topic, robot.commands[1].type, array_message([0.5])))
        extra.append((t_s, "/hand/twist", TWIST_STAMPED, twist_message(ns, [0.0, 0.0, 0.1 * np.sin(3 * t_s)])))
    nobody = replace(robot, state=(), commands=())
    bag = make_bag(tmp_path / "bag", nobody, Recipe(seconds=1.6, delay_s=0.0, extra=extra))
    check_parity(bag, robot, processes, ros_context)


def test_without_a_camera(tmp_path, processes, ros_context) -> None:
    robot = replace(load_robot("demo_arm"), cameras=())
    path = make_bag(tmp_path / "bag", robot, Recipe(seconds=0.8, delay_s=0.0))
    check_parity(path, robot, processes, ros_context)


def places_message(ns: int, places: list[float]) -> object:
    turn = TYPES["geometry_msgs/msg/Quaternion"](x=0.0, y=0.0, z=0.0, w=1.0)
    poses = [
        TYPES["geometry_msgs/msg/Pose"](position=TYPES["geometry_msgs/msg/Point"](x=x, y=0.0, z=0.0), orientation=turn)
        for x in places
    ]
    return TYPES[POSES](header=header(ns), poses=poses)


def check_parity(path: Path, robot: Robot, processes, ros_context, unstamped: Collection[str] = ()) -> None:
    """Every observation that the policy process made of a played bag is the converter's observation at the same tick,
    to the last pixel; ages, too, but those of `unstamped` topics, which are told by the clock's steps when played."""
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.node import Node

    from pi0_ros.inference.server import Server

    tmp_path = path.parent
    (tmp_path / "robot.yaml").write_text(robot_to_yaml(robot))
    listener = Listener(robot)
    server = Server(listener, "tcp://127.0.0.1:*")
    stop = threading.Event()
    thread = threading.Thread(target=server.run, args=(stop.is_set,))
    thread.start()
    node = Node("player", context=ros_context)
    executor = SingleThreadedExecutor(context=ros_context)
    executor.add_node(node)
    try:
        processes.node(
            "policy_node",
            robot=str(tmp_path / "robot.yaml"),
            backend="zmq",
            server=server.address,
            use_sim_time=True,
            policy_rate=20.0,
            timeout_s=5.0,
        )
        play(path, robot, executor, node, listener.seen)
    finally:
        stop.set()
        thread.join()
        server.close()
        executor.shutdown()
        node.destroy_node()

    live = listener.seen
    assert len(live) >= 5, processes.tail("policy_node")
    ticks = np.array([observation.stamp_ns for observation in live])
    with Bag(path) as bag:
        found = scan(bag, robot)
        offline = list(rows(bag, robot, found, ticks, lambda tick: found.prompt_at(tick) or robot.prompt))
    for ours, theirs in zip(live, offline, strict=True):
        assert theirs.observation is not None, theirs.problem
        np.testing.assert_array_equal(ours.state, theirs.observation.state)
        assert ours.images.keys() == theirs.observation.images.keys()
        for name, image in ours.images.items():
            np.testing.assert_array_equal(image, theirs.observation.images[name])
        for topic, age_s in ours.ages_s.items():
            assert topic in unstamped or age_s == pytest.approx(theirs.observation.ages_s[topic])
        assert ours.prompt == theirs.observation.prompt
    assert len({o.state.tobytes() for o in live}) >= 5  # it did move
    if robot.cameras:
        assert len({image.tobytes() for o in live for image in o.images.values()}) >= 8  # the pictures did change
