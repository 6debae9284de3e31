"""One table of message types: what the robot file takes is what is read, live and from bags."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from pi0_ros.observation.joint_messages import MessageError, decode_command, decode_positions, decode_state
from pi0_ros.observation.streams import ObservationBuffer
from pi0_ros.robot import CommandGroup, RobotFileError, StateTopic, robot_from_yaml
from pi0_ros.robot.message_types import COMMAND_TYPES, STATE_TYPES, JointMessages

SMALL = (Path(__file__).parents[1] / "fixtures" / "small_robot.yaml").read_text(encoding="utf-8")
JOINT_STATE, ARRAY = "sensor_msgs/msg/JointState", "std_msgs/msg/Float64MultiArray"
EMPTY = SimpleNamespace()


KIND = "my_msgs/msg/Reading"


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """A state type more: one line in the table."""
    monkeypatch.setitem(STATE_TYPES, KIND, JointMessages(lambda msg, field: (None, msg.angles), named=False))


def test_every_state_type_has_positions() -> None:
    """The controller, the monitor and the view go by them, whatever `field` is the policy's state; by speeds of what
    has no place."""
    for kind, messages in STATE_TYPES.items():
        assert ("position" in messages.fields) != messages.speeds, kind
        assert messages.fields[0] == ("velocity" if messages.speeds else "position"), kind


@pytest.mark.parametrize("decode", [decode_state, decode_positions])
def test_states_that_cannot_be_read_are_named(decode) -> None:
    for kind in STATE_TYPES:
        with pytest.raises(MessageError, match=f"/arm: the message is no {kind} .*: correct the robot file"):
            decode(StateTopic("/arm", kind, ("a",), 0.1, STATE_TYPES[kind].fields[0], speeds=True), EMPTY)


def test_commands_that_cannot_be_read_are_named() -> None:
    for kind in COMMAND_TYPES:
        with pytest.raises(MessageError, match=f"/arm: the message is no {kind} .*: correct the robot file"):
            decode_command(CommandGroup("arm", "/arm", kind, ("a",)), EMPTY)
    with pytest.raises(MessageError, match="/arm: messages of type my_msgs/msg/Hand cannot be read here; known are"):
        decode_command(CommandGroup("arm", "/arm", "my_msgs/msg/Hand", ("a",)), SimpleNamespace(data=[1.0]))


def test_a_line_in_the_table_is_all_that_a_state_type_needs(reading: None) -> None:
    text = SMALL.replace(f"{JOINT_STATE}, max", f"{KIND}, max")
    assert text != SMALL
    robot = robot_from_yaml(text, "robot.yaml")
    item, values = robot.state[0], [0.1 * n for n in range(1, 1 + len(robot.state[0].joints))]
    assert item.type == KIND
    message = SimpleNamespace(angles=values)
    assert decode_state(item, message) == pytest.approx(values) == decode_positions(item, message)
    buffer = ObservationBuffer(robot)
    buffer.push_message(item.topic, message, 5)
    assert not [problem for problem in buffer.problems(6) if problem.startswith(item.topic)]
    with pytest.raises(
        MessageError, match=rf"{item.topic}: the message has 9 values, the robot file has {len(values)} "
    ):
        decode_state(item, SimpleNamespace(angles=[0.0] * 9))


def test_a_field_that_the_type_does_not_hold_is_refused_by_the_robot_file() -> None:
    text = SMALL.replace(f"{JOINT_STATE}, max", f"{ARRAY}, field: velocity, max")
    with pytest.raises(RobotFileError, match=r"state\[0\]\.field.*'velocity'"):
        robot_from_yaml(text, "robot.yaml")


HAND = SimpleNamespace(
    fingers=[SimpleNamespace(angle=0.1 * n, name=f"f{n}") for n in range(5)],
    pose=SimpleNamespace(yaw=0.5),
    counts=[1, 2, 3],
    label="left",
)


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("pose.yaw", [0.5]),
        ("fingers[0:2].angle", [0.0, 0.1]),
        ("fingers[3:].angle", [0.3, 0.4]),
        ("fingers[:].angle", [0.0, 0.1, 0.2, 0.3, 0.4]),
        ("fingers.angle", [0.0, 0.1, 0.2, 0.3, 0.4]),
        ("fingers[4].angle", [0.4]),
        ("counts", [1, 2, 3]),
        ("counts[1:]", [2, 3]),
    ],
)
def test_any_message_by_the_path_of_a_field(path: str, values: list[float]) -> None:
    item = StateTopic("/hand", "my_msgs/msg/Hand", tuple("abcde"[: len(values)]), 0.1, field=path)
    assert decode_state(item, HAND) == pytest.approx(values) == decode_positions(item, HAND)
    assert item.is_position


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("fingrs[0].angle", "has no field 'fingrs'; it has fingers, pose, counts, label"),
        ("fingers[9].angle", "fingers has 5 entries in this message"),
        ("pose[0]", "pose is no array"),
        ("pose", "pose holds no numbers"),
        ("label", "label holds no numbers"),
        ("counts", "the message has 3 values, the robot file has 1 joints of it"),
    ],
)
def test_a_path_that_leads_nowhere_is_named(path: str, sentence: str) -> None:
    with pytest.raises(MessageError, match=f"/hand: .*{sentence}"):
        decode_state(StateTopic("/hand", "my_msgs/msg/Hand", ("a",), 0.1, field=path), HAND)


def test_which_states_a_robot_file_takes() -> None:
    def state(entry: str) -> StateTopic:
        whole = "{topic: /joint_states, type: sensor_msgs/msg/JointState, max_age_s: 0.1}"
        assert whole in SMALL
        return robot_from_yaml(SMALL.replace(whole, f"{{topic: /joint_states, max_age_s: 0.1, {entry}}}"), "r").state[0]

    assert state("type: my_msgs/msg/Hand, field: 'fingers[0:2].angle'").field == "fingers[0:2].angle"
    assert state(f"type: {JOINT_STATE}, field: 'position[0:2]'").is_position
    assert state(f"type: {JOINT_STATE}, names_from: order").names_from == "order"
    told = r"names: the joints of a .+ are told by their order, not by names: remove it"
    for entry, sentence in (
        ("type: my_msgs/msg/Hand", r"state\[0\]\.type: 'my_msgs/msg/Hand' is not known; .*say with `field` where"),
        ("type: sensor_msgs/msg/JointStates", r"did you mean 'sensor_msgs/msg/JointState'"),
        ("type: Hand, field: a", r"'Hand' is not known"),
        ("type: my_msgs/msg/Hand, field: 'a..b'", r"state\[0\]\.field: 'a..b' is no path"),
        (f"type: {ARRAY}, names_from: names", r"names_from: these messages have no joint names: write order"),
        (f"type: {ARRAY}, names: [a, b]", told),
        (f"type: {JOINT_STATE}, names_from: order, names: [a, b]", told),
    ):
        with pytest.raises(RobotFileError, match=sentence):
            state(entry)
