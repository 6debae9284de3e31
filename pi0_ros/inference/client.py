"""The robot's side of a policy server: every wait has a time limit, so a dead server is reported."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace

import zmq

from pi0_ros.base.errors import InputError
from pi0_ros.base.foreign import MAX_LINE_CHARS, shortened
from pi0_ros.control.chunk import ActionChunk
from pi0_ros.inference.keys import ClientKeys, Handshakes, secure_client
from pi0_ros.inference.metadata import BackendError, Metadata, check_robot
from pi0_ros.inference.prefix import ActionPrefix
from pi0_ros.inference.protocol import (
    MAX_BYTES,
    UNREADABLE,
    Message,
    ProtocolError,
    decode,
    encode,
    infer_message,
    parse_chunk,
    parse_metadata,
)
from pi0_ros.observation.images import resize_with_pad
from pi0_ros.observation.streams import Observation
from pi0_ros.robot import Robot

SAME_RATE = 1e-3  # of the rate that the server said


class _SessionError(BackendError):
    """The server is not the one that introduced itself."""


class Client:
    """Asks one server, one question at a time; use it from one thread at a time.

    `timeout_s` bounds each question (sending and waiting together). An inference asks up to four: after a server's
    restart the client introduces itself again and repeats the question once. After any failure the socket is thrown
    away and the next call starts with a new one, so nothing stale or wedged survives.
    With `robot` given, a server whose checkpoint is for another robot is refused with RobotMismatchError. With `keys`
    it speaks to the server of these keys only.
    """

    def __init__(
        self, address: str, timeout_s: float = 2.0, robot: Robot | None = None, keys: ClientKeys | None = None
    ) -> None:
        if not timeout_s > 0:
            raise InputError(f"timeout_s is {timeout_s}, expected more than 0")
        self.address = address
        self.timeout_s = timeout_s
        self.metadata: Metadata | None = None  # None while no server has introduced itself on this connection
        self.timing: dict[str, float] = {}  # ms of the last inference: round trip, and the server's own numbers
        self.late_replies = 0
        self._robot, self._keys = robot, keys
        self._handshakes: Handshakes | None = None
        self._name = uuid.uuid4().hex
        self._session = ""
        self._number = 0
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] | None = None
        try:
            self._open()
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise InputError(f"server address '{address}': {error}; expected something like tcp://host:5555") from None

    def hello(self) -> Metadata:
        """Ask the server what it is. BackendError when it does not answer, RobotMismatchError when it does not fit."""
        answer = self._ask(Message("hello", self._next()), "metadata")
        try:
            metadata, session = parse_metadata(answer)
        except ProtocolError as error:
            raise self._fail(f"{error}") from error
        if self._robot is not None:
            check_robot(self._robot, metadata)
        self.metadata, self._session = metadata, session
        return metadata

    def infer(self, observation: Observation, prefix: ActionPrefix | None = None) -> ActionChunk:
        """Predict a chunk that continues `prefix`; BackendError when the server is gone, late or reports an error.

        Images are brought to the model's size here (the very function that the server would use): less to send. Only
        LeRobot's models get them whole, because their resizing needs torch.
        """
        start = time.perf_counter()
        try:
            answer = self._ask_inference(observation, prefix)
        except _SessionError:  # the server was restarted: hear again what it is
            self.metadata = None
            answer = self._ask_inference(observation, prefix)
        try:
            chunk, timing = parse_chunk(answer)
        except ProtocolError as error:
            raise self._fail(f"{error}") from error
        if (metadata := self.metadata) is not None and (problem := _unlike(chunk, metadata)):
            raise self._fail(problem)
        self.timing = {"round_trip_ms": (time.perf_counter() - start) * 1e3, **timing}
        return chunk

    def close(self) -> None:
        """Close socket and context at once, dropping what is unsent; the client cannot be used again."""
        self._drop()
        self._context.destroy(linger=0)

    def _ask_inference(self, observation: Observation, prefix: ActionPrefix | None) -> Message:
        metadata = self.metadata or self.hello()
        if metadata.image_resize == "pillow":
            size = metadata.image_size
            images = {name: resize_with_pad(image, size, size) for name, image in observation.images.items()}
            observation = replace(observation, images=images)
        return self._ask(infer_message(observation, self._session, self._name, self._next(), prefix), "chunk")

    def _ask(self, question: Message, kind: str) -> Message:
        """Send and wait for the answer with the same id, of type `kind`; BackendError for an error, none, nonsense."""
        deadline = time.monotonic() + self.timeout_s
        socket = self._socket or self._open()
        try:
            frames = encode(question)
        except ProtocolError as error:
            raise BackendError(f"observation cannot be sent: {error}") from error
        try:
            if not _ready(socket, zmq.POLLOUT, deadline):
                raise self._fail(self._unreachable())
            socket.send_multipart(frames, zmq.NOBLOCK)
            while True:
                if not _ready(socket, zmq.POLLIN, deadline):
                    raise self._fail(f"no answer within {self.timeout_s:g} s")
                answer = decode(socket.recv_multipart(zmq.NOBLOCK))
                if answer.id in (question.id, UNREADABLE):
                    break
                self.late_replies += 1
        except ProtocolError as error:
            raise self._fail(f"{error}") from error
        except zmq.ZMQError as error:
            raise self._fail(f"{error}") from error
        if answer.type == "error":
            refusal = _SessionError if answer.body.get("code") == "session" else BackendError
            raise refusal(f"server {self.address} reports: {shortened(str(answer.body.get('message')))}")
        if answer.type != kind:
            raise self._fail(f"answered with a message of type '{answer.type}', expected '{kind}'")
        return answer

    def _open(self) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.IMMEDIATE, 1)  # never queue for a server that is not there
        socket.setsockopt(zmq.SNDHWM, 2)
        socket.setsockopt(zmq.RCVHWM, 8)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_BYTES)
        socket.setsockopt(zmq.TCP_KEEPALIVE, 1)  # and no heartbeats: see `server.Server`
        if self._keys is not None:
            secure_client(socket, self._keys)
        self._handshakes = Handshakes(socket)
        try:
            socket.connect(self.address)
        except zmq.ZMQError:
            socket.close(linger=0)
            raise
        self._socket = socket
        return socket

    def _unreachable(self) -> str:
        """Why no connection came about."""
        if self._handshakes is not None and self._handshakes.failed():
            if self._keys is None:
                return "it wants keys (`pi0 keys create` makes them: set `keys`), or it is no `pi0 serve`"
            return "it refused the keys of this robot, has none, or is not the server that `keys` names"
        return f"not reachable within {self.timeout_s:g} s; is `pi0 serve` running there?"

    def _fail(self, reason: str) -> BackendError:
        """Throw the socket away (and with it every late answer) and make the error to raise."""
        self._drop()
        return BackendError(f"server {self.address}: {shortened(reason)}")

    def _drop(self) -> None:
        if self._socket is not None:
            if self._handshakes is not None:
                self._handshakes.close()
            self._socket.close(linger=0)
        self._socket, self._handshakes, self.metadata = None, None, None

    def _next(self) -> int:
        self._number += 1
        return self._number


def _ready(socket: zmq.Socket[bytes], event: int, deadline: float) -> bool:
    """Wait until `event` is possible, at most to `deadline` (of time.monotonic); False behind it, whatever is possible:
    who floods us with answers to other questions is no better than who is silent."""
    left_s = deadline - time.monotonic()
    return left_s > 0 and bool(socket.poll(int(left_s * 1e3), event))


def _unlike(chunk: ActionChunk, metadata: Metadata) -> str:
    """How the chunk differs from what the server said about its policy; "" where it does not."""
    if abs(chunk.dt * metadata.fps - 1.0) > SAME_RATE:
        return f"sent a chunk with {chunk.dt:g} s per action, although it said {metadata.fps:g} actions per second"
    if set(chunk.names) != set(metadata.robot.action_names):
        theirs = shortened(", ".join(map(str, chunk.names)), MAX_LINE_CHARS)
        return f"sent a chunk for {theirs}, although it said {', '.join(metadata.robot.action_names)}"
    return ""
