"""The robot's side of a policy server: every wait has a time limit, so a dead server is reported."""

from __future__ import annotations

import math
import time
import uuid
from dataclasses import replace
from functools import partial
from typing import Any

import zmq

from pi0_ros.base.choices import IMAGE_CODINGS
from pi0_ros.base.errors import InputError
from pi0_ros.base.foreign import MAX_LINE_CHARS, shortened
from pi0_ros.base.side_by_side import side_by_side
from pi0_ros.control.chunk import ActionChunk
from pi0_ros.inference.clocks import ClockEstimate, Delays, Exchange
from pi0_ros.inference.keys import ClientKeys, Connections, secure_client
from pi0_ros.inference.metadata import BackendError, Metadata, check_robot, check_same
from pi0_ros.inference.parts import SentParts
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
    stamps_of,
)
from pi0_ros.observation.fitting import fit
from pi0_ros.observation.jpeg import encode_jpeg
from pi0_ros.observation.streams import Observation
from pi0_ros.robot import Robot

SAME_RATE = 1e-3  # of the rate that the server said
RECONNECT_MS, RECONNECT_MAX_MS = 100, 2000  # first wait before connecting again, and the longest: it doubles
CONNECT_MS, HANDSHAKE_MS = 1000, 5000


class ServerError(BackendError):
    """The server answered that it cannot: `code` is the protocol's."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Client:
    """Asks one server, one question at a time; use it from one thread at a time.

    `timeout_s` bounds an inference with all that belongs to it: after a server's restart the client introduces itself
    again and repeats the question, and pictures that the server no longer holds are sent again. After any failure the
    socket is thrown away and the next call starts with a new one, so nothing stale or wedged survives; only a server
    that is not reachable keeps its socket, which tries again at longer and longer intervals.
    With `robot` given, a server whose checkpoint is for another robot is refused with RobotMismatchError, and so is one
    that serves another policy than `expected`, which is what the first server said. With `keys` it speaks to the server
    of these keys only.

    `image_coding`: `raw` makes pictures here as small as the model needs them (openpi's resize to the last bit,
    LeRobot's to one grey level), `jpeg` compresses those, `whole` sends what the camera gave. A picture that has not
    changed is named only. `connect_s` bounds the wait for a connection, within the time of the question.
    """

    def __init__(
        self,
        address: str,
        timeout_s: float = 2.0,
        robot: Robot | None = None,
        keys: ClientKeys | None = None,
        image_coding: str = "raw",
        connect_s: float = math.inf,
    ) -> None:
        if not timeout_s > 0:
            raise InputError(f"timeout_s is {timeout_s}, expected more than 0")
        if image_coding not in IMAGE_CODINGS:
            raise InputError(f"image_coding is {image_coding!r}, expected one of {', '.join(IMAGE_CODINGS)}")
        self.address = address
        self.timeout_s = timeout_s
        self.metadata: Metadata | None = None  # None while no server has introduced itself on this connection
        self.expected: Metadata | None = None  # what any server must be like
        self.timing: dict[str, float] = {}  # ms of the last inference by stage
        self.late_replies = 0
        self.sent_bytes = 0  # of the last question
        self.delays = Delays()
        self._clocks = ClockEstimate()
        self._robot, self._keys, self._coding, self._connect_s = robot, keys, image_coding, connect_s
        self._connections: Connections | None = None
        self._parts = SentParts()
        self._name = uuid.uuid4().hex
        self._session = ""
        self._number = 0
        self._fit_ms = 0.0
        self._greeting: tuple[Message, int, float] | None = None  # a hello under way: itself, when sent, until when
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] | None = None
        try:
            self._open()
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise InputError(f"server address '{address}': {error}; expected something like tcp://host:5555") from None

    def hello(self, deadline: float | None = None) -> Metadata:
        """Ask the server what it is. BackendError when it does not answer, RobotMismatchError when it does not fit."""
        until = deadline if deadline is not None else time.monotonic() + self.timeout_s
        return self._introduced(self._ask(Message("hello", self._next()), "metadata", until))

    def status(self) -> dict[str, Any]:
        """The server's numbers as plain data; BackendError when it does not answer."""
        answer = self._ask(Message("status", self._next()), "status", time.monotonic() + self.timeout_s)
        found = answer.body.get("status")
        if not isinstance(found, dict):
            raise self._fail("answered without a status")
        return found

    def infer(self, observation: Observation, prefix: ActionPrefix | None = None) -> ActionChunk:
        """Predict a chunk that continues `prefix`; BackendError when the server is gone, late or reports an error."""
        return self.infer_by(time.monotonic() + self.timeout_s, observation, prefix)

    def infer_by(self, deadline: float, observation: Observation, prefix: ActionPrefix | None = None) -> ActionChunk:
        """The same, with an answer until `deadline` (of time.monotonic) or BackendError."""
        start = time.perf_counter()
        try:
            answer = self._ask_inference(observation, prefix, deadline)
        except ServerError as error:
            if error.code == "session":  # the server was restarted: hear again what it is
                self.metadata = None
            elif error.code != "parts":  # it no longer holds what it was not sent again
                raise
            self._parts.forget()
            answer = self._ask_inference(observation, prefix, deadline)
        try:
            chunk, timing = parse_chunk(answer)
        except ProtocolError as error:
            raise self._fail(f"{error}") from error
        if (metadata := self.metadata) is not None and (problem := _unlike(chunk, metadata)):
            raise self._fail(problem)
        self.timing = {"fit_ms": self._fit_ms, "round_trip_ms": (time.perf_counter() - start) * 1e3, **timing}
        return chunk

    def greet(self) -> bool:
        """Whether the server has introduced itself and is there; makes a step towards that and never waits.

        RobotMismatchError where it is there and does not fit.
        """
        socket = self._socket or self._open()
        if self.metadata is not None:
            return bool(socket.poll(0, zmq.POLLOUT))
        if self._greeting is None:
            if socket.poll(0, zmq.POLLOUT):
                question = Message("hello", self._next())
                socket.send_multipart(encode(question), zmq.NOBLOCK)
                self._greeting = question, time.time_ns(), time.monotonic() + self.timeout_s
            return False
        question, sent_ns, until = self._greeting
        try:
            while socket.poll(0, zmq.POLLIN):
                answer = decode(socket.recv_multipart(zmq.NOBLOCK))
                if answer.id in (question.id, UNREADABLE):
                    self._greeting = None
                    self._note(answer, sent_ns)
                    self._introduced(self._checked(answer, "metadata"))
                    return True
        except ServerError:
            return False
        except (ProtocolError, zmq.ZMQError) as error:
            self._fail(f"{error}")
        if time.monotonic() > until:
            self._drop()
        return False

    def close(self) -> None:
        """Close socket and context at once, dropping what is unsent; the client cannot be used again."""
        self._drop()
        self._context.destroy(linger=0)

    def _introduced(self, answer: Message) -> Metadata:
        try:
            metadata, session = parse_metadata(answer)
        except ProtocolError as error:
            raise self._fail(f"{error}") from error
        if self._robot is not None:
            check_robot(self._robot, metadata)
        if self.expected is not None:
            check_same(self.expected, metadata)
        self.metadata = self.expected = metadata
        self._session = session
        self._parts.forget()
        return metadata

    def _ask_inference(self, observation: Observation, prefix: ActionPrefix | None, deadline: float) -> Message:
        metadata = self.metadata or self.hello(deadline)
        images, number = observation.images, self._next()
        begin = time.perf_counter()
        same = self._parts.same(images)
        new = {name: image for name, image in images.items() if name not in same}
        if self._coding != "whole":
            small = partial(fit, size=metadata.image_size, resize=metadata.image_resize)
            new = dict(zip(new, side_by_side(small, list(new.values()))))
        jpegs = dict(zip(new, side_by_side(encode_jpeg, list(new.values())))) if self._coding == "jpeg" else {}
        self._fit_ms = (time.perf_counter() - begin) * 1e3
        sent = replace(observation, images={} if jpegs else new)
        question = infer_message(sent, self._session, self._name, number, prefix, jpegs, same)
        answer = self._ask(question, "chunk", deadline)
        self._parts.answered(images, same, number)
        return answer

    def _ask(self, question: Message, kind: str, deadline: float) -> Message:
        """Send and wait for the answer with the same id, of type `kind`; BackendError for an error, none, nonsense."""
        began = time.monotonic()
        socket = self._socket or self._open()
        self._greeting = None
        try:
            frames = encode(question)
        except ProtocolError as error:
            raise BackendError(f"observation cannot be sent: {error}") from error
        try:
            connected_by = min(deadline, began + self._connect_s)
            if not _ready(socket, zmq.POLLOUT, connected_by):
                raise self._unreachable(connected_by - began)
            assert self._connections is not None
            self._connections.broken()  # those before this question
            sent_ns = time.time_ns()
            socket.send_multipart(frames, zmq.NOBLOCK)
            self.sent_bytes = sum(memoryview(frame).nbytes for frame in frames)
            while True:
                if not _ready(socket, zmq.POLLIN, deadline, self._connections.monitor):
                    if self._connections.broken():
                        raise self._fail("the connection broke before the answer came")
                    if time.monotonic() < deadline:
                        continue
                    raise self._fail(f"no answer within {deadline - began:.2g} s")
                answer = decode(socket.recv_multipart(zmq.NOBLOCK))
                if answer.id in (question.id, UNREADABLE):
                    break
                self.late_replies += 1
        except ProtocolError as error:
            raise self._fail(f"{error}") from error
        except zmq.ZMQError as error:
            raise self._fail(f"{error}") from error
        self._note(answer, sent_ns)
        return self._checked(answer, kind)

    def _checked(self, answer: Message, kind: str) -> Message:
        if answer.type == "error":
            code, text = str(answer.body.get("code")), shortened(str(answer.body.get("message")))
            raise ServerError(code, f"server {self.address} reports: {text}")
        if answer.type != kind:
            raise self._fail(f"answered with a message of type '{answer.type}', expected '{kind}'")
        return answer

    def _note(self, answer: Message, sent_ns: int) -> None:
        """Learn from an answer how far away the server is."""
        if (stamps := stamps_of(answer)) is not None:
            self.delays = self._clocks.add(Exchange(sent_ns, *stamps, time.time_ns()))

    def _open(self) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.IMMEDIATE, 1)  # never queue for a server that is not there
        socket.setsockopt(zmq.SNDHWM, 2)
        socket.setsockopt(zmq.RCVHWM, 8)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_BYTES)
        socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
        socket.setsockopt(zmq.CONNECT_TIMEOUT, CONNECT_MS)  # the kernel's own waits double up to minutes
        socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        socket.setsockopt(zmq.TCP_KEEPALIVE, 1)  # and no heartbeats: see `server.Server`
        if self._keys is not None:
            secure_client(socket, self._keys)
        self._connections = Connections(socket)
        try:
            socket.connect(self.address)
        except zmq.ZMQError:
            socket.close(linger=0)
            raise
        self._socket = socket
        return socket

    def _unreachable(self, waited_s: float) -> BackendError:
        """Why no connection came about. Nothing was sent, so the socket goes on trying where nobody refused it."""
        self.metadata = None
        if self._connections is not None and self._connections.failed():
            if self._keys is None:
                return self._fail("it wants keys (`pi0 keys create` makes them: set `keys`), or it is no `pi0 serve`")
            return self._fail("it refused the keys of this robot, has none, or is not the server that `keys` names")
        return BackendError(
            f"server {self.address}: not reachable within {waited_s:.2g} s; is `pi0 serve` running there?"
        )

    def _fail(self, reason: str) -> BackendError:
        """Throw the socket away (and with it every late answer) and make the error to raise."""
        self._drop()
        return BackendError(f"server {self.address}: {shortened(reason)}")

    def _drop(self) -> None:
        if self._socket is not None:
            if self._connections is not None:
                self._connections.close()
            self._socket.close(linger=0)
        self._socket, self._connections, self.metadata, self._greeting = None, None, None, None
        self._parts.forget()

    def _next(self) -> int:
        self._number += 1
        return self._number


def _ready(socket: zmq.Socket[bytes], event: int, deadline: float, monitor: zmq.Socket[bytes] | None = None) -> bool:
    """Wait until `event` is possible, at most to `deadline` (of time.monotonic) or until `monitor` has news.

    False behind the deadline, whatever is possible: a peer that talks without end must not keep us.
    """
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        return False
    poller = zmq.Poller()
    poller.register(socket, event)
    if monitor is not None:
        poller.register(monitor, zmq.POLLIN)
    return socket in dict(poller.poll(math.ceil(left_s * 1e3)))


def _unlike(chunk: ActionChunk, metadata: Metadata) -> str:
    """How the chunk differs from what the server said about its policy; "" where it does not."""
    if abs(chunk.dt * metadata.fps - 1.0) > SAME_RATE:
        return f"sent a chunk with {chunk.dt:g} s per action, although it said {metadata.fps:g} actions per second"
    if set(chunk.names) != set(metadata.robot.action_names):
        theirs = shortened(", ".join(map(str, chunk.names)), MAX_LINE_CHARS)
        return f"sent a chunk for {theirs}, although it said {', '.join(metadata.robot.action_names)}"
    return ""
