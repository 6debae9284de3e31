"""Who may speak to the browser view: the page that it served itself, opened under a name of this machine.

A browser lets every page of the web open a WebSocket to this machine, and a robot is armed through it. So each request
must name this server in `Host` (a foreign name that resolves to us is refused), each WebSocket must come from our own
page (`Origin`), and both carry a cookie that a foreign page can neither read nor send. On loopback the page itself
hands the cookie out; when it is served to the network, the address must carry the token once: `http://HOST:PORT/?token=...`.
The bar on top of the page (`top_bar.py`) asks by requests with that cookie and a header that no foreign page can send.
"""

from __future__ import annotations

import contextlib
import hmac
import http
import ipaddress
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pi0_ros.monitor.top_bar import TopBar, with_bar

COOKIE = "pi0_view"
HEADER = ("X-Pi0", "view")  # of the bar's requests: a foreign page must ask before it sends such, and gets no answer
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_PATCHING = threading.Lock()  # viser offers no hook: its `serve` is wrapped while it starts


@dataclass(frozen=True)
class Guard:
    """Judges requests to the view that is served on `host`."""

    host: str = "127.0.0.1"
    token: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    names: frozenset[str] = field(default_factory=lambda: frozenset({socket.gethostname(), socket.getfqdn()}))
    cookie_name: str = COOKIE

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the view."""
        return self.host in LOOPBACK

    def query(self) -> str:
        """What the address must end with: nothing on loopback."""
        return "" if self.is_local else f"/?token={self.token}"

    def refusal(self, headers: Any, path: str) -> str | None:
        """Why a request is refused, None where it is not; `headers` has `get`, `path` is the request's target."""
        host = headers.get("Host") or ""
        if not self._is_ours(_name(host)):
            return f"this view is not called {host[:100]!r}: open it under localhost or this machine's name or address"
        if not self.is_local and not (self._has_cookie(headers) or self._has_token(path)):
            return "open the address that the viewer printed, with its token"
        if path.startswith("/pi0/") and headers.get(HEADER[0]) != HEADER[1]:
            return "only the view's own page may ask this"
        if path.startswith("/pi0/") and not self._has_cookie(headers):
            return "the page is of an earlier run: load it again"
        if (headers.get("Upgrade") or "").lower() == "websocket":
            origin = urlsplit(headers.get("Origin") or "")
            if origin.scheme not in ("http", "https") or origin.netloc != host:
                return "only the view's own page may speak to it"
            if not self._has_cookie(headers):
                return "the page is of an earlier run: load it again"
        return None

    def cookie(self) -> str:
        """The value of the header Set-Cookie."""
        return f"{self.cookie_name}={self.token}; HttpOnly; SameSite=Strict; Path=/"

    def _is_ours(self, name: str) -> bool:
        if name in LOOPBACK:
            return True
        if self.is_local:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in {known.lower() for known in self.names}
        return True

    def _has_cookie(self, headers: Any) -> bool:
        ours = self.token.encode()
        pairs = (part.strip().partition("=") for part in (headers.get("Cookie") or "").split(";"))
        return any(key == self.cookie_name and hmac.compare_digest(value.encode(), ours) for key, _, value in pairs)

    def _has_token(self, path: str) -> bool:
        given = parse_qs(urlsplit(path).query).get("token", [""])[0]
        return hmac.compare_digest(given.encode(), self.token.encode())


def _name(host: str) -> str:
    """`[::1]:8080` -> `::1`, `Localhost:80` -> `localhost`."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


@contextlib.contextmanager
def guarded(guard: Guard, bar: TopBar) -> Iterator[None]:
    """Whatever viser server starts inside this block asks `guard` about every request; `bar` is in its page."""
    import websockets.asyncio.server as server

    original = server.serve

    def serve(handler: Any, *args: Any, process_request: Any = None, **options: Any) -> Any:
        return original(handler, *args, process_request=_asking(guard, bar, process_request), **options)

    with _PATCHING:
        server.serve = serve  # type: ignore[assignment,misc]
        try:
            yield
        finally:
            server.serve = original  # type: ignore[misc]


def _asking(guard: Guard, bar: TopBar, page: Callable[[Any, Any], Any] | None) -> Callable[[Any, Any], Any]:
    """`process_request` of websockets: the guard first, then the bar, then viser's own `page`."""

    def process(connection: Any, request: Any) -> Any:
        try:
            reason = guard.refusal(request.headers, request.path)
        except LookupError as error:  # a header that must stand once stands twice
            reason = f"the request is ambiguous: {error}"
        if reason is not None:
            return connection.respond(http.HTTPStatus.FORBIDDEN, f"{reason}\n")
        if (answer := bar.answer(request.path)) is not None:
            response = connection.respond(http.HTTPStatus.OK, answer)
            response.headers["Cache-Control"] = "no-store"
            return response
        if "Accept-Encoding" in request.headers:  # the bar is written into plain text
            del request.headers["Accept-Encoding"]
        response = page(connection, request) if page is not None else None
        if response is not None:
            if response.headers.get("Content-Type", "").startswith("text/html"):
                response.body = with_bar(response.body.decode()).encode()
                del response.headers["Content-Length"]
                response.headers["Content-Length"] = str(len(response.body))
            response.headers["Set-Cookie"] = guard.cookie()
            response.headers["Content-Security-Policy"] = "frame-ancestors 'none'"
            response.headers["X-Frame-Options"] = "DENY"
            response.headers["Referrer-Policy"] = "no-referrer"
        return response

    return process
