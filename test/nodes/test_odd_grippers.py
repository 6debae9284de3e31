"""Grippers whose action server is busy, slow, mute, or comes and goes, over real DDS: said, and never waited for.

Goals are never queued: one is on its way, and the newest follows it.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from conftest import wait_until

pytest.importorskip("rclpy")
from gripper_arm import ACTION, ARM, GRIPPER, OF_PARALLEL, PARALLEL, Body
from gripper_server import GripperServer
from sensor_msgs.msg import JointState
from spinning import spinning

from pi0_ros.nodes.goals import ANSWER_S

pytestmark = pytest.mark.dds
SOURCE = Path(__file__).parents[1] / "helpers" / "chunk_source.py"


@pytest.mark.parametrize(("text", "kind"), [(ARM, GRIPPER), (OF_PARALLEL, PARALLEL)], ids=["single", "parallel"])
def test_whatever_its_server_does_the_arm_goes_on_or_holds_and_it_is_said(
    text: str, kind: str, control_msgs, ros_context, processes, tmp_path
) -> None:
    path = tmp_path / "arm.yaml"
    path.write_text(text)
    body = Body(ros_context)
    says = lambda: f"{body.state}: {body.said}\n{processes.tail('controller_node')}"  # noqa: E731

    def runs() -> None:
        """Armed, and following chunks: a busy machine may need more than one word."""

        def running() -> bool:
            if body.state != "RUNNING":
                body.arm()
            return body.state == "RUNNING"

        wait_until(running, 60.0, says)

    with spinning(ros_context, body):
        finger = body.create_publisher(JointState, "joint_states", 10)
        body.create_timer(0.05, lambda: finger.publish(JointState(name=["finger_joint"], position=[0.0])))
        processes.start("policy", [sys.executable, str(SOURCE), "yaw,pitch,grip", "0.3"])
        processes.node("controller_node", robot=str(path), rearm_after_s=60.0)
        wait_until(lambda: "no action server" in body.arm(), 60.0, says)

        driver = GripperServer(ros_context, ACTION, kind, states="elsewhere")  # it appears late
        with spinning(ros_context, driver):
            runs()
            wait_until(lambda: driver.goals and max(driver.asked()) > 0.0799, 60.0, says)
            if kind == PARALLEL:
                assert {tuple(goal.command.name) for goal in driver.goals} == {("finger_joint",)}
                assert {tuple(goal.command.effort) for goal in driver.goals} == {(20.0,)}

            # Slow to answer: fewer goals, the newest at last, and the arm goes on.
            driver.answers_after_s, before, began, commands = 0.4, len(driver.goals), time.monotonic(), body.commands
            wait_until(lambda: len(driver.goals) >= before + 6, 60.0, says)
            took = time.monotonic() - began
            assert len(driver.goals) - before <= took / 0.4 + 2, "none waits behind another"
            wait_until(lambda: body.commands > commands + 20, 60.0, says)
            driver.answers_after_s = 0.0

            # Busy: it refuses while it works, which is said, and gets the newest when it has finished.
            driver.hang = driver.refuses_while_it_works = True
            wait_until(lambda: "refuses goals while it works" in body.said, 60.0, says)
            before = len(driver.goals)
            wait_until(lambda: len(driver.goals) >= before + 3, 60.0, says)
            driver.hang = driver.refuses_while_it_works = False
            runs()
        wait_until(lambda: "no action server" in body.said, 60.0, says)  # it died
        wait_until(lambda: body.state == "DISARMED", 60.0, says)

        mute = GripperServer(ros_context, ACTION, kind, states="elsewhere")  # its process hangs
        wait_until(lambda: body.arm() == "armed", 60.0, says)
        wait_until(lambda: f"does not answer for {ANSWER_S:g} s" in body.said, 60.0, says)
        wait_until(lambda: body.state == "DISARMED", 30.0, says)
        assert not mute.goals
        with spinning(ros_context, mute):  # it goes on: what it was asked long ago is not wanted any more
            wait_until(lambda: len(mute.goals) >= 1, 30.0, says)
            wait_until(lambda: "took a goal after" in processes.tail("controller_node"), 30.0, says)
            runs()
            before = len(mute.goals)
            wait_until(lambda: len(mute.goals) >= before + 2, 60.0, says)
