"""Grippers that are action servers, over real DDS: goals on change, the newest wins, and whatever is wrong is said."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import wait_until

pytest.importorskip("rclpy")
from gripper_arm import ACTION, ARM, GRIPPER, OF_PARALLEL, PARALLEL, Body, robot
from gripper_server import GripperServer
from rclpy.action import ActionClient
from rclpy.node import Node
from sensor_msgs.msg import JointState
from spinning import spinning

from pi0_ros.base.errors import InputError
from pi0_ros.nodes.goals import ANSWER_S, Changes, GoalMessage, GoalSender
from pi0_ros.nodes.messages import action_class
from pi0_ros.robot import robot_to_yaml

SOURCE = Path(__file__).parents[1] / "helpers" / "chunk_source.py"


def test_what_is_worth_sending_is_a_change_the_first_after_a_silence_and_where_it_rests() -> None:
    changes, sent, now = Changes(np.array([0.1])), [], 100.0

    def play(values: list[float], period: float = 0.02) -> list[float]:
        nonlocal now
        before = len(sent)
        for value in values:
            now += period
            if changes.hear(np.array([value]), now):
                changes.sent(np.array([value]))
                sent.append(value)
        return sent[before:]

    assert play([0.0] * 50) == [0.0]
    assert len(play(list(np.linspace(0.0, 1.0, 101)))) in (9, 10)
    assert play([1.0] * 50) in ([], [1.0]) and sent[-1] == pytest.approx(1.0), "it rests exactly where it was told"
    assert play([1.0 + 0.05 * (n % 2) for n in range(50)]) == [], "what trembles is no change"
    assert play([1.0], period=5.0) == [1.0], "after a silence whoever moved it meanwhile"


@pytest.mark.dds
def test_goals_of_both_types_are_filled_by_their_fields(control_msgs) -> None:
    single = robot().commands[1]
    goal = GoalMessage(single, action_class(GRIPPER)).filled(np.array([0.5]))
    assert goal.command.position == pytest.approx(0.04) and goal.command.max_effort == 20.0
    goal = GoalMessage(robot(OF_PARALLEL).commands[1], action_class(PARALLEL)).filled(np.array([1.0]))
    assert list(goal.command.position) == pytest.approx([0.08]) and list(goal.command.name) == ["finger_joint"]
    assert list(goal.command.effort) == [20.0]
    for before, after, expected in (
        ("command.max_effort: 20", "command.max_force: 20", "no max_force in GripperCommand; it has position, max_eff"),
        ("command.max_effort: 20", "command.max_effort: much", "GripperCommand does not take .much.: write a number"),
        ("on_change: 0.1", "field: command", "command of control_msgs/action/GripperCommand is no number"),
    ):
        with pytest.raises(InputError, match=expected):
            GoalMessage(robot(ARM.replace(before, after)).commands[1], action_class(GRIPPER))


@pytest.mark.dds
@pytest.mark.parametrize(("text", "kind"), [(ARM, GRIPPER), (OF_PARALLEL, PARALLEL)], ids=["single", "parallel"])
def test_a_controller_tells_a_gripper_its_goals(
    text: str, kind: str, control_msgs, ros_context, processes, tmp_path
) -> None:
    path = tmp_path / "arm.yaml"
    path.write_text(robot_to_yaml(robot(text)))
    name = robot(text).commands[1].message_names[0]
    body = Body(ros_context)
    with spinning(ros_context, body):
        # Somebody says where the finger is, but nobody serves its action.
        finger = body.create_publisher(JointState, "joint_states", 10)
        timer = body.create_timer(0.05, lambda: finger.publish(JointState(name=["finger_joint"], position=[0.0])))
        processes.start("policy", [sys.executable, str(SOURCE), "yaw,pitch,grip", "0.3"])
        processes.node("controller_node", robot=str(path), rearm_after_s=60.0)  # a busy machine is no failure
        wait_until(lambda: "no action server" in body.arm(), 60.0, lambda: processes.tail("controller_node"))
        assert "start the gripper's driver, or correct `server` in the robot file" in body.arm()
        body.destroy_timer(timer)

        driver = GripperServer(ros_context, ACTION, kind)
        with spinning(ros_context, driver):
            wait_until(lambda: body.arm() == "armed", 60.0, lambda: processes.tail("controller_node"))
            wait_until(lambda: body.commands > 200, 60.0, lambda: f"{body.commands} commands, {body.said}")
            asked = driver.asked()
            assert min(asked) >= 0.0 and max(asked) == pytest.approx(0.08, abs=1e-6), "open and shut, in metres"
            assert 4 < len(asked) < body.commands / 2, "on change only"
            efforts = {20.0} if kind == GRIPPER else {(20.0,)}
            fields = [g.command.max_effort if kind == GRIPPER else tuple(g.command.effort) for g in driver.goals]
            assert {*fields} == efforts
            wait_until(lambda: len(body.told) >= len(asked), 30.0, "what was sent is told")
            told = [message.position[0] for message in body.told[: len(asked)]]
            np.testing.assert_allclose(told, asked[-len(told) :][: len(told)], atol=1e-12)
            assert body.told[0].name == [name] and body.told[0].header.stamp.sec > 0

            driver.stalls, before = True, len(driver.goals)  # its driver calls that success: nothing to say
            wait_until(lambda: len(driver.goals) > before + 2, 30.0, lambda: body.said)
            assert "given up" not in body.said and body.state == "RUNNING"
            driver.stalls = False

            driver.aborts = True  # fingers on an object: said, and no reason to stop
            wait_until(lambda: "given up" in body.said, 30.0, lambda: body.said)
            wait_until(lambda: body.state == "RUNNING", 30.0, lambda: body.said)
            driver.aborts = False
            wait_until(lambda: "given up" not in body.said, 30.0, lambda: body.said)

            driver.refuses = True
            wait_until(lambda: body.state == "DISARMED", 30.0, lambda: body.said)
            wait_until(lambda: f"/{ACTION} refused the goal" in body.said, 30.0, lambda: body.said)
            driver.refuses = False

            wait_until(lambda: body.arm() == "armed", 60.0, lambda: processes.tail("controller_node"))
            wait_until(lambda: body.state == "RUNNING", 60.0, lambda: body.said)
            rival = ActionClient(body, action_class(kind), ACTION)
            wait_until(rival.server_is_ready, 30.0, "the rival finds the server")
            driver.hang = True
            rival.send_goal_async(GoalMessage(robot(text).commands[1], action_class(kind)).filled(np.zeros(1)))
            wait_until(lambda: body.state == "DISARMED", 30.0, lambda: body.said)
            wait_until(lambda: "another client sent" in body.said, 30.0, lambda: body.said)
            rival.destroy()
            driver.hang = False
            time.sleep(0.1)

            wait_until(lambda: body.arm() == "armed", 60.0, lambda: processes.tail("controller_node"))
            wait_until(lambda: body.state == "RUNNING", 60.0, lambda: body.said)
        wait_until(lambda: body.state == "DISARMED", 60.0, lambda: body.said)  # the driver died
        wait_until(lambda: "no action server" in body.said, 30.0, lambda: body.said)


@pytest.mark.dds
@pytest.mark.parametrize(("text", "kind"), [(ARM, GRIPPER), (OF_PARALLEL, PARALLEL)], ids=["single", "parallel"])
def test_what_was_wanted_is_sent_again_where_a_goal_that_came_late_was_cancelled(
    text: str, kind: str, control_msgs, ros_context
) -> None:
    """The late one may have ended the newer, and to cancel it stops the fingers: they must get where they shall."""
    node, group = Node("sender", context=ros_context), robot(text).commands[1]
    sender, failed = GoalSender(node, group, robot(text)), []  # type: ignore[var-annotated]
    sender.fail = failed.append
    wanted = [0.25]
    node.create_timer(0.02, lambda: sender.want(np.array(wanted)))
    driver = GripperServer(ros_context, ACTION, kind)  # it hangs
    driver.hang = True
    with spinning(ros_context, node):
        wait_until(lambda: failed, ANSWER_S + 30.0, "nobody answers")
        assert "does not answer" in failed[0] or "no action server" in failed[0]
        wait_until(lambda: "does not answer" in failed[-1], ANSWER_S + 30.0, lambda: str(failed))
        wanted[0] = 0.75
        time.sleep(0.5)  # the newer goal is under way to it
        with spinning(ros_context, driver):
            wait_until(lambda: driver.cancelled >= 1, 30.0, "the late one is cancelled")
            count = len(driver.goals)
            wait_until(lambda: len(driver.goals) > count or len(driver.goals) >= 3, 30.0, lambda: str(driver.asked()))
            newest = pytest.approx(0.08 * 0.75)
            assert driver.asked()[0] == pytest.approx(0.02) and driver.asked()[1:] == [newest] * len(driver.asked()[1:])
            assert len(driver.asked()) >= 3, "the newer one came again"
            settled = len(driver.goals)
            time.sleep(1.0)
            assert len(driver.goals) == settled, "once"
            wait_until(lambda: driver.position == newest, 10.0, lambda: str(driver.position))
