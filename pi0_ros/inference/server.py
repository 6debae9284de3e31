"""A policy behind a ZeroMQ socket: whatever a client sends is answered or dropped. `pi0 serve` runs it."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from queue import SimpleQueue

import zmq

from pi0_ros.base.errors import InputError, Pi0Error
from pi0_ros.inference.backend import Backend
from pi0_ros.inference.keys import Handshakes, ServerKeys, authenticator, secure_server
from pi0_ros.inference.protocol import (
    DEFAULT_ADDRESS,
    MAX_BYTES,
    UNREADABLE,
    Message,
    ProtocolError,
    VersionError,
    chunk_message,
    decode,
    encode,
    error_message,
    metadata_message,
    parse_observation,
    parse_prefix,
)

log = logging.getLogger("pi0 serve")
POLL_MS = 100  # how long a stop request may go unnoticed
MAX_BATCH = 64  # messages read in one round
MAX_WAITING = 256  # clients whose question waits ...
MAX_WAITING_BYTES = 512 << 20  # ... and what their questions may weigh together
REPORT_S = 10.0


class Server:
    """One policy, one ROUTER socket. Whatever a client sends is answered or dropped; no client can end the server.

    One thread (`run`) owns the socket and always reads, whatever the policy does; a second one infers. Of each client
    only the newest question waits, it has given up on the others; clients take turns. libzmq aborts the process when a
    connection that nobody reads from breaks while it heartbeats (zeromq/libzmq#3937), so the socket is never left
    unread, sends no heartbeats, and finds dead peers by TCP's keep-alive. With `keys` only clients on its list get
    through to it, encrypted.
    """

    def __init__(self, policy: Backend, bind: str = DEFAULT_ADDRESS, keys: ServerKeys | None = None) -> None:
        self.policy = policy
        self.session = uuid.uuid4().hex
        self.answered = 0
        self.refused = 0
        self._waiting: OrderedDict[str, tuple[bytes, Message, int]] = (
            OrderedDict()
        )  # client: its newest question, bytes
        self._work = threading.Condition()
        self._done: SimpleQueue[tuple[bytes, Message]] = SimpleQueue()
        self._stopping = False
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
        self._handshakes = Handshakes(self._socket)
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

    def run(self, stop: Callable[[], bool]) -> None:
        """Answer until `stop()` is true; an inference under way is waited for."""
        worker = threading.Thread(target=self._infer_forever, name="inference")
        worker.start()
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._results, zmq.POLLIN)
        reported, answered = time.monotonic(), 0
        try:
            while not stop():
                poller.poll(POLL_MS)
                self._read()
                self._send_results()
                self._count_strangers()
                if time.monotonic() - reported >= REPORT_S:
                    if self.answered > answered:
                        last_ms = self.policy.timing.get("total_ms", float("nan"))
                        log.info("%d chunks, last %.0f ms, %d refused", self.answered, last_ms, self.refused)
                    reported, answered = time.monotonic(), self.answered
        finally:
            with self._work:
                self._stopping = True
                self._work.notify()
            worker.join()
            self._send_results()

    def close(self) -> None:
        if self._guard is not None:
            self._guard.stop()
        self._handshakes.close()
        self._context.destroy(linger=0)

    def _count_strangers(self) -> None:
        """Connections that failed before a word was said: other keys, none, or another protocol. Said now and then."""
        self._strangers += self._handshakes.failed()
        if self._strangers and time.monotonic() - self._strangers_said >= REPORT_S:
            log.warning("refused: %d connection(s) without keys that fit, or of another protocol", self._strangers)
            self.refused += self._strangers
            self._strangers, self._strangers_said = 0, time.monotonic()

    def _read(self) -> None:
        """Take what came in, `MAX_BATCH` messages at most; inferences wait for their turn, the rest is answered."""
        for _ in range(MAX_BATCH):
            try:
                peer, *frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                self._take(peer, decode(frames), sum(map(len, frames)))
            except VersionError as error:
                self._refuse(peer, "version", str(error), UNREADABLE)
            except ProtocolError as error:
                self._refuse(peer, "bad_request", str(error), UNREADABLE)

    def _take(self, peer: bytes, message: Message, size: int) -> None:
        if message.type == "hello":
            if (metadata := self.policy.metadata) is None:
                self._refuse(peer, "hello", "the policy behind this server has not been reached yet", message.id)
            else:
                self._send(peer, metadata_message(metadata, self.session, message.id))
        elif message.type != "infer":
            self._refuse(peer, "bad_request", f"'{message.type}' is not a question", message.id)
        elif message.body.get("session") != self.session:
            self._refuse(peer, "session", "the server was restarted: say hello first", message.id)
        else:
            client = _client(peer, message)
            with self._work:
                others = {name: weight for name, (_, _, weight) in self._waiting.items() if name != client}
                if len(others) < MAX_WAITING and sum(others.values()) + size <= MAX_WAITING_BYTES:
                    self._waiting[client] = peer, message, size
                    self._work.notify()
                    return
            self._refuse(peer, "busy", f"{len(others)} other clients are waiting", message.id)

    def _infer_forever(self) -> None:
        """The second thread: one question after the other, in the order in which their clients came."""
        wake: zmq.Socket[bytes] = self._context.socket(zmq.PUSH)
        wake.setsockopt(zmq.LINGER, 0)
        wake.connect("inproc://results")
        try:
            while True:
                with self._work:
                    self._work.wait_for(lambda: self._waiting or self._stopping)
                    if self._stopping:
                        return
                    _, (peer, message, _) = self._waiting.popitem(last=False)
                self._done.put((peer, self._infer(message)))
                wake.send(b"")
        finally:
            wake.close()

    def _infer(self, message: Message) -> Message:
        """The answer to a question: a chunk, or an error in words."""
        try:
            chunk = self.policy.infer(parse_observation(message), parse_prefix(message))
        except Pi0Error as error:
            return error_message("infer", str(error), message.id)
        except Exception as error:  # a robot waits for the answer: say what happened and live on
            log.exception("inference failed")
            return error_message("infer", f"{type(error).__name__}: {error}", message.id)
        return chunk_message(chunk, self.policy.timing, message.id)

    def _send_results(self) -> None:
        while self._results.poll(0):
            self._results.recv(zmq.NOBLOCK)
        while not self._done.empty():
            peer, message = self._done.get()
            if message.type == "error":
                self.refused += 1
                log.warning("refused: %.500s", message.body.get("message"))
            else:
                self.answered += 1
            self._send(peer, message)

    def _refuse(self, peer: bytes, code: str, text: str, number: int) -> None:
        self.refused += 1
        log.warning("refused: %.500s", text)
        self._send(peer, error_message(code, text, number))

    def _send(self, peer: bytes, message: Message) -> None:
        try:
            self._socket.send_multipart([peer, *encode(message)])
        except zmq.ZMQError as error:  # the client is gone or takes nothing; there is nobody to tell
            log.debug("answer dropped: %s", error)


def _client(peer: bytes, message: Message) -> str:
    """Who asks: the name survives a client's change of sockets."""
    return str(message.body.get("client", peer))
