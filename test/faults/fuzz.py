"""Frames that are nearly messages of the protocol, and quite other ones."""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np
import zmq

VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**63, -(2**63), 1e308, float("nan"), float("-inf"), "", "x" * 5000, b"\x00" * 300, [], {},
    [[]], {"a": {"b": []}}, [["state", "float64", [3]]] * 40, ["actions", "float64", [2**62, 2**62]],
)  # fmt: skip


def mutated(frames: list[bytes], random: np.random.Generator) -> list[bytes]:
    """Frames of a message with something wrong in them, at random."""
    frames = [bytes(frame) for frame in frames]
    way = random.integers(8)
    if way == 0:  # bits that fell over
        frame = bytearray(frames[at := int(random.integers(len(frames)))])
        for _ in range(int(random.integers(1, 20)) if frame else 0):
            frame[int(random.integers(len(frame)))] ^= 1 << int(random.integers(8))
        frames[at] = bytes(frame)
    elif way == 1:  # cut
        at = int(random.integers(len(frames)))
        frames[at] = frames[at][: int(random.integers(len(frames[at]) + 1))]
    elif way == 2:  # frames lost, doubled, in another order
        frames = [frames[int(i)] for i in random.integers(0, len(frames), int(random.integers(0, 5)))]
    elif way == 3:  # noise
        frames = [random.bytes(int(random.integers(0, 300))) for _ in range(int(random.integers(1, 4)))]
    elif way == 4:
        frames = frames + [b""] * int(random.integers(1, 50))
    else:  # a header of this protocol with a wrong entry
        header = msgpack.unpackb(frames[0])
        for _ in range(int(random.integers(1, 3))):
            place, keys = header, list(header)
            key = keys[int(random.integers(len(keys)))]
            if isinstance(place[key], dict) and place[key] and random.integers(2):
                place = place[key]
                key = list(place)[int(random.integers(len(place)))]
            if way == 7:
                place.pop(key, None)
            else:
                place[key] = VALUES[int(random.integers(len(VALUES)))]
        try:
            frames[0] = msgpack.packb(header)
        except (OverflowError, ValueError):  # 2**63 beside a negative number
            frames[0] = b"\xc0"
    return frames or [b""]


def flood(address: str, frames: list[bytes], count: int, random: np.random.Generator) -> int:
    """Send `count` mutated messages to a server, reading its answers; returns how many answers came."""
    context = zmq.Context()
    socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 2000)
    socket.setsockopt(zmq.SNDTIMEO, 10_000)
    socket.connect(address)
    answers = 0
    for _ in range(count):
        socket.send_multipart(mutated(frames, random))
        while socket.poll(0):
            socket.recv_multipart()
            answers += 1
    while socket.poll(500):
        socket.recv_multipart()
        answers += 1
    context.destroy()
    return answers
