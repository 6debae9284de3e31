"""Where a server listens, and who reaches it."""

from __future__ import annotations

import pytest

from pi0_ros.inference.addresses import is_local, is_local_endpoint, parse_port


def test_a_port_alone_is_this_machine() -> None:
    assert parse_port("--websocket", "8000") == ("127.0.0.1", 8000)
    assert parse_port("--websocket", "[::1]:80") == ("::1", 80)
    assert parse_port("--websocket", "gpu:80") == ("gpu", 80)


@pytest.mark.parametrize("text", ["x", ":80", "1:2:x", "70000", "", "gpu"])
def test_what_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"--websocket .*: expected a port or HOST:PORT"):
        parse_port("--websocket", text)


def test_who_reaches_a_server() -> None:
    assert all(map(is_local, ("127.0.0.1", "127.8.9.1", "::1", "localhost")))
    assert not any(map(is_local, ("0.0.0.0", "::", "192.168.1.2", "gpu-box", "*", "")))
    assert all(map(is_local_endpoint, ("tcp://127.0.0.1:5555", "tcp://[::1]:*", "ipc:///tmp/x", "inproc://x")))
    assert not any(map(is_local_endpoint, ("tcp://*:5555", "tcp://0.0.0.0:5555", "tcp://[::]:5555", "epgm://x;y")))
