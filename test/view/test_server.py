"""The server answers GET to its own page only, gives no file away, and whatever is asked it says no in one line."""

from __future__ import annotations

import http.client
import json
import socket
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import looked_at
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi0_ros.cli.main import main
from pi0_ros.view.server import COOKIE, Pictures, Server
from pi0_ros.view.source import Listed, NoFiles, Shown


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An evaluation, beside a picture that is not its own."""
    place = tmp_path_factory.mktemp("served")
    looked_at.evaluation(place / "eval", looked_at.dataset(place / "dataset"), hostile=True)
    (place / "secret.jpg").write_bytes(b"\xff\xd8\xff secret")
    (place / "eval" / "moments" / "link.jpg").symlink_to(place / "secret.jpg")
    (place / "eval" / "moments" / "text.jpg").write_text("root:x:0:0")
    with looked_at.served(place / "eval") as server:
        yield server


def ask(
    server: Server, path: str, method: str = "GET", host: str | None = None, **headers: str
) -> tuple[int, bytes, http.client.HTTPMessage]:
    """Status, body and headers."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
    named = {name.replace("_", "-"): value for name, value in headers.items()} | ({"Host": host} if host else {})
    connection.request(method, path, headers=named)
    answer = connection.getresponse()
    try:
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


def test_only_reading_is_answered_and_only_to_its_own_page(server: Server) -> None:
    assert ask(server, "/api/about")[0] == 200
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert ask(server, "/api/about", method)[0] == 501
    for host in ("evil.example", "evil.example:8090", "localhost.evil.example", "[::2]", "0.0.0.0"):  # DNS rebinding
        assert ask(server, "/api/about", host=host)[0] == 403, host
    for site in ("cross-site", "same-site"):
        for path in ("/api/about", "/file?name=actions.png", "/view.js"):
            assert ask(server, path, Sec_Fetch_Site=site)[0] == 403
        assert ask(server, "/api/about", Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate")[0] == 403
        assert ask(server, "/", Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate")[0] == 200  # a link in some other page


def test_every_answer_says_what_a_browser_may_do_with_it(server: Server) -> None:
    for path in ("/", "/view.js", "/api/about", "/nothing", "/api/episode?n=x"):
        status, body, headers = ask(server, path)
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["Access-Control-Allow-Origin"] is None
        assert int(headers["Content-Length"]) == len(body) > 0, (path, status)
        assert ask(server, path, "HEAD")[1] == b""


@pytest.mark.parametrize(
    "name",
    ["../secret.jpg", "moments/../../secret.jpg", "moments/link.jpg", "moments/text.jpg", "error.json", "/etc/passwd",
     "moments/%2e%2e/x.jpg", "moments/absent.jpg", "moments", "", "moments/\x00.jpg"],
)  # fmt: skip
def test_no_file_is_given_away(server: Server, name: str) -> None:
    status, body, _ = ask(server, f"/file?name={urllib.parse.quote(name)}")
    assert status == 422 and b"secret" not in body.replace(b"secret.jpg", b"") and b"root:" not in body
    assert json.loads(body)["error"]


@settings(max_examples=60)
@given(st.sampled_from(("/api/episode", "/picture", "/file", "/api/episodes", "/")), st.text(max_size=40), st.text())
def test_no_question_makes_it_stumble(server: Server, path: str, name: str, value: str) -> None:
    asked = urllib.parse.urlencode({name: value, "n": value, "frame": value, "name": value}, errors="replace")
    status, body, _ = ask(server, f"{path}?{asked}")
    assert status in (200, 422) and b"Traceback" not in body


def test_half_a_request_keeps_nobody_waiting(server: Server) -> None:
    with socket.create_connection(server.server_address[:2]) as slow:
        slow.sendall(b"GET /api/about HTTP/1.1\r\nHost: loc")
        assert ask(server, "/api/about")[0] == 200


def test_beyond_this_machine_a_token_is_asked_for(tmp_path: Path) -> None:
    run = looked_at.training_run(tmp_path / "run")
    with looked_at.served(run, "0.0.0.0") as server:
        assert f"/?token={server.guard.token}" in server.address
        assert ask(server, "/api/about")[0] == 403
        assert ask(server, "/?token=guessed")[0] == 403
        status, _, headers = ask(server, server.guard.query())
        cookie = headers["Set-Cookie"].split(";")[0]
        assert (
            status == 200 and cookie.startswith(f"{COOKIE}=") and "HttpOnly; SameSite=Strict" in headers["Set-Cookie"]
        )
        assert ask(server, "/api/about", Cookie=cookie)[0] == 200
        assert ask(server, "/api/about", Cookie=f"{COOKIE}=guessed")[0] == 403


class Endless(NoFiles):
    """A source whose pictures are large, and counted."""

    made = 0

    def about(self) -> dict[str, object]:
        return {"kind": "dataset", "title": "endless", "facts": []}

    def listed(self) -> list[Listed]:
        return [Listed(n, f"task {n % 7}", 1.0) for n in range(100_000)]

    def episode(self, number: int) -> dict[str, object]:
        return {}

    def picture(self, number: int, camera: int, frame: int) -> Shown:
        self.made += 1
        return Shown(bytes(1 << 20))


def test_a_long_list_comes_in_pages_and_is_searched() -> None:
    with looked_at.served(Endless()) as server:
        found = json.loads(ask(server, "/api/episodes?from=400&find=TASK%203")[1])
        assert found["found"] == len(range(3, 100_000, 7)) and len(found["rows"]) == 200
        assert found["rows"][0] == [3 + 7 * 400, "task 3", 1.0]


def test_pictures_that_were_looked_at_are_kept_within_bounds() -> None:
    source, pictures = Endless(), Pictures(most=5 << 20)
    for frame in (*range(20), *range(15, 20)):
        pictures.get((0, 0, frame), lambda frame=frame: source.picture(0, 0, frame))  # type: ignore[misc]
    assert source.made == 20 and pictures._bytes <= 5 << 20


def test_a_taken_port_is_said(server: Server, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = looked_at.training_run(tmp_path / "run")
    taken = str(server.server_address[1])
    assert main(["view", str(run), "--port", taken]) == 2
    assert f"port {taken}" in capsys.readouterr().err
    assert main(["view", str(run), "--host", "203.0.113.7"]) == 2
    assert "can't serve on 203.0.113.7" in capsys.readouterr().err
    assert main(["view"]) == 2
    assert "give a path, or --robot" in capsys.readouterr().err
