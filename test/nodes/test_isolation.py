"""No test meets the nodes of another: each has a domain in which nobody else lives."""

from __future__ import annotations

import sys
from pathlib import Path

import conftest
import pytest

rclpy = pytest.importorskip("rclpy")
from rclpy.node import Node  # noqa: E402

from pi0_ros.nodes.neighbours import Sole  # noqa: E402

pytestmark = [pytest.mark.dds, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]


def test_a_domain_in_which_somebody_lives_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = conftest.own_domain(tmp_path, monkeypatch)
    domain = next(earlier)
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    node = Node("left_behind", context=context)
    assert next(earlier, None) is None  # that test is over: its domain is free, but for the node
    try:
        assert conftest.inhabited(domain)
        monkeypatch.setattr(conftest, "DOMAINS", [domain, *conftest.DOMAINS])
        later = conftest.own_domain(tmp_path, monkeypatch)
        assert next(later) != domain
        later.close()
    finally:
        node.destroy_node()
        rclpy.try_shutdown(context=context)
    conftest.wait_until(lambda: not conftest.inhabited(domain), 30.0, "the end of the node")


def test_one_process_of_a_machine_is_a_controller_whatever_the_graph_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    first, second, other = Sole("/left/controller", 7), Sole("/left/controller", 7), Sole("/controller", 7)
    assert (first.taken(), second.taken(), other.taken()) == (False, True, False)
    assert second.taken() and not first.taken()
    first.close()
    assert not second.taken(), "it makes room at once"
    second.close()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    assert not Sole("/controller", 7).taken(), "where no file can be made the graph alone tells"
