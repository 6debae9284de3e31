"""Nodes with parameters that they do not take: one line that names the right one, and exit status 2."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pi0_ros.base.middleware import profiles_variable

pytestmark = pytest.mark.dds


@pytest.mark.parametrize(
    ("node", "words", "message"),
    [
        ("controller", ["seam:=blend"], "parameter seam of controller is called transition now"),
        ("controller", ["blend:=0.1"], "did you mean blend_s?"),
        ("controller", ["transition:=soft"], "parameter transition is 'soft': it takes one of replace, blend"),
        ("controller", ["blend_s:=9.0"], "blend_s"),
        ("controller", ["blend_s:=soft"], "blend_s"),
        ("recorder", ["compression:=rar"], "parameter compression is 'rar': it takes one of none, zstd"),
        ("monitor", ["ghost:=all"], "parameter ghost is 'all'"),
        ("policy", ["backend:=pigeon"], "parameter backend is 'pigeon': it takes one of local, zmq"),
        ("policy", ["seed:=-1"], "seed"),
        ("demonstrator", ["colour:=pink"], "parameter colour is 'pink'"),
    ],
)
def test_a_node_refuses_what_it_does_not_take(node: str, words: list[str], message: str, ros_domain: int) -> None:
    if node == "demonstrator":
        pytest.importorskip("mujoco")
    given = [part for word in words for part in ("-p", word)]
    argv = [sys.executable, "-m", f"pi0_ros.nodes.{node}_node", "--ros-args", *given]
    refused(argv, message)


def refused(argv: list[str], message: str, **environment: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, env={**os.environ, **environment})
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_what_ros_would_pass_over_in_silence_is_refused(ros_domain: int) -> None:
    """ROS takes the first for a remapping of names, as it once was written."""
    start = [sys.executable, "-m", "pi0_ros.nodes.start", "controller"]
    refused([*start, "robot:=ur5e"], "write --ros-args -p robot:=ur5e")
    refused([*start, "--ros-args", "-p", "robot:=ur5e", "-p", "robot:=panda"], "parameter robot is given twice")
    for program in ([*start], [sys.executable, "-m", "pi0_ros.cli", "state"]):
        refused(program, "ROS_DOMAIN_ID is '300': it takes a whole number from 0 to 232", ROS_DOMAIN_ID="300")
    refused(start, "/nowhere.xml, and there is no such file", **{profiles_variable(os.environ): "/nowhere.xml"})
