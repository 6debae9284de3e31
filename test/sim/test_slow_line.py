"""A line that delays: everything arrives, in order, and not before its time."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from pi0_ros.sim.slow_line import HOST, SlowLine

DELAY_S = 0.05


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that says whatever it hears."""
    with socket.create_server((HOST, 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                while data := connection.recv(4096):
                    connection.sendall(data)

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]


def test_all_comes_back_in_order_after_both_delays(echo: int) -> None:
    line = SlowLine(echo, DELAY_S)
    said = bytes(range(256)) * 2000
    try:
        with socket.create_connection((HOST, line.port), timeout=30.0) as client:
            begun = time.monotonic()
            client.sendall(said)
            heard = client.recv(1)
            assert time.monotonic() - begun >= 2 * DELAY_S
            while len(heard) < len(said):
                heard += client.recv(65536)
            assert heard == said
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1) == b""  # the end comes through as well
    finally:
        line.close()


def test_without_a_server_the_connection_ends() -> None:
    with socket.create_server((HOST, 0)) as nobody:
        port = nobody.getsockname()[1]
    line = SlowLine(port, DELAY_S)
    try:
        with socket.create_connection((HOST, line.port), timeout=30.0) as client:
            assert client.recv(1) == b""
    finally:
        line.close()


def test_closing_ends_a_connection_without_a_word(echo: int, capfd: pytest.CaptureFixture[str]) -> None:
    line = SlowLine(echo, DELAY_S)
    with socket.create_connection((HOST, line.port), timeout=30.0) as client:
        client.sendall(b"a")
        assert client.recv(1) == b"a"
        line.close()
        assert client.recv(1) == b""
    assert capfd.readouterr().err == ""
