"""Robot files with grippers that are action servers, or that are told when something changes."""

from __future__ import annotations

import pytest

from pi0_ros.robot import RobotFileError, robot_from_yaml, robot_to_yaml
from pi0_ros.robot.words import explain

ARM = """
name: arm
control_rate_hz: 50
policy_rate_hz: 2
dataset_fps: 20
joints:
  - {name: yaw, unit: rad, kind: revolute, limits: {position: [-1, 1], velocity: 1, acceleration: 8}, action: relative}
  - {name: grip, unit: normalized, kind: gripper, limits: {position: [0, 1], velocity: 5, acceleration: 9},
     action: absolute}
cameras: []
state:
  - {topic: /joint_states, type: sensor_msgs/msg/JointState, max_age_s: 0.2}
commands:
  - {name: arm, topic: /arm, type: sensor_msgs/msg/JointState, joints: [yaw]}
  - name: gripper
    server: /gripper/cmd
    type: control_msgs/action/GripperCommand
    joints: [grip]
    scale: [0.08]
    fixed: {command.max_effort: 20}
    on_change: 0.05
action: {source: command, max_age_s: 0.3}
"""
TYPE = "type: control_msgs/action/GripperCommand"


def test_a_server_is_commanded_by_goals_and_recorded_from_a_topic() -> None:
    robot = robot_from_yaml(ARM, "arm.yaml")
    group = robot.commands[1]
    assert group.server is not None and group.server.name == "/gripper/cmd" and group.server.field == "command.position"
    assert group.topic == "/gripper/cmd/sent" and group.type == "sensor_msgs/msg/JointState" and group.hold
    assert group.server.fixed == (("command.max_effort", 20),) and robot.may_be_silent == {group.topic}
    assert robot_from_yaml(robot_to_yaml(robot), "again") == robot
    moved = robot.with_topics(lambda name: f"/left{name}")
    assert moved.commands[1].server is not None and moved.commands[1].server.name == "/left/gripper/cmd"
    assert any("action server /gripper/cmd" in line for line in explain(robot))


def test_other_types_say_the_field_and_parallel_ones_have_names() -> None:
    parallel = ARM.replace(TYPE, "type: control_msgs/action/ParallelGripperCommand\n    names: [finger]")
    parallel = parallel.replace("{command.max_effort: 20}", "{command.effort: [20.0]}")
    server = robot_from_yaml(parallel, "arm.yaml").commands[1].server
    assert server is not None and server.names_field == "command.name" and server.fixed[0][1] == (20.0,)
    move = ARM.replace(TYPE, "type: hand_msgs/action/Move\n    field: width").replace("command.max_effort", "speed")
    robot = robot_from_yaml(move, "arm.yaml")
    assert robot.commands[1].server is not None and robot.commands[1].server.field == "width"
    assert robot_from_yaml(robot_to_yaml(robot), "again") == robot


def test_a_topic_of_grippers_is_told_on_change_and_holds() -> None:
    text = ARM.replace("server: /gripper/cmd", "topic: /grip").replace(TYPE, "type: std_msgs/msg/Float64MultiArray")
    robot = robot_from_yaml(text.replace("    fixed: {command.max_effort: 20}\n", ""), "arm.yaml")
    group = robot.commands[1]
    assert group.on_change == 0.05 and group.hold and group.server is None
    assert robot_from_yaml(robot_to_yaml(robot), "again") == robot


WRONG = {
    "a topic's type": (TYPE, "type: sensor_msgs/msg/JointState", "commands[1].type: a server takes goals, and"),
    "no server": ("server: /gripper/cmd", "topic: /gripper/cmd", "commands[1].server: missing: write the name of"),
    "an arm's joint": ("joints: [yaw]}", "joints: [grip]}", "goals are for grippers only, and yaw is revolute"),
    "unknown type": (TYPE, "type: my_msgs/action/Grip", "commands[1].field: missing, and my_msgs/action/Grip is not"),
    "field": ("    on_change", "    field: command[0]\n    on_change", "commands[1].field: 'command[0]' is no field"),
    "names": ("    on_change", "    names: [f]\n    on_change", "commands[1].names: the goals of control_msgs/action/"),
    "fixed": ("{command.max_effort: 20}", "[20]", "commands[1].fixed: a mapping is needed"),
    "fixed value": ("max_effort: 20", "max_effort: {a: 1}", "commands[1].fixed.command.max_effort: write a number"),
    "hold": ("    on_change", "    hold: true\n    on_change", "commands[1].hold: unknown key"),
    "an arm on change": ("joints: [yaw]}", "joints: [yaw], on_change: 0.1}", "commands on change are for grippers"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_entries_name_line_key_and_remedy(case: str) -> None:
    before, after, expected = WRONG[case]
    assert before in ARM
    wrong = ARM.replace(before, after)
    if case == "an arm's joint":
        wrong = wrong.replace("    joints: [grip]", "    joints: [yaw]")
    with pytest.raises(RobotFileError) as caught:
        robot_from_yaml(wrong, "arm.yaml")
    text = f"{caught.value}\n{caught.value.details or ''}"
    assert expected in text and "arm.yaml:" in text, text
