"""Joint states as drivers publish them: parts from several publishers, merged joint by joint, each with its own age."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi0_ros.observation.stream_buffer import SECOND
from pi0_ros.observation.streams import ObservationBuffer, StaleError, UnreadableError
from pi0_ros.robot import Robot, RobotFileError, StateTopic, load_robot, robot_from_yaml, robot_to_yaml

MS = 1_000_000
T0 = 1_700_000_000 * SECOND
TOPIC = "/joint_states"
JOINT_STATE = "sensor_msgs/msg/JointState"
NAMES = load_robot("demo_arm").joint_names
ARM, GRIPPER = NAMES[:-1], NAMES[-1]
ONE = (StateTopic(TOPIC, JOINT_STATE, NAMES, 0.1),)
TWO = (StateTopic(TOPIC, JOINT_STATE, ARM, 0.1), StateTopic(TOPIC, JOINT_STATE, (GRIPPER,), 0.6, names=("finger",)))


def robot_of(state: tuple[StateTopic, ...] = ONE) -> Robot:
    """The demo arm without cameras to wait for, and with this state."""
    return replace(load_robot("demo_arm"), cameras=(), state=state)


def message(stamp_ns: int, positions: dict[str, float], **change: Any) -> SimpleNamespace:
    head = SimpleNamespace(stamp=SimpleNamespace(sec=stamp_ns // SECOND, nanosec=stamp_ns % SECOND))
    values = {"name": list(positions), "position": list(positions.values()), "velocity": [], "effort": []}
    return SimpleNamespace(header=head, **values | change)


def part(names: tuple[str, ...], level: float) -> dict[str, float]:
    return {name: level + place for place, name in enumerate(names)}


def filled(state: tuple[StateTopic, ...], *messages: SimpleNamespace) -> ObservationBuffer:
    buffer = ObservationBuffer(robot_of(state))
    for one in messages:
        buffer.push_message(TOPIC, one, T0)
    return buffer


def test_two_publishers_share_a_topic_and_a_stamp() -> None:
    """Arm and gripper send each their own joints, others send theirs between them, and one speaks of efforts alone."""
    buffer = filled(
        ONE,
        message(T0, part(ARM, 1.0)),
        message(T0, {GRIPPER: 0.5}),
        message(T0, part(("left_wheel", "right_wheel"), 9.0)),
        message(T0 + 5 * MS, part(ARM, 7.0), position=[], effort=[0.1] * len(ARM)),
    )
    observation = buffer.observe(T0 + 20 * MS, "")
    assert observation.state.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 0.5]
    assert buffer.problems(T0 + 20 * MS) == []
    assert buffer.counts[TOPIC].late == 0


def test_each_joint_has_its_own_age_and_one_that_stops_is_named() -> None:
    messages = [message(T0 + n * 20 * MS, part(ARM, float(n))) for n in range(40)]
    messages.insert(10, message(T0 + 200 * MS, {"finger": 0.5}))  # comes once
    buffer = filled(TWO, *messages)
    assert buffer.observe(T0 + 780 * MS, "").state.tolist() == [39.0, 40.0, 41.0, 42.0, 43.0, 0.5]
    buffer.push_message(TOPIC, message(T0 + 850 * MS, part(ARM, 0.0)), 0)
    sentence = f"{TOPIC}: joint '{GRIPPER}' has not come for longer, limit 0.60 s"
    assert buffer.problems(T0 + 850 * MS) == [sentence]
    with pytest.raises(StaleError, match=sentence) as caught:
        buffer.observe(T0 + 850 * MS, "")
    assert not isinstance(caught.value, UnreadableError)


def test_the_arm_stops_while_the_gripper_goes_on() -> None:
    buffer = filled(TWO, message(T0, part(ARM, 0.0)), message(T0 + 300 * MS, {"finger": 0.5}))
    arm = ", ".join(map(repr, ARM))
    assert buffer.problems(T0 + 300 * MS) == [f"{TOPIC}: joint {arm} is 0.30 s old, limit 0.10 s"]


def test_a_joint_that_never_comes_is_named_with_what_does_come() -> None:
    buffer = filled(ONE, message(T0, part((*ARM, "finger_joint"), 0.0)))
    (problem,) = buffer.problems(T0)
    assert f"no message has joint '{GRIPPER}'; they have" in problem and "finger_joint" in problem
    buffer = filled(ONE, message(T0, part(NAMES, 0.0), position=[]))
    assert "name joint 'yaw'" in buffer.problems(T0)[0] and "have no position" in buffer.problems(T0)[0]


def test_joints_without_names_come_in_the_robot_files_order() -> None:
    state = (replace(ONE[0], names_from="order"),)
    for names in ([], ["j"] * len(NAMES)):
        buffer = filled(state, message(T0, part(NAMES, 1.0), name=names))
        assert buffer.observe(T0, "").state.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    with pytest.raises(UnreadableError, match="names_from: order"):
        filled(ONE, message(T0, part(NAMES, 1.0), name=[])).observe(T0, "")


pushes = st.lists(
    st.tuples(st.integers(0, 400), st.frozensets(st.integers(0, len(NAMES)), max_size=4)), min_size=1, max_size=40
)


@settings(max_examples=100, deadline=None)
@given(
    pushes, st.lists(st.integers(0, 450), min_size=1, max_size=8), st.tuples(st.integers(1, 300), st.integers(1, 300))
)
def test_every_joint_has_its_newest_value_live_and_from_bags(
    pushed: list[tuple[int, frozenset[int]]], ticks: list[int], limits_ms: tuple[int, int]
) -> None:
    """Whatever parts come in whatever order: of each joint the newest not newer than the tick and not too old."""
    ages_s = (limits_ms[0] / 1e3, limits_ms[1] / 1e3)
    state = (replace(TWO[0], max_age_s=ages_s[0]), replace(TWO[1], max_age_s=ages_s[1], names=()))
    called = (*NAMES, "foreign")
    whole = ObservationBuffer(robot_of(state), keep=None)
    live = ObservationBuffer(robot_of(state), keep=8)
    in_order = sorted(enumerate(pushed), key=lambda item: item[1][0])
    for number, (at_ms, joints) in in_order:
        parts = {called[j]: float(number) for j in joints}
        for buffer in (whole, live):
            buffer.push_message(TOPIC, message(T0 + at_ms * MS, parts), 0)
    for tick_ms in sorted(ticks):
        now = T0 + tick_ms * MS
        whole.forget(now)
        expected = np.full(len(NAMES), np.nan)
        for number, (at_ms, joints) in in_order:
            for j in joints - {len(NAMES)}:
                limit = limits_ms[j == len(NAMES) - 1]
                if at_ms <= tick_ms <= at_ms + limit:
                    expected[j] = number
        for buffer in (whole, live):
            if np.isfinite(expected).all():
                assert buffer.observe(now, "").state.tolist() == expected.tolist()
            else:
                with pytest.raises(StaleError):
                    buffer.observe(now, "")
                assert buffer.problems(now)
        if any(at_ms <= tick_ms for at_ms, _ in pushed):
            assert "has arrived" not in "".join(whole.problems(now)), "one has, however old and forgotten"


def test_a_slow_joint_among_fast_ones_stays_in_the_live_buffer() -> None:
    """The gripper comes once, the arm a thousand times a second: the live buffer must not push the gripper out."""
    state = (TWO[0], replace(TWO[1], max_age_s=2.0))
    buffer = ObservationBuffer(robot_of(state))
    buffer.push_message(TOPIC, message(T0, {"finger": 0.5}), 0)
    for n in range(1900):
        buffer.push_message(TOPIC, message(T0 + n * MS, part(ARM, float(n))), 0)
    assert buffer.observe(T0 + 1899 * MS, "").state[-1] == 0.5


def test_one_topic_may_be_listed_with_other_joints_and_ages() -> None:
    demo = load_robot("demo_arm")
    robot = replace(demo, state=TWO)
    assert robot_from_yaml(robot_to_yaml(robot), "r").state == TWO
    assert robot.max_ages_s[TOPIC] == 0.1
    for change, sentence in (
        ({"type": "std_msgs/msg/Float64"}, r"state\[1\]\.type: .*state\[0\], of the same topic"),
        ({"stamp": "arrival"}, r"state\[1\]\.stamp: 'arrival', but state\[0\]"),
        ({"topic": TOPIC.removeprefix("/")}, r"state\[1\]\.topic: .*write the same"),
    ):
        other = replace(TWO[1], **{"names": (), **change})
        with pytest.raises(RobotFileError, match=sentence):
            robot_from_yaml(robot_to_yaml(replace(demo, state=(TWO[0], other))), "r")
    double = replace(demo, state=(*TWO, replace(TWO[1], joints=(GRIPPER,))))
    with pytest.raises(RobotFileError, match="is already in"):
        robot_from_yaml(robot_to_yaml(double), "r")
