"""Keys of a policy server and its clients: who may ask, that nobody listens in, that the server is the right one.

CURVE, libzmq's own (http://curvezmq.org). `pi0 keys create` writes two kinds of folders:

    server/            server.key_secret, clients/NAME.key for everyone who may ask
    NAME/              NAME.key_secret, server.key: what the robot NAME needs
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq
import zmq.auth
from zmq.utils.monitor import recv_monitor_message

from pi0_ros.base.errors import InputError

log = logging.getLogger("pi0 serve")
FAILED = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
MAX_NAMES = 1000  # refused keys that are remembered, so that each is said once


@dataclass(frozen=True)
class ServerKeys:
    """What a server needs: its own pair, and the folder of those who may ask. Keys are Z85 text of 40 characters."""

    public: bytes
    secret: bytes
    clients: Path


@dataclass(frozen=True)
class ClientKeys:
    """What a client needs: its own pair, and which server it trusts."""

    public: bytes
    secret: bytes
    server: bytes


def create(folder: Path, clients: Sequence[str]) -> list[Path]:
    """Write the server's keys, where there are none yet, and those of `clients`; returns the folders written.

    InputError for a name that has keys already: they would stop working. Secret files are readable by their owner only.
    """
    server = folder / "server"
    for name in clients:
        if not name.isidentifier() or name == "server":
            raise InputError(f"client '{name}': expected a word of letters, digits and _, and not 'server'")
        if (folder / name).exists() or (server / "clients" / f"{name}.key").exists():
            raise InputError(f"{folder / name}: there are keys of this name; remove them, or take another name")
    written = []
    if not (server / "server.key_secret").exists():
        (server / "clients").mkdir(parents=True, exist_ok=True)
        _write_pair(server, "server")
        written.append(server)
    own = read_server_keys(folder / "server")
    for name in clients:
        (folder / name).mkdir()
        public = _write_pair(folder / name, name)
        (server / "clients" / f"{name}.key").write_bytes(public.read_bytes())
        public.unlink()
        _write_public(folder / name / "server.key", own.public)
        written.append(folder / name)
    return written


def read_server_keys(folder: Path) -> ServerKeys:
    """The folder `server` of `create`; InputError names what is missing."""
    public, secret = _read(folder / "server.key_secret", secret=True)
    if not (folder / "clients").is_dir():
        raise InputError(f"{folder / 'clients'}: no such folder; the public keys of those who may ask belong there")
    return ServerKeys(public, secret, folder / "clients")


def read_client_keys(folder: Path) -> ClientKeys:
    """A client's folder of `create`; InputError names what is missing."""
    secrets = sorted(folder.glob("*.key_secret"))
    if len(secrets) != 1:
        found = f"{len(secrets)} files *.key_secret" if secrets else "no file *.key_secret"
        raise InputError(
            f"{folder}: {found}, expected one: copy the folder that `pi0 keys create` wrote for this robot"
        )
    public, secret = _read(secrets[0], secret=True)
    return ClientKeys(public, secret, _read(folder / "server.key", secret=False)[0])


class AllowList:
    """Who may ask: the public keys in a folder, read again when it changes. A key that may not is said once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: dict[Path, int] = {}
        self._keys: set[bytes] = set()
        self._refused: set[bytes] = set()

    def callback(self, domain: str, key: bytes) -> bool:
        """Whether the client with this public key may ask; called by libzmq's authenticator."""
        self._read_again()
        if key in self._keys:
            return True
        if key not in self._refused and len(self._refused) < MAX_NAMES:
            self._refused.add(key)
            log.warning("refused: a client whose key %s is not in %s", key.decode(), self._folder)
        return False

    def _read_again(self) -> None:
        files = {path: path.stat().st_mtime_ns for path in self._folder.glob("*.key")}
        if files == self._seen:
            return
        keys = set()
        for path in files:
            try:
                keys.add(_read(path, secret=False)[0])
            except InputError as error:
                log.warning("%s", error)
        self._seen, self._keys = files, keys


class Connections:
    """What the connections of one socket came to: failed handshakes and breaks since last asked."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._socket = socket
        self.monitor: zmq.Socket[bytes] = socket.get_monitor_socket(FAILED | zmq.EVENT_DISCONNECTED)
        self._failed = self._broken = 0

    def failed(self) -> int:
        """How many handshakes failed since this was last called."""
        self._read()
        count, self._failed = self._failed, 0
        return count

    def broken(self) -> int:
        """How many connections broke since this was last called; `monitor` is readable when there is news."""
        self._read()
        count, self._broken = self._broken, 0
        return count

    def _read(self) -> None:
        while self.monitor.poll(0):
            if recv_monitor_message(self.monitor, zmq.NOBLOCK)["event"] == zmq.EVENT_DISCONNECTED:
                self._broken += 1
            else:
                self._failed += 1

    def close(self) -> None:
        """Stop watching; before the socket is closed."""
        self._socket.disable_monitor()


def secure_server(socket: zmq.Socket[bytes], keys: ServerKeys) -> None:
    """Before it binds: the socket speaks with those who have keys only."""
    socket.curve_server = True
    socket.curve_publickey, socket.curve_secretkey = keys.public, keys.secret


def secure_client(socket: zmq.Socket[bytes], keys: ClientKeys) -> None:
    """Before it connects: the socket speaks with this server only."""
    socket.curve_serverkey = keys.server
    socket.curve_publickey, socket.curve_secretkey = keys.public, keys.secret


def _write_pair(folder: Path, name: str) -> Path:
    """A new pair: NAME.key and NAME.key_secret; returns the public one's path."""
    before = os.umask(0o077)
    try:
        public, _ = zmq.auth.create_certificates(folder, name)
    finally:
        os.umask(before)
    return Path(public)


def _write_public(path: Path, key: bytes) -> None:
    path.write_text(
        f'# the public key of a policy server\ncurve\n    public-key = "{key.decode()}"\n', encoding="utf-8"
    )


def _read(path: Path, secret: bool) -> tuple[bytes, bytes]:
    """(public, secret) of a file; InputError where it is missing, unreadable or no key."""
    try:
        public, private = zmq.auth.load_certificate(path)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        what = "no such file" if not path.exists() else str(error)
        raise InputError(f"{path}: {what}; `pi0 keys create` writes keys") from None
    if len(public) != 40 or (secret and (private is None or len(private) != 40)):
        raise InputError(f"{path}: no {'secret ' if secret else ''}key is in it; `pi0 keys create` writes keys")
    return public, private or b""


def authenticator(context: Any, keys: ServerKeys) -> Any:
    """libzmq's authenticator in a thread of its own, with the allow-list of `keys`; `stop()` ends it."""
    from zmq.auth.thread import ThreadAuthenticator

    found = ThreadAuthenticator(context)
    found.start()
    found.configure_curve_callback("*", AllowList(keys.clients))
    return found
