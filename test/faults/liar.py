"""Stands between a policy node and its server and changes what the server says: python liar.py ADDRESS SERVER LIE_FILE

The file's first word names the lie; empty, everything passes as it is. Each lie takes the true answer's frames and
returns the answers that are sent instead.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import zmq
from fuzz import mutated

from pi0_ros.inference.protocol import VERSION

Frames = list[bytes]
Lie = Callable[[Frames], list[Frames]]
LATE_S = 1.2  # more than the policy waits for


def _edited(**changes: Any) -> Lie:
    """The header's entries replaced; None takes one away; a function makes the new value from the old one."""

    def lie(frames: Frames) -> list[Frames]:
        header = msgpack.unpackb(frames[0])
        for key, value in changes.items():
            header[key] = value(header.get(key)) if callable(value) else value
            if value is None:
                del header[key]
        return [[msgpack.packb(header), *frames[1:]]]

    return lie


def _actions(make: Callable[[np.ndarray], np.ndarray]) -> Lie:
    """Other actions, described truly."""

    def lie(frames: Frames) -> list[Frames]:
        header = msgpack.unpackb(frames[0])
        if header["type"] != "chunk":
            return [frames]
        actions = make(np.frombuffer(frames[1], np.float64).reshape(header["arrays"][0][2]).copy())
        header["arrays"] = [["actions", actions.dtype.name, list(actions.shape)]]
        return [[msgpack.packb(header), actions.tobytes()]]

    return lie


def _set(value: float, row: Any = slice(None), joint: Any = slice(None)) -> Lie:
    def make(actions: np.ndarray) -> np.ndarray:
        actions[row, joint] = value
        return actions

    return _actions(make)


def _metadata(**changes: Any) -> Lie:
    """Makes the client ask again what the server is, and lies about that."""

    def lie(frames: Frames) -> list[Frames]:
        header = msgpack.unpackb(frames[0])
        if header["type"] != "metadata":
            return [_error("session", "say hello first", header["id"])]
        for key, value in changes.items():
            header["metadata"][key] = value(header["metadata"][key]) if callable(value) else value
        return [[msgpack.packb(header), *frames[1:]]]

    return lie


def _error(code: str, text: str, number: int) -> Frames:
    return [msgpack.packb({"pi0": VERSION, "type": "error", "id": number, "arrays": [], "code": code, "message": text})]


def _errs(code: str, text: str) -> Lie:
    return lambda frames: [_error(code, text, msgpack.unpackb(frames[0])["id"])]


def _late(frames: Frames) -> list[Frames]:
    time.sleep(LATE_S)
    return [frames]


class _Before:
    """The answer before this one, with this one's id: an old chunk for new."""

    def __init__(self) -> None:
        self.first: Frames = []

    def __call__(self, frames: Frames) -> list[Frames]:
        header = msgpack.unpackb(frames[0])
        if header["type"] != "chunk":
            return [frames]
        self.first = self.first or frames
        old = msgpack.unpackb(self.first[0])
        return [[msgpack.packb({**old, "id": header["id"]}), *self.first[1:]]]


def _nested(frames: Frames) -> list[Frames]:
    return [[b"\x91" * 100_000 + b"\xc0"]]


def _many_joints(text: str) -> str:
    return text.replace("joints:", "joints:\n" + "".join(f"- {{name: j{i}}}\n" for i in range(20_000)), 1)


