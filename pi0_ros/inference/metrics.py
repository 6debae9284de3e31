"""`/metrics` for Prometheus and `/healthz` for whoever balances load, over plain HTTP; they only read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pi0_ros.base.errors import InputError
from pi0_ros.inference.numbers import as_prometheus

TIMEOUT_S = 5.0  # of a request: slow ones hold nobody up
MAX_AT_ONCE = 16


class MetricsServer:
    """Answers in threads of its own, from `start` to `close`; `look` is `Server.look`."""

    def __init__(self, look: Callable[[], Mapping[str, Any]], host: str, port: int) -> None:
        try:
            self._server = _Limited((host, port), _handler(look))
        except OSError as error:
            raise InputError(f"--metrics: cannot listen on {host}:{port}: {error.strerror or error}") from None
        self.address = f"http://{host}:{self._server.server_address[1]}/metrics"
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join(5.0)
        self._server.server_close()


class _Limited(ThreadingHTTPServer):
    """A server with so many threads at most; more connections are closed at once."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._room = threading.Semaphore(MAX_AT_ONCE)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve it where there is room."""
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """One request, in its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left or spoke nonsense is no news."""


def _handler(look: Callable[[], Mapping[str, Any]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = TIMEOUT_S
        server_version, sys_version = "pi0_ros", ""

        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, as_prometheus(look()), "text/plain; version=0.0.4; charset=utf-8")
            elif self.path == "/healthz":
                state = str(look()["state"])
                self._answer(200 if state == "ready" else 503, f"{'OK' if state == 'ready' else state}\n")
            else:
                self._answer(404, "there are /metrics and /healthz\n")

        def _answer(self, status: int, text: str, kind: str = "text/plain; charset=utf-8") -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: it is asked every few seconds."""

    return Handler
