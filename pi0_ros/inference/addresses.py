"""Addresses that a server listens on, and whether only this machine reaches them."""

from __future__ import annotations

import ipaddress

from pi0_ros.base.errors import InputError


def parse_port(option: str, text: str) -> tuple[str, int]:
    """`8000` or `HOST:8000` -> host and port; this machine only where no host is given."""
    host, colon, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > 65535 or (colon and not host):
        raise InputError(f"{option} {text}: expected a port or HOST:PORT, such as 8000 or 0.0.0.0:8000")
    return host.strip("[]") or "127.0.0.1", int(port)


def is_local(host: str) -> bool:
    """Whether only this machine reaches a server on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_local_endpoint(endpoint: str) -> bool:
    """The same of an address of ZeroMQ: `tcp://127.0.0.1:5555`, `ipc:///tmp/policy`."""
    transport, _, rest = endpoint.partition("://")
    return transport in ("ipc", "inproc") or (transport == "tcp" and is_local(rest.rpartition(":")[0].strip("[]")))
