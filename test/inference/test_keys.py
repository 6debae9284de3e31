"""Keys over real sockets: who has them gets through, everybody else is refused and told."""

from __future__ import annotations

import logging
import stat
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import zmq
from conftest import wait_until
from policy_fixtures import HeldPolicy, observation, serving, tiny_robot

from pi0_ros.inference.client import Client
from pi0_ros.inference.keys import create, read_client_keys, read_server_keys
from pi0_ros.inference.metadata import BackendError
from pi0_ros.inference.server import Server

pytestmark = pytest.mark.skipif(not zmq.has("curve"), reason="libzmq without CURVE")
GENEROUS_S, SHORT_S = 20.0, 1.0


def guarded(folder: Path) -> AbstractContextManager[Server]:
    """A server that speaks with those who have its keys only."""
    return serving(HeldPolicy(), keys=read_server_keys(folder))


def ask(server: Server, folder: Path | None, timeout_s: float = GENEROUS_S) -> None:
    client = Client(server.address, timeout_s, keys=read_client_keys(folder) if folder is not None else None)
    try:
        client.infer(observation(tiny_robot()))
    finally:
        client.close()


def test_who_has_keys_is_answered(tmp_path: Path) -> None:
    create(tmp_path, ["left", "right"])
    with guarded(tmp_path / "server") as server:
        ask(server, tmp_path / "left")
        ask(server, tmp_path / "right")
        assert server.answered == 2


def test_others_are_refused_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    create(tmp_path / "ours", ["left"])
    create(tmp_path / "theirs", ["left"])
    stranger = tmp_path / "stranger"  # knows the server, is not on its list
    stranger.mkdir()
    (stranger / "server.key").write_bytes((tmp_path / "ours/left/server.key").read_bytes())
    (stranger / "left.key_secret").write_bytes((tmp_path / "theirs/left/left.key_secret").read_bytes())
    with caplog.at_level(logging.WARNING), guarded(tmp_path / "ours/server") as server:
        for keys, said in ((None, "it wants keys"), (tmp_path / "theirs/left", "refused"), (stranger, "refused")):
            with pytest.raises(BackendError, match=said):
                ask(server, keys, SHORT_S)
        wait_until(lambda: "without keys that fit" in caplog.text, GENEROUS_S, lambda: caplog.text)
        ask(server, tmp_path / "ours/left")
        assert server.answered == 1
    assert caplog.text.count("refused: a client whose key") == 1
    assert len(caplog.text.splitlines()) < 6, "not a line for every try"


def test_a_server_without_keys_is_not_trusted(tmp_path: Path) -> None:
    create(tmp_path, ["left"])
    with serving(HeldPolicy()) as server:
        with pytest.raises(BackendError, match="refused the keys of this robot, has none"):
            ask(server, tmp_path / "left", SHORT_S)
        ask(server, None)


def test_a_running_server_knows_new_keys_and_forgets_removed_ones(tmp_path: Path) -> None:
    create(tmp_path, ["left"])
    with guarded(tmp_path / "server") as server:
        assert create(tmp_path, ["right"]) == [tmp_path / "right"]
        ask(server, tmp_path / "right")
        (tmp_path / "server/clients/right.key").unlink()
        with pytest.raises(BackendError, match="refused"):
            ask(server, tmp_path / "right", SHORT_S)
        (tmp_path / "server/clients/odd.key").write_text("nothing")
        ask(server, tmp_path / "left")


def test_keys_are_written_once_and_for_their_owner(tmp_path: Path) -> None:
    assert create(tmp_path, ["left"]) == [tmp_path / "server", tmp_path / "left"]
    for secret in tmp_path.rglob("*.key_secret"):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600, secret
    before = (tmp_path / "server/server.key_secret").read_bytes()
    with pytest.raises(ValueError, match="there are keys of this name"):
        create(tmp_path, ["right", "left"])
    assert not (tmp_path / "right").exists() and (tmp_path / "server/server.key_secret").read_bytes() == before
    for name in ("server", "../up", "a b", ""):
        with pytest.raises(ValueError, match="expected a word"):
            create(tmp_path, [name])


def test_folders_that_hold_no_keys_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no file \*\.key_secret"):
        read_client_keys(tmp_path)
    create(tmp_path, ["left"])
    (tmp_path / "left/server.key").write_text("nonsense")
    with pytest.raises(ValueError, match=r"left/server\.key"):
        read_client_keys(tmp_path / "left")
    with pytest.raises(ValueError, match=r"left/server\.key_secret: no such file"):
        read_server_keys(tmp_path / "left")
