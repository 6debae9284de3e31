"""The web server of `pi0 view PATH`: a page of our own, JSON and pictures. It answers GET and changes nothing.

On this machine only, unless told otherwise; beyond it the address must carry a token (`monitor/web_guard.py`). A name
that is not this machine's is refused, so is a request that a page of another site caused, and the page may load
nothing from elsewhere and run no script but its own file.
"""

from __future__ import annotations

import json
import socket
import threading
from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pi0_ros.base.errors import InputError
from pi0_ros.monitor.web_guard import Guard
from pi0_ros.view.source import PAGE, NoPictureYetError, Shown, Source

FOLDER = Path(__file__).parent / "page"
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
OWN = {f"/{path.name}": path for path in FOLDER.iterdir() if path.suffix in TYPES and path.name != "index.html"}
OWN["/"] = FOLDER / "index.html"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
OUR_PAGES = ("same-origin", "none", "")  # Sec-Fetch-Site: of our page, typed by a person, of an older browser
KEPT_BYTES = 48 << 20  # of pictures that were looked at
REQUEST_S = 30.0  # until a request must be there
MOST_AT_ONCE = 8  # requests; more wait
COOKIE = "pi0_view_files"  # cookies know no ports: the live view has one, too


class Pictures:
    """The pictures that were looked at last, within a number of bytes."""

    def __init__(self, most: int = KEPT_BYTES) -> None:
        self._kept: OrderedDict[tuple[int, ...], Shown] = OrderedDict()
        self._bytes, self._most, self._lock = 0, most, threading.Lock()

    def get(self, key: tuple[int, ...], make: Callable[[], Shown]) -> Shown:
        """The picture of this key, made where it is not kept."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        found = make()
        with self._lock:
            if key not in self._kept:
                self._kept[key] = found
                self._bytes += len(found.data)
            while self._bytes > self._most and len(self._kept) > 1:
                self._bytes -= len(self._kept.popitem(last=False)[1].data)
        return found


class Server(ThreadingHTTPServer):
    """Serves one source."""

    daemon_threads = True

    def __init__(self, source: Source, host: str, port: int) -> None:
        """Port 0: any that is free. Raises `InputError` where host or port can't be had."""
        self.source, self.pictures = source, Pictures()
        self.guard = Guard(host, cookie_name=COOKIE)
        self.places = threading.BoundedSemaphore(MOST_AT_ONCE)
        self.reading = threading.Lock()  # one picture or episode at a time: memory stays what one needs
        if ":" in host:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((host, port), Handler)
        except (OSError, OverflowError) as error:
            raise InputError(
                f"can't serve on {host}, port {port}: {error}; choose others by --host and --port"
            ) from error

    @property
    def address(self) -> str:
        """What to open in a browser."""
        host, port = self.guard.host, self.server_address[1]
        shown = {"0.0.0.0": "localhost", "::": "localhost"}.get(host, f"[{host}]" if ":" in host else host)
        return f"http://{shown}:{port}{self.guard.query()}"

    def server_bind(self) -> None:
        """Without the look-up of this machine's name, which may take long."""
        socket.socket.bind(self.socket, self.server_address)
        self.server_address = self.socket.getsockname()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away in the middle is no news."""


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    timeout = REQUEST_S
    server: Server

    def do_GET(self) -> None:
        """Ours, or refused."""
        with self.server.places:
            try:
                refusal = self.server.guard.refusal(self._headers(), self.path)
            except LookupError as error:
                refusal = str(error)
            if refusal is None and self.headers.get("Sec-Fetch-Site", "") not in OUR_PAGES:
                refusal = "only the view's own page may ask for this"
                if self.headers.get("Sec-Fetch-Mode") == "navigate" and urlsplit(self.path).path == "/":
                    refusal = None  # a link to the page, which shows itself only
            if refusal is not None:
                self._send(HTTPStatus.FORBIDDEN, f"{refusal}\n".encode(), "text/plain; charset=utf-8")
                return
            try:
                self._answer()
            except NoPictureYetError as nothing:
                self._json({"error": str(nothing)})
            except (InputError, OSError, ValueError, KeyError) as error:
                self._json({"error": _in_words(error)[:2000]}, HTTPStatus.UNPROCESSABLE_ENTITY)

    def do_HEAD(self) -> None:
        """The same without its body."""
        self.do_GET()

    def _headers(self) -> Any:
        """Refuses two of what must stand once. Raises `LookupError`."""
        for name in ("Host", "Cookie", "Origin"):
            if len(self.headers.get_all(name) or ()) > 1:
                raise LookupError(f"{name} stands twice")
        return self.headers

    def _answer(self) -> None:
        address = urlsplit(self.path)
        asked = {key: values[0] for key, values in parse_qs(address.query).items()}
        source, server = self.server.source, self.server
        if address.path in OWN:
            path = OWN[address.path]
            self._send(HTTPStatus.OK, path.read_bytes(), f"{TYPES[path.suffix]}; charset=utf-8")
        elif address.path == "/api/about":
            with server.reading:
                found = source.about()
            self._json({**found, "episodes": len(source.listed())})
        elif address.path == "/api/episodes":
            self._json(self._listed(_whole(asked, "from"), asked.get("find", "").casefold()))
        elif address.path == "/api/episode":
            with server.reading:
                found = source.episode(_whole(asked, "n"))
            self._json(found)
        elif address.path == "/picture":
            key = _whole(asked, "n"), _whole(asked, "camera"), _whole(asked, "frame")

            def read() -> Shown:
                with server.reading:
                    return source.picture(*key)

            self._picture(server.pictures.get(key, read))
        elif address.path == "/file":
            self._picture(source.file(asked.get("name", "")))
        else:
            self._send(HTTPStatus.NOT_FOUND, b"there is nothing here\n", "text/plain; charset=utf-8")

    def _listed(self, start: int, find: str) -> dict[str, Any]:
        found = [each for each in self.server.source.listed() if find in f"{each.number} {each.text}".casefold()]
        rows = [[each.number, each.text[:300], each.seconds] for each in found[start : start + PAGE]]
        return {"found": len(found), "rows": rows}

    def _picture(self, shown: Shown) -> None:
        age = {} if shown.age_s is None else {"X-Age-S": f"{shown.age_s:.3f}"}
        self._send(HTTPStatus.OK, shown.data, shown.kind, age)

    def _json(self, content: Any, status: HTTPStatus = HTTPStatus.OK) -> None:
        text = json.dumps(content, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        self._send(status, text.encode("utf-8", "replace"), "application/json; charset=utf-8")

    def _send(self, status: HTTPStatus, body: bytes, kind: str, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        own = {"Content-Type": kind, "Content-Length": str(len(body)), "Cache-Control": "no-store"}
        if not self.server.guard.is_local and status == HTTPStatus.OK:
            own["Set-Cookie"] = self.server.guard.cookie()
        for name, value in {**HEADERS, **own, **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def version_string(self) -> str:
        """No word about the interpreter."""
        return "pi0"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a scrub asks hundreds of times."""


def _in_words(error: Exception) -> str:
    """What a person is told: our sentences as they are, of others what is wrong and with which file."""
    if isinstance(error, InputError):
        return str(error)
    if why := getattr(error, "strerror", None):  # of the system, and of FFmpeg
        name = getattr(error, "filename", None)
        return f"{name}: can't be read: {why}" if name else f"can't be read: {why}"
    return f"can't be read: {error!r}"


def _whole(asked: dict[str, str], name: str) -> int:
    text = asked.get(name, "0")
    if not (text.isascii() and text.isdecimal() and len(text) < 12):
        raise InputError(f"{name} must be a number")
    return int(text)
