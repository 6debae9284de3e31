"""Keeps one worker process alive: when it dies it is started again, after a while, and that is said."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from pi0_ros.launching.lifeline import launcher_variable
from pi0_ros.launching.processes import ENDINGS, Ended

VARIABLE = "PI0_WORKER_READY"  # the file descriptor on which a worker says that it is at work
FIRST_S, MOST_S = 1.0, 60.0  # waits before the first and before later starts, each twice the one before
LIVED_S = 60.0  # a worker that lived so long makes the next wait the first again
KILL_S = 30.0  # a worker that was told to end and does not is killed
POLL_S = 0.1


def is_worker() -> bool:
    """Whether this process is one that a supervisor started."""
    return VARIABLE in os.environ


def at_work() -> None:
    """Say, in a worker, that from now on its death is one to be mended."""
    with contextlib.suppress(OSError):
        os.write(int(os.environ[VARIABLE]), b"1")


def supervise(argv: Sequence[str], say: Callable[[str], None], first_s: float = FIRST_S) -> int:
    """Run `argv` until it ends with status 0 or this process is told to end; returns its exit status.

    A worker that dies before any was at work is not started again: its message is for people. Signals that end
    this process reach the worker as SIGTERM; should this process be killed, the worker sees it by its `Lifeline`.
    """
    asked, wait_s, ready = threading.Event(), first_s, False
    with _signals_set(asked):
        while True:
            began = time.monotonic()
            status, was_ready = _live(argv, asked)
            ready |= was_ready
            if status == 0 or asked.is_set() or not ready:
                return 128 - status if status < 0 else status
            lived = time.monotonic() - began
            wait_s = first_s if lived > LIVED_S else wait_s
            say(f"{Ended('the worker', status, required=True)} after {lived:.0f} s: starting another in {wait_s:g} s")
            if asked.wait(wait_s):
                return 0
            wait_s = min(2.0 * wait_s, MOST_S)


@contextlib.contextmanager
def _signals_set(event: threading.Event) -> Iterator[None]:
    before = {number: signal.signal(number, lambda received, frame: event.set()) for number in ENDINGS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _live(argv: Sequence[str], asked: threading.Event) -> tuple[int, bool]:
    """One worker's life: (its exit status as in subprocess, whether it was at work)."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    try:
        environment = {**os.environ, **launcher_variable(), VARIABLE: str(writing)}
        worker = subprocess.Popen(argv, env=environment, pass_fds=(writing,), start_new_session=True)
        os.close(writing)
        told = 0.0
        while (status := worker.poll()) is None:
            if asked.wait(POLL_S) and not told:
                told = time.monotonic()
                worker.terminate()
            elif told:
                time.sleep(POLL_S)
                if time.monotonic() - told > KILL_S:
                    worker.kill()
        try:
            return status, bool(os.read(reading, 1))
        except BlockingIOError:  # a child of the worker still holds the other end
            return status, False
    finally:
        os.close(reading)
