"""A policy behind a ZeroMQ socket: whatever a client sends is answered or dropped. `pi0 serve` runs it."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue
from typing import Any

import zmq

from pi0_ros.base.errors import InputError, Pi0Error
from pi0_ros.control.chunk import ActionChunk
from pi0_ros.inference.backend import Backend, InfersMany, Request
from pi0_ros.inference.keys import Connections, ServerKeys, authenticator, secure_server
from pi0_ros.inference.numbers import ServerNumbers
from pi0_ros.inference.parts import HeldParts
from pi0_ros.inference.prefix import ActionPrefix
from pi0_ros.inference.protocol import (
    DEFAULT_ADDRESS,
    MAX_BYTES,
    UNREADABLE,
    Message,
    PartsError,
    ProtocolError,
    VersionError,
    chunk_message,
    decode,
    encode,
    error_message,
    metadata_message,
    parse_observation,
    parse_prefix,
    stamped,
)
from pi0_ros.inference.refusals import Bugs, Refusals
from pi0_ros.inference.waiting import Question, Waiting
from pi0_ros.observation.streams import Observation

log = logging.getLogger("pi0 serve")
POLL_MS = 100  # how long a stop request may go unnoticed
MAX_BATCH = 64  # messages read in one round
REPORT_S = 10.0
DRAIN_S = 10.0  # longest time to answer what was taken before the stop
LISTEN_S = 0.2  # so long a stopped server still says no to those who just asked


class Server:
    """One policy, one ROUTER socket. Whatever a client sends is answered or dropped; no client can end the server.

    One thread (`run`) owns the socket and always reads, whatever the policy does; `threads` others infer, for which the
    policy must be safe. Of each client only the newest question waits, it has given up on the others; clients take
    turns. With `batch` up to so many questions that wait together are inferred together. libzmq aborts the process when
    a connection that nobody reads from breaks while it heartbeats (zeromq/libzmq#3937), so the socket is never left
    unread, sends no heartbeats, and finds dead peers by TCP's keep-alive. With `keys` only clients on its list get
    through to it, encrypted.
    """

    def __init__(
        self,
        policy: Backend,
        bind: str = DEFAULT_ADDRESS,
        keys: ServerKeys | None = None,
        *,
        threads: int = 1,
        batch: int = 1,
    ) -> None:
        if batch > 1 and not isinstance(policy, InfersMany):
            raise InputError("batch: this policy takes one question at a time")
        self.policy = policy
        self.session = uuid.uuid4().hex
        self.numbers = ServerNumbers(self.session)
        self.refusals = Refusals(log)
        self._bugs = Bugs(log)
        self._threads, self._batch = threads, batch
        self._waiting, self._held = Waiting(), HeldParts()
        self._done: SimpleQueue[tuple[Question, Message]] = SimpleQueue()
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDTIMEO, 0)  # an answer that its client does not take is dropped
        self._socket.setsockopt(zmq.SNDHWM, 16)
        self._socket.setsockopt(zmq.RCVHWM, 1000)  # of small questions; large ones are bounded by MAX_BYTES
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_BYTES)
        self._socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
        self._socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, 5)
        self._socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, 2)
        self._socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, 3)
        self._guard = authenticator(self._context, keys) if keys is not None else None
        if keys is not None:
            secure_server(self._socket, keys)
        self._connections = Connections(self._socket)
        self._strangers, self._strangers_said = 0, -REPORT_S
        self._results: zmq.Socket[bytes] = self._context.socket(zmq.PULL)  # wakes the poll below
        self._results.bind("inproc://results")
        try:
            self._socket.bind(bind)
        except zmq.ZMQError as error:
            self.close()
            raise InputError(f"cannot bind '{bind}': {error}; expected something like {DEFAULT_ADDRESS}") from None
        endpoint = self._socket.getsockopt(zmq.LAST_ENDPOINT)  # with the port that "*" became
        self.address = endpoint.decode().rstrip("\0") if isinstance(endpoint, bytes) else bind

    @property
    def answered(self) -> int:
        """Chunks sent."""
        return self.numbers.answered

    @property
    def refused(self) -> int:
        """Questions answered by an error, and connections refused."""
        return self.refusals.count

    def look(self) -> dict[str, Any]:
        """The server's numbers as plain data; from any thread."""
        return self.numbers.look(self.policy.metadata, len(self._waiting), dict(self.refusals.by_code))

    def run(self, stop: Callable[[], bool]) -> None:
        """Answer until `stop()` is true, then answer what was taken, refuse what is new, and return."""
        workers = [threading.Thread(target=self._infer_forever, name=f"inference {n}") for n in range(self._threads)]
        for worker in workers:
            worker.start()
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._results, zmq.POLLIN)
        try:
            self._answer_while(poller, lambda: not stop())
            self.numbers.draining = True
            began = time.monotonic()
            self._answer_while(
                poller,
                lambda: time.monotonic() - began < (LISTEN_S if self._waiting.idle and self._done.empty() else DRAIN_S),
            )
        finally:
            self._waiting.close()
            for worker in workers:
                worker.join()
            self._send_results()
            self.refusals.report()

    def close(self) -> None:
        """Free the socket; after `run` has returned."""
        if self._guard is not None:
            self._guard.stop()
        self._connections.close()
        self._context.destroy(linger=0)

    def _answer_while(self, poller: zmq.Poller, go_on: Callable[[], bool]) -> None:
        reported, answered = time.monotonic(), self.answered
        while go_on():
            poller.poll(POLL_MS)
            self._read()
            self._send_results()
            self._count_strangers()
            if time.monotonic() - reported >= REPORT_S:
                if self.answered > answered:
                    last_ms = self.policy.timing.get("total_ms", float("nan"))
                    log.info("%d chunks, last %.0f ms, %d refused", self.answered, last_ms, self.refused)
                self.refusals.report()
                reported, answered = time.monotonic(), self.answered

    def _count_strangers(self) -> None:
        """Connections that failed before a word was said: other keys, none, or another protocol. Said now and then."""
        self._strangers += self._connections.failed()
        if self._strangers and time.monotonic() - self._strangers_said >= REPORT_S:
            text = "connection(s) without keys that fit, or of another protocol"
            self.refusals.say("connection", text, self._strangers)
            self._strangers, self._strangers_said = 0, time.monotonic()

    def _read(self) -> None:
        """Take what came in, `MAX_BATCH` messages at most; inferences wait for their turn, the rest is answered."""
        for _ in range(MAX_BATCH):
            try:
                peer, *frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            received_ns = time.time_ns()
            number = UNREADABLE
            try:
                message = decode(frames)
                number = message.id
                self._take(Question(peer, message, sum(map(len, frames)), received_ns, time.monotonic()))
            except VersionError as error:
                self._refuse(peer, "version", str(error), UNREADABLE, received_ns)
            except PartsError as error:
                self._refuse(peer, "parts", str(error), number, received_ns)
            except ProtocolError as error:
                self._refuse(peer, "bad_request", str(error), number, received_ns)

    def _take(self, question: Question) -> None:
        peer, message, received_ns = question.peer, question.message, question.received_ns
        if message.type == "hello":
            if self.numbers.draining:
                self._refuse(peer, "stopping", "this server stops", message.id, received_ns)
            elif (metadata := self.policy.metadata) is None:
                text = "the policy behind this server has not been reached yet"
                self._refuse(peer, "hello", text, message.id, received_ns)
            else:
                self._send(peer, metadata_message(metadata, self.session, message.id), received_ns)
        elif message.type == "status":
            self._send(peer, Message("status", message.id, {"status": self.look()}), received_ns)
        elif message.type != "infer":
            self._refuse(peer, "bad_request", f"'{message.type}' is not a question", message.id, received_ns)
        elif message.body.get("session") != self.session:
            self._refuse(peer, "session", "the server was restarted: say hello first", message.id, received_ns)
        elif self.numbers.draining:
            self._refuse(peer, "stopping", "this server stops", message.id, received_ns)
        else:
            client = _client(question)
            self.numbers.heard(client)
            whole = self._held.complete(client, message)
            refusal = self._waiting.put(client, Question(peer, whole, question.size, received_ns, question.received))
            if refusal:
                self._refuse(peer, "busy", refusal, message.id, received_ns)

    def _infer_forever(self) -> None:
        """Another thread: one question after the other, or a few together, as their clients came."""
        wake: zmq.Socket[bytes] = self._context.socket(zmq.PUSH)
        wake.setsockopt(zmq.LINGER, 0)
        wake.connect("inproc://results")
        try:
            while questions := self._waiting.take(self._batch):
                for pair in zip(questions, self._infer(questions)):
                    self._done.put(pair)
                self._waiting.done(len(questions))
                wake.send(b"")
        finally:
            wake.close()

    def _infer(self, questions: Sequence[Question]) -> list[Message]:
        """The answers to questions: chunks, or errors in words."""
        began = time.monotonic()
        read = [self._understand(question.message) for question in questions]
        good = [request for request in read if not isinstance(request, str)]
        made = iter(self._infer_all(good))
        answers = []
        for question, request in zip(questions, read):
            found = request if isinstance(request, str) else next(made)
            if isinstance(found, str):
                answers.append(error_message("infer", found, question.message.id))
            else:
                chunk, timing = found
                waited_ms = (began - question.received) * 1e3
                self.numbers.inferred(waited_ms, timing.get("total_ms", (time.monotonic() - began) * 1e3))
                answers.append(chunk_message(chunk, {**timing, "wait_ms": waited_ms}, question.message.id))
        return answers

    def _understand(self, message: Message) -> Request | str:
        """What the policy is asked, or why nothing can be asked."""
        try:
            return parse_observation(message), parse_prefix(message)
        except Pi0Error as error:
            return str(error)
        except Exception as error:  # whatever one client sends, the thread goes on for the others
            self._bugs.say("a question was not understood", error)
            return f"{type(error).__name__}: {error}"

    def _infer_all(self, requests: Sequence[Request]) -> list[tuple[ActionChunk, Mapping[str, float]] | str]:
        """Chunks with their timing, together where that is possible, or what went wrong with each."""
        if len(requests) > 1 and isinstance(self.policy, InfersMany):
            try:
                chunks = self.policy.infer_many(requests)
            except Exception as error:  # one of them spoils it for all: each is tried for itself
                log.debug("inferred one by one: %s", error)
            else:
                self.numbers.inferences += 1
                return [(chunk, self.policy.timing) for chunk in chunks]
        return [self._infer_one(*request) for request in requests]

    def _infer_one(
        self, observation: Observation, prefix: ActionPrefix | None
    ) -> tuple[ActionChunk, Mapping[str, float]] | str:
        try:
            chunk = self.policy.infer(observation, prefix)
        except Pi0Error as error:
            return str(error)
        except Exception as error:  # a robot waits for the answer: say what happened and live on
            self._bugs.say("inference failed", error)
            return f"{type(error).__name__}: {error}"
        self.numbers.inferences += 1
        return chunk, self.policy.timing

    def _send_results(self) -> None:
        while self._results.poll(0):
            self._results.recv(zmq.NOBLOCK)
        while not self._done.empty():
            question, message = self._done.get()
            if message.type == "error":
                self.refusals.say(str(message.body["code"]), str(message.body["message"]))
            else:
                self.numbers.answered += 1
            self._send(question.peer, message, question.received_ns)

    def _refuse(self, peer: bytes, code: str, text: str, number: int, received_ns: int) -> None:
        self.refusals.say(code, text)
        self._send(peer, error_message(code, text, number), received_ns)

    def _send(self, peer: bytes, message: Message, received_ns: int) -> None:
        try:
            frames = encode(stamped(message, received_ns, time.time_ns()))
            self._socket.send_multipart([peer, *frames])
        except zmq.ZMQError as error:  # the client is gone or takes nothing; there is nobody to tell
            log.debug("answer dropped: %s", error)


def _client(question: Question) -> str:
    """Who asks: the name survives a client's change of sockets."""
    return str(question.message.body.get("client", question.peer))
