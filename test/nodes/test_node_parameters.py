"""Nodes with parameters that they do not take: one line that names the right one, and exit status 2."""

from __future__ import annotations

import subprocess
import sys

import pytest

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
    given = [part for word in words for part in ("-p", word)]
    argv = [sys.executable, "-m", f"pi0_ros.nodes.{node}_node", "--ros-args", *given]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
