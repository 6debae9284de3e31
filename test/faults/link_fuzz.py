"""Mutated frames for both sockets of a server, and handshakes by hand, so that anything can follow them."""

from __future__ import annotations

import socket as sockets
from typing import Any

import numpy as np
from fuzz import VALUES, flood
from policy_fixtures import observation, tiny_robot

from pi0_ros.inference.openpi import pack, write_observation
from pi0_ros.inference.protocol import encode, infer_message

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)  # of ZMTP 3.0


def flood_zmq(address: str, count: int, random: np.random.Generator) -> int:
    """Mutated questions of the tiny robot, with and without a picture as JPEG and named ones."""
    seen = observation(tiny_robot(), size=16)
    plain = infer_message(seen, "session", "fuzz", 1, same={"base": 3}, jpegs={"wrist": b"\xff\xd8\xff" + bytes(40)})
    return flood(address, [bytes(frame) for frame in encode(plain)], count, random)


def flood_websocket(port: int, count: int, random: np.random.Generator) -> int:
    """Mutated observations at openpi's websocket, on one connection after the other; returns how many answers came."""
    from websockets.exceptions import WebSocketException
    from websockets.sync.client import connect

    robot = tiny_robot()
    content, answers, left = write_observation(observation(robot, size=16), robot), 0, count
    while left > 0:
        try:
            with connect(f"ws://127.0.0.1:{port}", compression=None, max_size=None, close_timeout=1.0) as connection:
                connection.recv(timeout=20.0)
                while left > 0:
                    left -= 1
                    if random.integers(50) == 0:  # bytes that are no frame of a websocket
                        connection.socket.sendall(random.bytes(int(random.integers(1, 200))))
                        break
                    connection.send(_spoiled(content, random))
                    connection.recv(timeout=20.0)
                    answers += 1
        except (WebSocketException, OSError):
            continue
    return answers


def _spoiled(content: dict[str, Any], random: np.random.Generator) -> bytes | str:
    """An observation of openpi's with something wrong in it."""
    way = random.integers(5)
    if way == 0:
        return random.bytes(int(random.integers(0, 300)))
    if way == 1:
        return "x" * int(random.integers(0, 300))
    if way == 2:
        spoiled = dict(content)
        for _ in range(int(random.integers(1, 3))):
            keys = list(spoiled) or [""]
            key = keys[int(random.integers(len(keys)))]
            value = VALUES[int(random.integers(len(VALUES)))]
            spoiled[key] = value if not isinstance(value, int) or -(2**63) <= value < 2**64 else 0
        try:
            return pack(spoiled)
        except (ValueError, OverflowError):  # nested too deeply for the sender
            return b"\xc0"
    data = bytearray(pack(content))
    if way == 3:
        for _ in range(int(random.integers(1, 20))):
            data[int(random.integers(len(data)))] ^= 1 << int(random.integers(8))
        return bytes(data)
    return bytes(data[: int(random.integers(len(data) + 1))])


def greet_zmtp(connection: sockets.socket) -> None:
    """The greeting and the handshake of ZMTP 3.0 without keys, as a DEALER: what follows is a frame."""
    connection.settimeout(20.0)
    connection.sendall(GREETING)
    _read(connection, 64)
    properties = b"\x0bSocket-Type\x00\x00\x00\x06DEALER"
    body = b"\x05READY" + properties
    connection.sendall(b"\x04" + bytes([len(body)]) + body)
    head = _read(connection, 2)
    _read(connection, head[1])


def greet_websocket(connection: sockets.socket) -> None:
    """The handshake of a websocket, and the server's first frame: what follows is a frame."""
    connection.settimeout(20.0)
    connection.sendall(
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += _read(connection, 1)
    assert b" 101 " in answer, answer


def closed(connection: sockets.socket, within_s: float) -> bool:
    """Whether the other side ends the connection."""
    connection.settimeout(within_s)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def _read(connection: sockets.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        assert more, "the other side closed"
        data += more
    return data
