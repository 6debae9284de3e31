"""Foreign pages and foreign texts reach the browser view, but never the robot."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

viser = pytest.importorskip("viser")
from websockets.exceptions import InvalidStatus  # noqa: E402
from websockets.sync.client import connect  # noqa: E402

from pi0_ros.monitor.offers import Offer  # noqa: E402
from pi0_ros.monitor.panel import Actions, Health, Panel  # noqa: E402
from pi0_ros.monitor.panel_text import SHOWN, as_text  # noqa: E402
from pi0_ros.monitor.top_bar import STATE_PATH, STOP_PATH, Standing, TopBar, with_bar  # noqa: E402
from pi0_ros.monitor.web_guard import COOKIE, Guard, guarded  # noqa: E402

CHROMIUM = next((found for name in ("chromium", "chromium-browser") if (found := shutil.which(name))), None)
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--use-gl=angle", "--use-angle=swiftshader"),
    *("--enable-unsafe-swiftshader", "--virtual-time-budget=12000", "--timeout=20000", "--dump-dom"),
)


@pytest.fixture
def pressed() -> list[str]:
    """What the buttons were asked to do."""
    return []


@pytest.fixture
def view(pressed: list[str]) -> Iterator[tuple[viser.ViserServer, Panel, Guard]]:
    guard = Guard()
    with guarded(guard, TopBar(lambda: Standing("RUNNING"), lambda: pressed.append("estop"))):
        server = viser.ViserServer(host="127.0.0.1", port=18200, verbose=False)
    actions = Actions(pressed.append, pressed.append, pressed.append, lambda what, on: None)
    yield server, Panel(server, "arm", ["fold it"], actions), guard
    server.stop()


def get(port: int, path: str = "/", **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path, headers=headers)
    return connection.getresponse()


def refused(port: int, origin: str, cookie: str, host: str | None = None) -> bool:
    """Whether a WebSocket that a page of `origin` opens is refused."""
    headers = {"Cookie": cookie} | ({"Host": host} if host else {})
    try:
        with connect(
            f"ws://127.0.0.1:{port}",
            origin=origin,  # type: ignore[arg-type]
            additional_headers=headers,
            subprotocols=[f"viser-v{viser.__version__}"],  # type: ignore[list-item]
        ):
            return False
    except InvalidStatus as error:
        assert error.response.status_code == 403
        return True


def test_only_its_own_page_may_speak_to_the_view(view: tuple[viser.ViserServer, Panel, Guard]) -> None:
    port, cookie = view[0].get_port(), f"{COOKIE}={view[2].token}"
    ours = f"http://127.0.0.1:{port}"
    assert not refused(port, ours, cookie)
    assert refused(port, "https://evil.example", cookie)
    assert refused(port, "null", cookie)  # a page from a file, or in a sandboxed frame
    assert refused(port, "http://localhost:3000", cookie)  # another page of this very machine
    assert refused(port, ours, "")
    assert refused(port, ours, f"{COOKIE}=guessed")
    assert refused(port, "http://evil.example", cookie, host="evil.example")  # two names at once
    asked = {"Upgrade": "websocket", "Connection": "Upgrade", "Cookie": cookie, "Origin": "http://evil.example"}
    assert get(port, Host="evil.example", **asked).status == 403  # a foreign name that was made to lead here


def test_the_page_is_served_under_this_machines_names_only(view: tuple[viser.ViserServer, Panel, Guard]) -> None:
    port = view[0].get_port()
    answer = get(port)
    assert answer.status == 200
    assert "HttpOnly; SameSite=Strict" in (answer.getheader("Set-Cookie") or "")
    assert answer.getheader("X-Frame-Options") == "DENY"
    refusal = get(port, Host="evil.example")
    assert refusal.status == 403 and b"open it under localhost" in refusal.read()


def test_only_its_own_page_may_stop_the_robot_or_ask_how_it_stands(
    view: tuple[viser.ViserServer, Panel, Guard], pressed: list[str]
) -> None:
    port, ours = view[0].get_port(), {"Cookie": f"{COOKIE}={view[2].token}", "X-Pi0": "view"}
    for path in (STATE_PATH, STOP_PATH, f"{STOP_PATH}?x=1"):
        for missing in ({}, {"X-Pi0": "view"}, {"Cookie": ours["Cookie"]}, {**ours, "Cookie": f"{COOKIE}=guessed"}):
            assert get(port, path, **missing).status == 403, (path, missing)
    assert get(port, STOP_PATH, Host="evil.example", **ours).status == 403
    assert pressed == []
    assert json.loads(get(port, STATE_PATH, **ours).read())["state"] == "RUNNING"
    assert get(port, STOP_PATH, **ours).status == 200 and pressed == ["estop"]
    assert get(port, "/pi0/else", **ours).status == 404


def test_the_bar_is_in_the_page_whatever_the_browser_can_unpack(view: tuple[viser.ViserServer, Panel, Guard]) -> None:
    answer = get(view[0].get_port(), "/", **{"Accept-Encoding": "gzip, br"})
    page = answer.read().decode()
    assert 'id="pi0-stop"' in page.partition("<body>")[2] and len(page.encode()) == int(
        answer.getheader("Content-Length") or 0
    )
    assert 'id="pi0-stop"' in with_bar("a page without a body")


def test_beyond_this_machine_the_address_carries_a_token() -> None:
    guard = Guard("0.0.0.0")
    asked = {"Host": "192.0.2.7:8080"}
    assert guard.query() == f"/?token={guard.token}"
    assert guard.refusal(asked, "/") is not None
    assert guard.refusal(asked, "/?token=guessed") is not None
    assert guard.refusal(asked, f"/?token={guard.token}") is None
    assert guard.refusal({**asked, "Cookie": guard.cookie()}, "/") is None
    assert guard.refusal({"Host": "evil.example"}, f"/?token={guard.token}") is not None
    assert Guard().query() == ""


@given(st.text(), st.text(), st.text())
def test_no_header_makes_the_guard_stumble(host: str, origin: str, cookie: str) -> None:
    headers = {"Host": host, "Origin": origin, "Cookie": cookie, "Upgrade": "websocket"}
    assert Guard().refusal(headers, f"/?{origin}") is not None


@given(st.text(max_size=2 * SHOWN))
def test_text_stays_text(text: str) -> None:
    shown = as_text(text)
    assert "<" not in shown and ">" not in shown and '"' not in shown
    assert len(shown) <= 6 * (SHOWN + 4)


HOSTILE = [
    "<img src=x onerror=\"document.title='PWNED'\">",
    "<script>document.title='PWNED'</script>",
    "{(() => { document.title = 'PWNED'; return 1 })()}",
    "[x](javascript:document.title='PWNED')\n\n# x",
    "<svg onload=document.title='PWNED'>",
]


def page_of(address: str, profile: Path, drawn: str) -> str:
    """The page's DOM after its scripts ran for some seconds; on a busy machine again, until it holds `drawn`.

    No run may have opened the socket from a foreign page, or run a text.
    """
    assert CHROMIUM is not None
    command = [CHROMIUM, *OPTIONS, f"--user-data-dir={profile}", address]
    for _ in range(5):
        dom = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
        assert "<title>PWNED" not in dom and "<title>OPENED" not in dom
        if drawn in dom:
            return dom
    raise AssertionError(f"the page never held {drawn!r}")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
@pytest.mark.parametrize("text", HOSTILE)
def test_a_browser_runs_no_text_that_is_shown(
    text: str, view: tuple[viser.ViserServer, Panel, Guard], tmp_path: Path
) -> None:
    server, panel, _ = view
    panel.show_headline(text, text, Offer((), text))
    panel.show_health([Health(text, 2, text)])
    server.gui.add_button(text)  # a prompt of the robot file
    page_of(f"http://127.0.0.1:{server.get_port()}", tmp_path / "profile", drawn="fold it")


FOREIGN = """<!doctype html><title>waiting</title><script>
const socket = new WebSocket("ws://127.0.0.1:{port}", ["viser-v{version}"]);
socket.onopen = () => document.title = "OPENED";
socket.onerror = () => document.title = "REFUSED";
fetch("http://127.0.0.1:{port}/pi0/stop", {{headers: {{"X-Pi0": "view"}}, credentials: "include"}});
fetch("http://127.0.0.1:{port}/pi0/stop", {{mode: "no-cors", credentials: "include"}});
</script><img src="http://127.0.0.1:{port}/pi0/stop"><iframe src="http://127.0.0.1:{port}/"></iframe>"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_a_foreign_page_in_a_browser_cannot_press_a_button(
    view: tuple[viser.ViserServer, Panel, Guard], pressed: list[str], tmp_path: Path
) -> None:
    port = view[0].get_port()
    page_of(
        f"http://127.0.0.1:{port}", tmp_path / "profile", drawn="fold it"
    )  # a person has the view open: its cookie is there
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text(FOREIGN.format(port=port, version=viser.__version__))
    site = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "site")))
    threading.Thread(target=site.serve_forever, daemon=True).start()
    try:
        page_of(f"http://127.0.0.1:{site.server_port}/", tmp_path / "profile", drawn="<title>REFUSED")
    finally:
        site.shutdown()
    assert not pressed
