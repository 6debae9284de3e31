"""The robot's side of an openpi policy server, stock or ours: every wait has a limit, a dead server is reported."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from pi0_ros.base.errors import InputError
from pi0_ros.base.foreign import shortened
from pi0_ros.base.side_by_side import side_by_side
from pi0_ros.control.chunk import ActionChunk
from pi0_ros.inference.metadata import BackendError, Metadata
from pi0_ros.inference.openpi import OpenpiError, pack, read_answer, unpack, write_observation
from pi0_ros.inference.prefix import ActionPrefix
from pi0_ros.inference.protocol import MAX_BYTES
from pi0_ros.observation.images import resize_with_pad
from pi0_ros.observation.streams import Observation
from pi0_ros.robot import Robot

SIDE = 224  # pixels of the images that openpi's robots send


class OpenpiClient:
    """Asks one openpi server, one question at a time; use it from one thread at a time.

    `timeout_s` bounds connecting, sending and waiting together. After any failure the connection is thrown away and the
    next question makes a new one, so no late answer is taken for another question's. Images are resized here as
    openpi's robots do it. A stock server says nothing about joints, rates or horizon: the robot file's `dataset_fps` is
    taken, and the width of its answers is checked. It cannot continue a chunk.
    """

    def __init__(self, address: str, robot: Robot, timeout_s: float = 2.0, token: str = "") -> None:
        if not address.startswith(("ws://", "wss://")):
            raise InputError(f"server address '{address}': expected something like ws://gpu-box:8000")
        if not timeout_s > 0:
            raise InputError(f"timeout_s is {timeout_s}, expected more than 0")
        self.address, self.timeout_s = address, timeout_s
        self.metadata: Metadata | None = None  # None until a first answer came
        self.timing: dict[str, float] = {}
        self._robot, self._token = robot, token
        self._connection: ClientConnection | None = None

    def infer(self, observation: Observation, prefix: ActionPrefix | None = None) -> ActionChunk:
        """Predict a chunk; BackendError when the server is gone, late or reports an error."""
        if prefix is not None:
            raise InputError("an openpi server cannot continue a chunk: set rtc.mode to off")
        begin = time.perf_counter()
        seen = observation.images
        small = partial(resize_with_pad, height=SIDE, width=SIDE)
        images = dict(zip(seen, side_by_side(small, list(seen.values()))))
        question = pack(write_observation(replace(observation, images=images), self._robot))
        prepared = time.perf_counter()
        data = self._ask(question, time.monotonic() + self.timeout_s)
        try:
            answer = read_answer(unpack(data), self._robot, observation.state)
        except OpenpiError as error:
            raise self._fail(str(error)) from error
        fps = self._robot.dataset_fps
        self.metadata = Metadata(
            checkpoint=self.address,
            model="openpi server",
            robot=self._robot,
            horizon=len(answer.actions),
            fps=fps,
            image_size=SIDE,
        )
        self.timing = {
            "prepare_ms": (prepared - begin) * 1e3,
            "model_ms": answer.infer_ms,
            "total_ms": answer.infer_ms,
            "round_trip_ms": (time.perf_counter() - prepared) * 1e3,
        }
        return ActionChunk(observation.stamp_ns, round(1e9 / fps), answer.actions, self._robot.action_names)

    def close(self) -> None:
        """Leave the server."""
        self._drop()

    def _ask(self, question: bytes, deadline: float) -> bytes:
        try:
            connection = self._connection or self._open(deadline)
            connection.send(question)
            data = connection.recv(timeout=max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            raise self._fail(f"no answer within {self.timeout_s:g} s") from None
        except (OSError, WebSocketException) as error:
            raise self._fail(f"{shortened(str(error), 300)}; does an openpi server run there?") from error
        if isinstance(data, str):
            raise self._fail(f"reports: {shortened(data.strip().splitlines()[-1] if data.strip() else data)}")
        return data

    def _open(self, deadline: float) -> ClientConnection:
        left = max(0.01, deadline - time.monotonic())
        headers = {"Authorization": f"Api-Key {self._token}"} if self._token else None
        connection = connect(
            self.address,
            open_timeout=left,
            close_timeout=0.5,
            additional_headers=headers,
            compression=None,
            max_size=MAX_BYTES,
            proxy=None,
        )
        self._connection = connection
        hello = connection.recv(timeout=max(0.0, deadline - time.monotonic()))
        if isinstance(hello, str):
            raise self._fail(f"reports: {shortened(hello)}")
        return connection

    def _fail(self, reason: str) -> BackendError:
        """Throw the connection away (and with it every late answer) and make the error to raise."""
        self._drop()
        return BackendError(f"server {self.address}: {reason}")

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
