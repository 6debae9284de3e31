"""One table of message types: what the robot file takes is what is read, live and from bags."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from pi0_ros.observation.streams import MessageError, ObservationBuffer, decode_command, decode_positions, decode_state
from pi0_ros.robot import CommandGroup, RobotFileError, StateTopic, robot_from_yaml
from pi0_ros.robot.message_types import COMMAND_TYPES, STATE_TYPES, JointMessages

SMALL = (Path(__file__).parents[1] / "fixtures" / "small_robot.yaml").read_text(encoding="utf-8")
JOINT_STATE, ARRAY = "sensor_msgs/msg/JointState", "std_msgs/msg/Float64MultiArray"
EMPTY = SimpleNamespace()


@pytest.fixture
def arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    """A state type more: one line in the table."""
    monkeypatch.setitem(STATE_TYPES, ARRAY, JointMessages(lambda msg, field: (None, msg.data)))


def test_every_state_type_has_positions() -> None:
    """The controller, the monitor and the view go by them, whatever `field` is the policy's state."""
    for kind, messages in STATE_TYPES.items():
        assert "position" in messages.fields, kind


@pytest.mark.parametrize("decode", [decode_state, decode_positions])
def test_states_that_cannot_be_read_are_named(decode) -> None:
    for kind in STATE_TYPES:
        with pytest.raises(MessageError, match=f"/arm: the message is no {kind} .*: correct the robot file"):
            decode(StateTopic("/arm", kind, ("a",), 0.1), EMPTY)
    with pytest.raises(
        MessageError, match=f"/arm: messages of type {ARRAY} cannot be read here; known are {JOINT_STATE}"
    ):
        decode(StateTopic("/arm", ARRAY, ("a",), 0.1), SimpleNamespace(data=[1.0]))


def test_commands_that_cannot_be_read_are_named() -> None:
    for kind in COMMAND_TYPES:
        with pytest.raises(MessageError, match=f"/arm: the message is no {kind} .*: correct the robot file"):
            decode_command(CommandGroup("arm", "/arm", kind, ("a",)), EMPTY)
    with pytest.raises(MessageError, match="/arm: messages of type my_msgs/msg/Hand cannot be read here; known are"):
        decode_command(CommandGroup("arm", "/arm", "my_msgs/msg/Hand", ("a",)), SimpleNamespace(data=[1.0]))


def test_a_line_in_the_table_is_all_that_a_state_type_needs(arrays: None) -> None:
    text = SMALL.replace(f"{JOINT_STATE}, max", f"{ARRAY}, max")
    assert text != SMALL
    robot = robot_from_yaml(text, "robot.yaml")
    item, values = robot.state[0], [0.1 * n for n in range(1, 1 + len(robot.state[0].joints))]
    assert item.type == ARRAY
    message = SimpleNamespace(data=values)
    assert decode_state(item, message) == pytest.approx(values) == decode_positions(item, message)
    buffer = ObservationBuffer(robot)
    buffer.push_message(item.topic, message, 5)
    assert not [problem for problem in buffer.problems(6) if problem.startswith(item.topic)]
    with pytest.raises(
        MessageError, match=rf"{item.topic}: the message has 9 values, the robot file has {len(values)} "
    ):
        decode_state(item, SimpleNamespace(data=[0.0] * 9))


def test_a_field_that_the_type_does_not_hold_is_refused_by_the_robot_file(arrays: None) -> None:
    text = SMALL.replace(f"{JOINT_STATE}, max", f"{ARRAY}, field: velocity, max")
    with pytest.raises(RobotFileError, match=r"state\[0\]\.field.*'velocity'"):
        robot_from_yaml(text, "robot.yaml")
