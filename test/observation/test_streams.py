"""Stamped streams: causal alignment, ages, decoding of joint messages."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from bagmaker import joint_message
from hypothesis import given, settings
from hypothesis import strategies as st

from pi0_ros.observation import camera_picture
from pi0_ros.observation.joint_messages import (
    MessageError,
    decode_command,
    decode_positions,
    decode_state,
    to_message_units,
)
from pi0_ros.observation.stream_buffer import SECOND, StreamBuffer
from pi0_ros.observation.streams import FrozenError, ObservationBuffer, StaleError, UnreadableError
from pi0_ros.robot import CommandGroup, Robot, StateTopic, load_robot

MS = 1_000_000
BASE, WRIST = "/demo_arm/base_camera/image_raw", "/demo_arm/wrist_camera/image_raw"
STATE, COMMAND = "/demo_arm/joint_states", "/demo_arm/command"
T0 = 1_700_000_000 * SECOND


@pytest.fixture(scope="module")
def robot() -> Robot:
    return load_robot("demo_arm")


def header(stamp_ns: int) -> SimpleNamespace:
    return SimpleNamespace(stamp=SimpleNamespace(sec=stamp_ns // SECOND, nanosec=stamp_ns % SECOND), frame_id="")


def image(stamp_ns: int, level: int = 0, **change: Any) -> SimpleNamespace:
    values = {"encoding": "rgb8", "height": 2, "width": 2, "step": 6, "is_bigendian": 0, "data": bytes([level] * 12)}
    return SimpleNamespace(header=header(stamp_ns), **(values | change))


def joint_state(stamp_ns: int, **positions: float) -> SimpleNamespace:
    return SimpleNamespace(
        header=header(stamp_ns), name=list(positions), position=list(positions.values()), velocity=[]
    )


def trajectory(stamp_ns: int, names: list[str], *points: list[float]) -> SimpleNamespace:
    return SimpleNamespace(
        header=header(stamp_ns), joint_names=names, points=[SimpleNamespace(positions=point) for point in points]
    )


def array_message(*values: float) -> SimpleNamespace:
    return SimpleNamespace(data=list(values))


def fill(buffer: ObservationBuffer, stamp_ns: int, level: int = 0) -> None:
    """One message on every camera and state topic."""
    for topic in (BASE, WRIST):
        buffer.push_message(topic, image(stamp_ns, level), 0)
    positions = {name: float(level + i) for i, name in enumerate(buffer.robot.joint_names)}
    buffer.push_message(STATE, joint_state(stamp_ns, **positions), 0)


# ---- one stream

stamps_lists = st.lists(st.integers(0, 40), max_size=25)


@settings(max_examples=150, deadline=None)
@given(stamps_lists, st.integers(-5, 50), st.integers(1, 20))
def test_as_of_gives_the_newest_sample_that_is_not_from_the_future(stamps: list[int], t: int, max_age: int) -> None:
    """Against a search of everything, whatever the order of arrival; of equal stamps the last pushed counts."""
    buffer: StreamBuffer[int] = StreamBuffer(max_age / SECOND)
    for i, stamp in enumerate(stamps):
        buffer.push(stamp, i)
    candidates = [(stamp, i) for i, stamp in enumerate(stamps) if stamp <= t and t - stamp <= max_age]
    assert buffer.as_of(t) == (max(candidates) if candidates else None)
    assert (buffer.problem(t) is None) == bool(candidates)
    assert buffer.stamps().tolist() == sorted(set(stamps))
    assert buffer.newest_ns() == (max(stamps) if stamps else None)
    assert buffer.counts.messages == len(stamps)


@settings(max_examples=100, deadline=None)
@given(stamps_lists, st.integers(0, 45), st.integers(0, 45))
def test_forgetting_changes_nothing_from_then_on(stamps: list[int], before: int, later: int) -> None:
    whole: StreamBuffer[int] = StreamBuffer(1.0)
    cut: StreamBuffer[int] = StreamBuffer(1.0)
    for stamp in stamps:
        whole.push(stamp, stamp)
        cut.push(stamp, stamp)
    cut.forget(before)
    assert cut.as_of(before + later) == whole.as_of(before + later)
    assert (cut.stamps() <= before).sum() <= 1


@settings(max_examples=60, deadline=None)
@given(stamps_lists, st.integers(1, 5))
def test_a_bounded_stream_keeps_the_newest(stamps: list[int], keep: int) -> None:
    buffer: StreamBuffer[int] = StreamBuffer(1.0, keep)
    for stamp in stamps:
        buffer.push(stamp, stamp)
    assert buffer.stamps().tolist() == sorted(set(stamps))[-keep:]


def test_a_clock_that_jumps_back_starts_a_bounded_stream_again() -> None:
    live: StreamBuffer[str] = StreamBuffer(0.25, keep=8)
    bag: StreamBuffer[str] = StreamBuffer(0.25)
    for buffer in (live, bag):
        for i in range(5):
            buffer.push(5 * SECOND + i * 50 * MS, "first run")
        buffer.push(20 * MS, "second run")
    assert live.stamps().tolist() == [20 * MS] and live.counts.restarts == 1
    assert live.as_of(30 * MS) == (20 * MS, "second run")
    assert len(bag.stamps()) == 6 and bag.counts.restarts == 0 and bag.counts.late == 1


def test_a_late_sample_is_sorted_in() -> None:
    buffer: StreamBuffer[str] = StreamBuffer(0.25, keep=8)
    for stamp, value in ((10 * MS, "a"), (30 * MS, "c"), (20 * MS, "b")):
        buffer.push(stamp, value)
    assert buffer.as_of(25 * MS) == (20 * MS, "b")
    assert (buffer.counts.late, buffer.counts.restarts) == (1, 0)


def test_problems_are_sentences() -> None:
    buffer: StreamBuffer[int] = StreamBuffer(0.25, topic="/camera", what="image")
    assert buffer.problem(0) == "/camera: no image has arrived"
    buffer.push(T0, 1)
    assert buffer.problem(T0 + 250 * MS) is None
    assert buffer.problem(T0 + 620 * MS) == "/camera: newest image is 0.62 s old, limit 0.25 s"
    assert buffer.problem(T0 - 100 * MS) == "/camera: oldest image is 0.10 s in the future"
    assert "different clocks? compare use_sim_time" in str(buffer.problem(5 * SECOND))


def test_one_thread_may_push_while_another_reads() -> None:
    buffer: StreamBuffer[int] = StreamBuffer(1.0, keep=4)
    done = threading.Event()
    wrong: list[Any] = []

    def read() -> None:
        while not done.is_set():
            for t in (10**9, buffer.newest_ns() or 0):
                found = buffer.as_of(t)
                if found is not None and (found[0] != found[1] or found[0] > t):
                    wrong.append(found)
            stamps = buffer.stamps()
            if (np.diff(stamps) <= 0).any() or len(stamps) > 4:
                wrong.append(stamps)
            buffer.forget(int(stamps[0]) if len(stamps) else 0)

    reader = threading.Thread(target=read)
    reader.start()
    deadline = time.monotonic() + 0.5
    stamp = 0
    while time.monotonic() < deadline:
        stamp += 1
        buffer.push(stamp, stamp)
    done.set()
    reader.join()
    assert not wrong


# ---- observations


def test_an_observation_takes_every_stream_as_of_the_tick(robot: Robot) -> None:
    buffer = ObservationBuffer(robot)
    for i in range(4):
        fill(buffer, T0 + i * 50 * MS, level=10 * i)
    buffer.push_message(BASE, image(T0 + 130 * MS, 99), 0)
    observation = buffer.observe(T0 + 140 * MS, "lift the cube")
    assert observation.stamp_ns == T0 + 140 * MS and observation.prompt == "lift the cube"
    assert (observation.images["base"] == 99).all() and (observation.images["wrist"] == 20).all()
    assert set(observation.images) == {"base", "wrist"}
    assert observation.state.dtype == np.float64
    assert observation.state.tolist() == [20, 21, 22, 23, 24, 25]
    assert observation.ages_s == {BASE: 0.01, WRIST: 0.04, STATE: 0.04}
    assert buffer.problems(T0 + 140 * MS) == []
    assert buffer.latest_ns() == T0 + 150 * MS


def test_joints_are_found_by_name_whatever_their_order(robot: Robot) -> None:
    item = robot.state[0]
    message = joint_state(0, gripper=0.5, finger=9.0, roll=4.0, wrist=3.0, elbow=2.0, shoulder=1.0, yaw=0.0)
    assert decode_state(item, message).tolist() == [0, 1, 2, 3, 4, 0.5]


def test_two_arms_whose_messages_use_the_same_names() -> None:
    robot = load_robot("aloha")
    buffer = ObservationBuffer(robot)
    for camera in robot.cameras:
        buffer.push_message(camera.topic, image(T0), 0)
    for i, item in enumerate(robot.state):
        positions = {name: 10.0 * i + j for j, name in enumerate(item.message_names)}
        buffer.push_message(item.topic, joint_state(T0, **positions), 0)
    assert buffer.observe(T0, "").state.tolist() == [0, 1, 2, 3, 4, 5, 6, 10, 11, 12, 13, 14, 15, 16]


def test_missing_and_stale_streams_are_all_named(robot: Robot) -> None:
    buffer = ObservationBuffer(robot)
    assert buffer.latest_ns() is None
    buffer.push_message(BASE, image(T0), 0)
    buffer.push_message(STATE, joint_state(T0 + 600 * MS, **dict.fromkeys(robot.joint_names, 0.0)), 0)
    expected = [
        f"{BASE}: newest image is 0.62 s old, limit 0.25 s",
        f"{WRIST}: no image has arrived",
    ]
    assert buffer.problems(T0 + 620 * MS) == expected
    with pytest.raises(StaleError) as caught:
        buffer.observe(T0 + 620 * MS, "")
    assert caught.value.problems == expected and not isinstance(caught.value, UnreadableError)
    assert str(caught.value) == "; ".join(expected)


@pytest.mark.parametrize(
    ("topic", "message", "sentence"),
    [
        (BASE, image(T0, encoding="16UC1"), rf"{BASE}: encoding '16UC1' is a depth image: .*colour topic"),
        (WRIST, image(T0, data=bytes(3)), rf"{WRIST}: rgb8 image of 2 x 2 pixels holds 3 bytes, 12 are needed"),
        (
            STATE,
            SimpleNamespace(header=header(T0), name=["yaw", "roll"], position=[1.0]),
            rf"{STATE}: the message has 2 joint names and 1 position values",
        ),
        (
            STATE,
            SimpleNamespace(header=header(T0), name=[], position=[1.0] * 6),
            rf"{STATE}: the message has 6 values without joint names: write names_from: order",
        ),
        (STATE, trajectory(T0, []), rf"{STATE}: the message is no sensor_msgs/msg/JointState .*correct the robot file"),
        (BASE, array_message(1.0), rf"{BASE}: the message is no sensor_msgs/msg/Image"),
    ],
)
def test_unreadable_messages_name_the_topic_and_what_is_wrong(
    robot: Robot, topic: str, message: Any, sentence: str
) -> None:
    buffer = ObservationBuffer(robot)
    fill(buffer, T0 - 10 * MS)
    buffer.push_message(topic, message, T0)
    for _ in range(2):  # the second answer comes from what was kept
        problems = buffer.problems(T0)
        assert len(problems) == 1 and re.match(sentence, problems[0])
        with pytest.raises(UnreadableError, match=sentence) as caught:
            buffer.observe(T0, "")
        assert caught.value.problems == problems


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_state_that_is_not_finite_is_refused(robot: Robot, value: float) -> None:
    buffer = ObservationBuffer(robot)
    fill(buffer, T0)
    buffer.push_message(STATE, joint_state(T0, **(dict.fromkeys(robot.joint_names, 0.0) | {"elbow": value})), 0)
    with pytest.raises(UnreadableError, match=f"{STATE}: joint 'elbow' is {value}"):
        buffer.observe(T0, "")


def test_a_corrupt_jpeg_is_found_when_it_is_decoded_and_then_remembered() -> None:
    robot = load_robot("so101")
    buffer = ObservationBuffer(robot)
    for camera in robot.cameras:
        broken = SimpleNamespace(header=header(T0), format="jpeg", data=b"\xff\xd8\xff broken")
        buffer.push_message(camera.topic, broken, 0)
    buffer.push_message(robot.state[0].topic, joint_state(T0, **dict.fromkeys(robot.joint_names, 0.0)), 0)
    assert buffer.problems(T0) == []  # its beginning is good
    with pytest.raises(UnreadableError, match="compressed image of format 'jpeg' is broken") as caught:
        buffer.observe(T0, "")
    assert len(caught.value.problems) == 2 and buffer.problems(T0) == caught.value.problems


def test_a_zero_stamp_takes_the_time_of_receipt_and_is_counted(robot: Robot) -> None:
    buffer = ObservationBuffer(robot)
    fill(buffer, T0)
    buffer.push_message(BASE, image(0, 7), T0 + 20 * MS)
    observation = buffer.observe(T0 + 30 * MS, "")
    assert (observation.images["base"] == 7).all() and observation.ages_s[BASE] == 0.01
    assert buffer.counts[BASE].receive_stamped == 1 and buffer.counts[BASE].messages == 2
    assert buffer.counts[WRIST].receive_stamped == 0


def test_pushing_decodes_nothing_and_an_image_is_decoded_once(robot: Robot, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    original = camera_picture.decode_image

    def counting(message: Any) -> np.ndarray:
        decoded.append(message)
        return original(message)

    monkeypatch.setattr(camera_picture, "decode_image", counting)
    buffer = ObservationBuffer(robot)
    for i in range(5):
        fill(buffer, T0 + i * MS)
    buffer.problems(T0 + 5 * MS)
    assert not decoded
    first = buffer.observe(T0 + 5 * MS, "")
    second = buffer.observe(T0 + 6 * MS, "")
    assert len(decoded) == 2 and first.images["base"] is second.images["base"]


def noisy(seed: int) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, 64 * 64 * 3, np.uint8).tobytes()


def watched(robot: Robot) -> Robot:
    """The base camera counts as frozen after half a second, the wrist camera never."""
    return replace(robot, cameras=(replace(robot.cameras[0], frozen_s=0.5), robot.cameras[1]))


def test_a_frozen_camera_is_named_and_recovers(robot: Robot) -> None:
    buffer = ObservationBuffer(watched(robot), keep=4)

    def push(i: int, data: bytes) -> int:
        now = T0 + i * 100 * MS
        buffer.push_message(BASE, image(now, height=64, width=64, step=192, data=data), 0)
        buffer.push_message(WRIST, image(now), 0)
        buffer.push_message(STATE, joint_state(now, **dict.fromkeys(robot.joint_names, 0.0)), 0)
        return now

    for i in range(10):
        assert buffer.observe(push(i, noisy(i)), "").images["base"].shape == (64, 64, 3)
    for i in range(10, 15):  # the picture of i == 9 again, for 0.5 s
        buffer.observe(push(i, noisy(9)), "")
    now = push(15, noisy(9))
    sentence = f"{BASE}: camera 'base' has sent one and the same picture for 0.60 s, limit 0.50 s"
    with pytest.raises(FrozenError, match=sentence):
        buffer.observe(now, "")
    assert [problem.startswith(sentence) for problem in buffer.problems(now)] == [True]
    buffer.observe(now - 100 * MS, "")  # as of then it was no longer than the limit
    now = push(16, noisy(16))
    assert not buffer.problems(now) and buffer.observe(now, "").images["base"].shape == (64, 64, 3)


@pytest.mark.parametrize("pixels", [10_000, 64 * 64 * 3])
def test_one_noisy_row_shows_that_a_camera_lives(robot: Robot, pixels: int) -> None:
    buffer, still = ObservationBuffer(watched(robot)), bytes(921_600 - pixels)
    for i in range(20):
        buffer.push_message(BASE, image(T0 + i * 100 * MS, height=480, width=640, step=1920, data=still + noisy(i)), 0)
    assert "one and the same" not in " ".join(buffer.problems(T0 + 1900 * MS))


def test_compressed_pictures_freeze_too_and_broken_ones_are_no_worse_than_before(robot: Robot) -> None:
    buffer = ObservationBuffer(watched(robot))
    for data in (b"\xff\xd8\xff" + noisy(0), b"", None):
        for i in range(20):
            message = SimpleNamespace(header=header(T0 + i * 100 * MS), format="jpeg", data=data)
            buffer.push_message(BASE, message, 0)
        assert ("one and the same" in " ".join(buffer.problems(T0 + 1900 * MS))) == bool(data)


def test_pushing_is_cheap(robot: Robot) -> None:
    buffer = ObservationBuffer(robot)
    message = image(T0, height=480, width=640, step=1920, data=bytes(480 * 1920))
    start = time.process_time()
    for i in range(1000):
        message.header.stamp.nanosec = i
        buffer.push_message(BASE, message, 0)
    assert (time.process_time() - start) / 1000 < 200e-6


def test_topics_of_other_robots_are_refused(robot: Robot) -> None:
    with pytest.raises(KeyError):
        ObservationBuffer(robot).push_message("/other", image(T0), T0)


# ---- actions


def group(kind: str, joints: tuple[str, ...] = ("a", "b"), names: tuple[str, ...] = ()) -> CommandGroup:
    return CommandGroup("arm", "/arm", kind, joints, names)


TRAJECTORY, ARRAY, JOINT_STATE = (
    "trajectory_msgs/msg/JointTrajectory",
    "std_msgs/msg/Float64MultiArray",
    "sensor_msgs/msg/JointState",
)


@pytest.mark.parametrize(
    ("item", "message", "expected"),
    [
        (group(TRAJECTORY), trajectory(0, ["b", "c", "a"], [2, 3, 1], [8, 8, 8]), [1, 2]),
        (group(TRAJECTORY, names=("x", "y")), trajectory(0, ["y", "x"], [2, 1]), [1, 2]),
        (group(JOINT_STATE), joint_state(0, c=3.0, b=2.0, a=1.0), [1, 2]),
        (group(ARRAY), array_message(1, 2), [1, 2]),
    ],
)
def test_commands_of_every_type_are_decoded(item: CommandGroup, message: Any, expected: list[float]) -> None:
    values = decode_command(item, message)
    assert values.dtype == np.float64 and values.tolist() == expected


@pytest.mark.parametrize(
    ("item", "message", "sentence"),
    [
        (group(TRAJECTORY), trajectory(0, ["a", "b"]), "/arm: the trajectory has no point"),
        (
            group(TRAJECTORY),
            trajectory(0, ["a"], [1]),
            "/arm: joint 'b' is missing; the message has a: correct the names",
        ),
        (
            group(TRAJECTORY),
            trajectory(0, ["a", "b"], [1]),
            "/arm: the message has 2 joint names and 1 position values",
        ),
        (group(JOINT_STATE), joint_state(0, a=1.0), "/arm: joint 'b' is missing"),
        (group(ARRAY), array_message(1), r"/arm: the message has 1 values, the robot file has 2 joints of it \(a, b\)"),
        (group(ARRAY), array_message(1, float("nan")), "/arm: joint 'b' is nan"),
    ],
)
def test_wrong_commands_name_the_topic_and_the_joint(item: CommandGroup, message: Any, sentence: str) -> None:
    with pytest.raises(MessageError, match=sentence):
        decode_command(item, message)


def test_a_state_topic_may_name_another_field() -> None:
    item = StateTopic("/wheels", JOINT_STATE, ("left", "right"), 0.1, field="velocity")
    message = SimpleNamespace(name=["right", "left"], position=[], velocity=[2.0, 1.0])
    assert decode_state(item, message).tolist() == [1.0, 2.0]
    turned = SimpleNamespace(name=["right", "left"], position=[7.0, 6.0], velocity=[2.0, 1.0])
    assert decode_positions(item, turned).tolist() == [6.0, 7.0]  # a controller starts from these
    assert np.isnan(decode_positions(item, message)).all()  # it says nothing of them
    assert np.isnan(decode_state(item, joint_state(0, left=1.0))).all()


def test_messages_in_other_units_are_brought_into_the_robot_files() -> None:
    """A gripper from 0 open to 1 closed is 0.08 m to 0 m wide in its messages; the other joint is in degrees there."""
    item = StateTopic("/hand", JOINT_STATE, ("grip", "turn"), 0.1, scale=(-0.08, 180 / np.pi), offset=(0.08, 0.0))
    assert to_message_units(item, np.array([[0.0, 0.0], [1.0, np.pi]])) == pytest.approx(
        np.array([[0.08, 0], [0, 180]])
    )
    message = joint_state(0, turn=90.0, grip=0.06)
    assert decode_state(item, message) == pytest.approx([0.25, np.pi / 2])
    assert decode_positions(item, message) == pytest.approx([0.25, np.pi / 2])
    moving = SimpleNamespace(name=["grip", "turn"], position=[0.06, 0.0], velocity=[-0.04, 90.0], effort=[3.0, 4.0])
    assert decode_state(replace(item, field="velocity"), moving) == pytest.approx([0.5, np.pi / 2])
    assert decode_state(replace(item, field="effort"), moving).tolist() == [3.0, 4.0]
    for kind, sent in (
        (TRAJECTORY, trajectory(0, ["turn", "grip"], [90.0, 0.06])),
        (JOINT_STATE, message),
        (ARRAY, array_message(0.06, 90.0)),
    ):
        commanded = replace(group(kind, ("grip", "turn")), scale=item.scale, offset=item.offset)
        assert decode_command(commanded, sent) == pytest.approx([0.25, np.pi / 2])


def test_the_action_is_the_command_as_of_the_tick(robot: Robot) -> None:
    buffer = ObservationBuffer(robot)
    with pytest.raises(StaleError, match=f"{COMMAND}: no command has arrived"):
        buffer.action_at(T0)
    names = list(reversed(robot.joint_names))
    for i in range(3):
        buffer.push_message(COMMAND, trajectory(T0 + i * 20 * MS, names, [float(10 * i + j) for j in range(6)]), 0)
    assert buffer.action_at(T0 + 39 * MS).tolist() == [15, 14, 13, 12, 11, 10]
    with pytest.raises(StaleError, match=f"{COMMAND}: newest command is 0.96 s old, limit"):
        buffer.action_at(T0 + SECOND)


def test_commands_in_groups_fill_one_action_and_arrays_take_the_time_of_receipt() -> None:
    robot = load_robot("franka_droid")
    buffer = ObservationBuffer(robot)
    arm, gripper = robot.commands
    buffer.push_message(arm.topic, trajectory(T0, list(arm.joints), [0, 1, 2, 3, 4, 5, 6]), T0 + 5 * MS)
    buffer.push_message(gripper.topic, array_message(0.8), T0 + 5 * MS)
    assert buffer.action_at(T0 + 10 * MS).tolist() == [0, 1, 2, 3, 4, 5, 6, 0.8]
    assert buffer.counts[gripper.topic].receive_stamped == 0  # such messages have no stamp to be zero
    with pytest.raises(StaleError, match="in the future"):
        buffer.action_at(T0 + 4 * MS)


def test_the_action_may_be_the_next_state(robot: Robot) -> None:
    buffer = ObservationBuffer(replace(robot, action_source="next_state"))
    for i in range(3):
        fill(buffer, T0 + i * 50 * MS, level=10 * i)
    assert buffer.observe(T0, "").state[0] == 0
    assert buffer.action_at(T0)[0] == 10
    with pytest.raises(StaleError, match=STATE):
        buffer.action_at(T0 + SECOND)


# ---- real messages


def rclpy_messages() -> tuple[Any, Any]:
    pytest.importorskip("rclpy")
    from sensor_msgs.msg import Image, JointState

    picture, state = Image(), JointState()
    picture.header.stamp.sec, state.header.stamp.sec = T0 // SECOND, T0 // SECOND
    picture.height, picture.width, picture.step, picture.encoding = 2, 2, 6, "rgb8"
    picture.data.frombytes(bytes(range(12)))
    state.name, state.position = ["b", "a"], [2.0, 1.0]
    return picture, state


def rosbags_messages() -> tuple[Any, Any]:
    rosbags = pytest.importorskip("rosbags.typesys")
    types = rosbags.get_typestore(rosbags.Stores.ROS2_JAZZY).types
    time_type, header_type = types["builtin_interfaces/msg/Time"], types["std_msgs/msg/Header"]
    stamp = header_type(stamp=time_type(sec=T0 // SECOND, nanosec=0), frame_id="")
    picture = types["sensor_msgs/msg/Image"](
        header=stamp, height=2, width=2, encoding="rgb8", is_bigendian=0, step=6, data=np.arange(12, dtype=np.uint8)
    )
    empty = np.zeros(0)
    state = types["sensor_msgs/msg/JointState"](
        header=stamp, name=["b", "a"], position=np.array([2.0, 1.0]), velocity=empty, effort=empty
    )
    return picture, state


@pytest.mark.parametrize("messages", [rclpy_messages, rosbags_messages])
def test_messages_of_dds_and_of_bags_read_alike(robot: Robot, messages: Callable[[], tuple[Any, Any]]) -> None:
    picture, state = messages()
    joints = tuple(replace(robot.joints[i], name=name) for i, name in enumerate("ab"))
    small = replace(
        robot,
        joints=joints,
        cameras=robot.cameras[:1],
        commands=(),
        state=(replace(robot.state[0], joints=("a", "b")),),
    )
    buffer = ObservationBuffer(small)
    buffer.push_message(BASE, picture, 0)
    buffer.push_message(STATE, state, 0)
    observation = buffer.observe(T0 + MS, "")
    np.testing.assert_array_equal(observation.images["base"], np.arange(12).reshape(2, 2, 3))
    assert observation.state.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("way", ["auto", "arrival"])
def test_a_known_delay_is_taken_off_stamps_and_arrivals(way: str) -> None:
    robot = load_robot("demo_arm")
    late = replace(robot.state[0], latency_s=0.04, stamp=way)
    buffer = ObservationBuffer(replace(robot, cameras=(), state=(late,)))
    second = 1_000_000_000
    message = joint_message(9 * second, robot.joint_names, np.full(6, 0.3))
    buffer.push_message(late.topic, message, 10 * second)
    taken = (10 if way == "arrival" else 9) * second - 40_000_000
    assert buffer.stamps(late.topic).tolist() == [taken]
    assert buffer.observe(taken + 10_000_000, "go").ages_s == {late.topic: pytest.approx(0.01)}
    with pytest.raises(StaleError):
        buffer.observe(taken - 1, "go")


def test_all_that_an_observation_of_the_past_needs_is_kept() -> None:
    """Beside a camera that is half a second late, of a fast one the picture and of the joints the state of then."""
    demo = load_robot("demo_arm")
    slow, fast = (replace(camera, latency_s=by) for camera, by in zip(demo.cameras, (0.5, 0.0)))
    robot = replace(demo, cameras=(slow, fast))
    buffer = ObservationBuffer(robot)
    for number in range(2000):  # 1 kHz
        now = T0 + number * MS
        buffer.push_message(robot.state[0].topic, joint_message(now, robot.joint_names, np.full(6, number)), now)
        if number % 10 == 0:
            for camera in robot.cameras:
                buffer.push_message(camera.topic, image(now, number // 10), now)
    observation = buffer.observe(now - buffer.delay_ns, "")
    assert observation.state.tolist() == [1499.0] * 6
    assert observation.images["base"][0, 0, 0] == 199 and observation.images["wrist"][0, 0, 0] == 149
    assert len(buffer.stamps(fast.topic)) < 60, "no more than that"