RANDOM, SECOND = np.random.default_rng(7), 1_000_000_000
LIES: dict[str, Lie] = {
    # the numbers
    "NaN": _set(np.nan, joint=0),
    "infinity": _set(np.inf, joint=1),
    "one NaN at the end": _set(np.nan, -1, 0),
    "1e300": _set(1e300, joint=0),
    "degrees": _set(57.3, joint=0),
    "wild within the limits": _actions(lambda a: a * 0 + 1.9 * (-1.0) ** np.arange(len(a))[:, None] * [1, 0.5, 0]),
    # their shape and kind
    "a joint too many": _actions(lambda a: np.hstack([a, a[:, :1]])),
    "a joint missing": _actions(lambda a: a[:, :2].copy()),
    "one action": _actions(lambda a: a[:1].copy()),
    "no actions": _actions(lambda a: a[:0].copy()),
    "10^5 actions": _actions(lambda a: np.tile(a, (3200, 1))),
    "float32": _actions(lambda a: a.astype(np.float32)),
    "int64": _actions(lambda a: a.astype(np.int64)),
    "three dimensions": _actions(lambda a: a[None].copy()),
    "more numbers than bytes": _edited(arrays=[["actions", "float64", [10**9, 3]]]),
    "a negative shape": _edited(arrays=[["actions", "float64", [-1, 3]]]),
    "an unknown dtype": _edited(arrays=[["actions", "object", [32, 3]]]),
    "an array too many in the header": _edited(arrays=lambda old: [*(old or []), ["more", "uint8", [1]]]),
    "40 MB of actions": _actions(lambda a: np.zeros((1_700_000, 3))),
    # what stands beside them
    "no names": _edited(names=[]),
    "a name twice": _edited(names=["yaw", "yaw", "gripper"]),
    "other names": _edited(names=["a", "b", "c"]),
    "names that are numbers": _edited(names=[1, 2, 3]),
    "stamp in the future": _edited(stamp_ns=lambda old: (old or 0) + 30 * SECOND),
    "stamp of an hour ago": _edited(stamp_ns=lambda old: (old or 0) - 3600 * SECOND),
    "stamp that is text": _edited(stamp_ns="now"),
    "stamp in float seconds": _edited(stamp_ns=1.7e9),
    "dt of 0": _edited(dt_ns=0),
    "dt below 0": _edited(dt_ns=-50_000_000),
    "dt of 1000 s": _edited(dt_ns=1000 * SECOND),
    "dt that is NaN": _edited(dt_ns=float("nan")),
    "timing of texts": _edited(timing={"total_ms": "soon"}),
    # the message
    "another version": _edited(pi0=1),
    "no version": _edited(pi0=None),
    "another type": _edited(type="infer"),
    "an unknown type": _edited(type="surprise"),
    "of another request": _edited(id=lambda old: old + 1000),
    "an id of text": _edited(id="seven"),
    "not msgpack": lambda frames: [[b"\xc1" * 50, *frames[1:]]],
    "an empty frame": lambda frames: [[b""]],
    "nested 10^5 deep": _nested,
    "40 frames": lambda frames: [[*frames, *[b"x"] * 40]],
    "the header alone": lambda frames: [frames[:1]],
    "twenty times": lambda frames: [frames] * 20,
    "the first answer again and again": _Before(),
    # no answer
    "slow": _late,
    "never": lambda frames: [],
    "an error of 900 kB": _errs("infer", "x" * 900_000),
    "a session error every time": _errs("session", "say hello first"),
    "an error without a code": lambda frames: [
        [msgpack.packb({"pi0": VERSION, "type": "error", "id": msgpack.unpackb(frames[0])["id"], "arrays": []})]
    ],
    # what it says it is
    "image size of 10^9": _metadata(image_size=10**9),
    "image size of -1": _metadata(image_size=-1),
    "fps of 1e12": _metadata(fps=1e12),
    "another robot": _metadata(robot=lambda text: text.replace("yaw", "pitch")),
    "a robot that is no YAML": _metadata(robot="{[" * 1000),
    "a robot of 20 000 joints": _metadata(robot=_many_joints),
    "random bytes": lambda frames: [mutated(frames, RANDOM)],
}
HARMLESS = ("wild within the limits", "twenty times")  # with these the robot goes on
REFUSED = ("1e300", "degrees", "one action", "stamp in the future")  # by the controller


def main() -> None:
    """Pass on until killed."""
    address, server, lie_file = sys.argv[1:4]
    context = zmq.Context()
    front, back = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    front.bind(address)
    back.connect(server)
    poller = zmq.Poller()
    poller.register(front, zmq.POLLIN)
    poller.register(back, zmq.POLLIN)
    peer = b""
    while True:
        ready = dict(poller.poll())
        if front in ready:
            peer, *frames = front.recv_multipart()
            back.send_multipart(frames)
        if back in ready:
            name = Path(lie_file).read_text(encoding="utf-8").strip()
            frames = back.recv_multipart()
            for answer in LIES[name](frames) if name else [frames]:
                front.send_multipart([peer, *answer])


if __name__ == "__main__":
    main()
