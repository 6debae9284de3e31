"""A policy behind openpi's websocket, so that `openpi-client` and the robots that use it run unchanged.

The first message is a map that describes the server; then each observation is answered by actions, or by a text that
says what is wrong, after which the connection lives on. `GET /healthz` answers OK.
"""

from __future__ import annotations

import hmac
import http
import logging
import ssl
import threading
import time
from pathlib import Path

from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

from pi0_ros.base.errors import InputError, Pi0Error
from pi0_ros.base.foreign import shortened
from pi0_ros.inference.backend import Backend
from pi0_ros.inference.openpi import OpenpiError, describe, pack, read_observation, unpack, write_answer
from pi0_ros.inference.protocol import MAX_BYTES
from pi0_ros.inference.refusals import Bugs, Refusals

log = logging.getLogger("pi0 serve")
MAX_CLIENTS = 64


class OpenpiServer:
    """Answers openpi's clients in threads of its own, from `start` to `close`; the policy takes them in turns.

    `policy.infer` must be safe from several threads. With a `token` a client must send it as `Authorization: Api-Key
    TOKEN` (openpi-client's `api_key`) or `Bearer TOKEN`. Browsers, which name their page's origin, are refused.
    """

    def __init__(
        self, policy: Backend, host: str, port: int, *, token: str = "", tls: ssl.SSLContext | None = None
    ) -> None:
        self.policy = policy
        self.answered = 0
        self.refusals = Refusals(log)
        self._bugs = Bugs(log)
        self._token = token
        self._clients: set[ServerConnection] = set()
        self._lock = threading.Lock()
        self._draining, self._busy = False, 0  # how many observations are being answered
        try:
            self._server: Server = serve(
                self._talk,
                host,
                port,
                ssl=tls,
                origins=[None],
                process_request=self._admit,
                compression=None,
                close_timeout=1.0,
                max_size=MAX_BYTES,
                logger=logging.getLogger("pi0 serve.websocket"),
            )
        except OSError as error:
            raise InputError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
        logging.getLogger("pi0 serve.websocket").setLevel(logging.CRITICAL)  # we say ourselves what matters
        self.port = int(self._server.socket.getsockname()[1])
        self.address = f"{'wss' if tls else 'ws'}://{host}:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="websocket", daemon=True)

    @property
    def refused(self) -> int:
        """Observations and clients refused."""
        return self.refusals.count

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def drain(self, timeout_s: float = 10.0) -> None:
        """Take no more clients and no more observations; return when what was taken is answered."""
        self._draining = True
        deadline = time.monotonic() + timeout_s
        while self._busy and time.monotonic() < deadline:
            time.sleep(0.02)

    def close(self) -> None:
        """Take no more clients and part from those that are connected."""
        self._server.shutdown()
        with self._lock:
            clients = list(self._clients)
        for connection in clients:
            connection.close(1001)  # going away
        if self._thread.is_alive():
            self._thread.join(5.0)

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        if request.path == "/healthz" and not self._draining:
            return connection.respond(http.HTTPStatus.OK, "OK\n")
        if self._draining:
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "this server stops\n")
        given = request.headers.get("Authorization", "")
        if self._token and not any(
            hmac.compare_digest(given.encode(), f"{scheme} {self._token}".encode()) for scheme in ("Api-Key", "Bearer")
        ):
            self._say("a client without the right token", connection)
            return connection.respond(http.HTTPStatus.UNAUTHORIZED, "this server wants a token\n")
        if len(self._clients) >= MAX_CLIENTS:
            self._say(f"a client, {MAX_CLIENTS} are connected", connection)
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "too many clients\n")
        return None

    def _talk(self, connection: ServerConnection) -> None:
        with self._lock:
            self._clients.add(connection)
        try:
            metadata = self.policy.metadata
            if metadata is None:
                connection.send("the policy behind this server has not been reached yet")
                return
            log.info("websocket client %s", _who(connection))
            connection.send(pack(describe(metadata)))
            previous_ms: float | None = None
            for data in connection:
                begin = time.perf_counter()
                with self._lock:
                    if self._draining:
                        return
                    self._busy += 1
                try:
                    connection.send(self._answer(data, previous_ms))
                finally:
                    with self._lock:
                        self._busy -= 1
                previous_ms = (time.perf_counter() - begin) * 1e3
        except ConnectionClosed:
            pass
        except OSError as error:
            log.debug("websocket: %s", error)
        finally:
            with self._lock:
                self._clients.discard(connection)

    def _answer(self, data: str | bytes, previous_ms: float | None) -> str | bytes:
        """Actions as bytes, or a text that says why there are none."""
        begin = time.perf_counter()
        try:
            if isinstance(data, str):
                raise OpenpiError("text came, expected an observation in msgpack")
            assert self.policy.metadata is not None
            robot = self.policy.metadata.robot
            observation = read_observation(unpack(data), robot, time.time_ns())
            chunk = self.policy.infer(observation)
            answer = write_answer(chunk, robot, observation.state, self.policy.timing)
        except Pi0Error as error:
            return self._refuse(str(error))
        except Exception as error:  # a robot waits for the answer: say what happened and live on
            self._bugs.say("inference failed", error)
            return self._refuse(f"{type(error).__name__}: {error}")
        answer["server_timing"] = {"infer_ms": (time.perf_counter() - begin) * 1e3}
        if previous_ms is not None:
            answer["server_timing"]["prev_total_ms"] = previous_ms
        with self._lock:
            self.answered += 1
        return pack(answer)

    def _refuse(self, text: str) -> str:
        with self._lock:
            self.refusals.say("websocket", text)
        return shortened(text)

    def _say(self, what: str, connection: ServerConnection) -> None:
        host = _who(connection).rpartition(":")[0]
        with self._lock:
            self.refusals.say("websocket", f"{what} ({host})")


def _who(connection: ServerConnection) -> str:
    address = connection.remote_address
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else "?"


def read_tls(certificate: Path, key: Path) -> ssl.SSLContext:
    """What a server shows its clients, from PEM files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise InputError(f"--tls-cert {certificate}, --tls-key {key}: {error}") from None
    return context
