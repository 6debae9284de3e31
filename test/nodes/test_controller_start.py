"""How the controller process begins, and ends where it cannot."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

rclpy = pytest.importorskip("rclpy")

from pi0_ros.nodes.controller_node import limits_of  # noqa: E402
from pi0_ros.robot import load_robot  # noqa: E402

pytestmark = pytest.mark.dds


BROKEN_TICKS = """
import rclpy
from pi0_ros.control.states import State
from pi0_ros.nodes.controller_node import ControllerNode

rclpy.init()
node = ControllerNode()
node.ticker.stop()
node.controller.sent[:] = node.robot.lower
node.controller.state = State.RUNNING

def broken(now, steady):
    raise ZeroDivisionError("broken tick")

sent = []
node.controller.tick = broken
node.output.publish = lambda command, now, in_time: sent.append(command)
node.close()
assert len(sent) == 1 and not sent[0].velocity.any() and (sent[0].position == node.robot.lower).all(), sent
"""


def test_the_hold_leaves_even_when_ticking_itself_is_broken(ros_domain):
    environment = os.environ | {"ROS_DOMAIN_ID": str(ros_domain)}
    command = [sys.executable, "-c", BROKEN_TICKS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "broken tick" in done.stderr + done.stdout


@pytest.mark.parametrize("parameter", ["robot:=no_such_robot", "auto_arm:=perhaps", "blend_s:=-1.0"])
def test_wrong_parameters_end_the_process_in_one_line(parameter, ros_domain):
    command = [sys.executable, "-m", "pi0_ros.nodes.controller_node", "--ros-args", "-p", parameter]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, env=dict(os.environ))
    assert ended.returncode == 2 and "Traceback" not in ended.stderr
    assert parameter.partition(":")[0] in ended.stderr or "no_such_robot" in ended.stderr


def test_a_robot_that_is_not_for_the_controller_is_refused_in_one_sentence():
    with pytest.raises(ValueError, match="'libero' is not for the controller.*: gripper is not"):
        limits_of(load_robot("libero"))


def test_the_controller_imports_no_torch():
    code = "import sys, pi0_ros.nodes.controller_node; sys.exit(int('torch' in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
