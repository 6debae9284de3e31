"""A link between two network namespaces with a delay, a rate, losses and cuts: packets go through this program.

Linux's `netem` does the same in the kernel, where the kernel has it; this needs /dev/net/tun and root only. Real TCP of
the kernel runs on both sides: what is lost is sent again, as on a real link.

    with SlowLink(Conditions(delay_ms=10, mbit=20)) as link:
        subprocess.Popen(link.inside("b", ["python", "server.py"]))   # on link.address_b
        subprocess.Popen(link.inside("a", ["python", "client.py"]))
        link.cut(10.0)
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import multiprocessing
import os
import random
import select
import struct
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
CLONE_NEWNET = 0x40000000
QUEUE_S = 0.25  # of the bottleneck: what would wait longer is dropped
PACKET = 2048


@dataclass(frozen=True)
class Conditions:
    """Of each direction."""

    delay_ms: float = 0.0
    mbit: float = 1000.0  # per second
    loss: float = 0.0  # of packets, 0 .. 1


def possible() -> str:
    """ "" where this machine can do it, or why not."""
    if os.geteuid() != 0:
        return "only root makes network namespaces"
    if not Path("/dev/net/tun").exists():
        return "there is no /dev/net/tun"
    found = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True)
    return f"ip netns: {found.stderr.strip()}" if found.returncode else ""


class SlowLink:
    """Two namespaces, `a` and `b`, and the link between them; gone after the `with`."""

    def __init__(self, conditions: Conditions, seed: int = 0) -> None:
        tag = f"pi0{os.getpid() % 100000}"
        self.names = {"a": f"{tag}a", "b": f"{tag}b"}
        octet = os.getpid() % 250 + 1
        self.address_a, self.address_b = f"10.77.{octet}.1", f"10.77.{octet}.2"
        self._conditions, self._seed = conditions, seed
        self._cut_until: Synchronized[float] = multiprocessing.Value("d", 0.0)
        self._process: multiprocessing.Process | None = None

    def __enter__(self) -> SlowLink:
        ready = multiprocessing.Event()
        try:
            for name in self.names.values():
                _ip("netns", "add", name)
                _ip("-n", name, "link", "set", "lo", "up")
            self._process = multiprocessing.Process(
                target=_forward,
                args=(list(self.names.values()), self._conditions, self._cut_until, ready, self._seed),
                daemon=True,
            )
            self._process.start()
            if not ready.wait(30.0):
                raise RuntimeError("the link did not come up")
            addresses = (self.address_a, self.address_b), (self.address_b, self.address_a)
            for name, (here, there) in zip(self.names.values(), addresses):
                _ip("-n", name, "addr", "add", here, "peer", there, "dev", "slow")
                _ip("-n", name, "link", "set", "slow", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.join()
        for name in self.names.values():
            subprocess.run(["ip", "netns", "del", name], capture_output=True)

    def inside(self, end: str, argv: Sequence[str]) -> list[str]:
        """The command that runs `argv` at that end of the link."""
        return ["ip", "netns", "exec", self.names[end], *argv]

    def cut(self, seconds: float) -> None:
        """From now on nothing passes for so long."""
        self._cut_until.value = time.monotonic() + seconds


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")


def _tunnel(namespace: str) -> int:
    """A file descriptor through which the packets of the device `slow` of that namespace go."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/var/run/netns/{namespace}") as file:  # noqa: PTH123 - its descriptor is wanted
        if libc.setns(file.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH", b"slow", IFF_TUN | IFF_NO_PI))
    return descriptor


def _forward(names: list[str], conditions: Conditions, cut_until: Synchronized[float], ready, seed: int) -> None:  # type: ignore[no-untyped-def]
    """The process between the two ends."""
    if os.geteuid() == 0:
        os.nice(-10)  # a link does not wait for its turn
    ends = [_tunnel(name) for name in names]
    ready.set()
    chance, free = random.Random(seed), [0.0, 0.0]
    waiting: list[tuple[float, int, int, bytes]] = []  # due, number, to which end, packet
    number, bytes_per_s = 0, conditions.mbit * 1e6 / 8
    while True:
        now = time.monotonic()
        timeout = max(0.0, waiting[0][0] - now) if waiting else 1.0
        for readable in select.select(ends, [], [], timeout)[0]:
            side = ends.index(readable)
            for _ in range(64):
                try:
                    packet = os.read(readable, PACKET)
                except BlockingIOError:
                    break
                now = time.monotonic()
                leaves = max(free[side], now) + len(packet) / bytes_per_s
                if now < cut_until.value or chance.random() < conditions.loss or leaves - now > QUEUE_S:
                    continue
                free[side], number = leaves, number + 1
                heapq.heappush(waiting, (leaves + conditions.delay_ms * 1e-3, number, 1 - side, packet))
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, _, side, packet = heapq.heappop(waiting)
            try:
                os.write(ends[side], packet)
            except OSError:
                continue
