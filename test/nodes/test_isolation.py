"""No test meets the nodes of another: each has a domain in which nobody else lives."""

from __future__ import annotations

import sys
from pathlib import Path

import conftest
import pytest

rclpy = pytest.importorskip("rclpy")
from rclpy.node import Node  # noqa: E402

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
