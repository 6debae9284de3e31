"""The tie between a launcher and the processes that it started: when it is gone, however it went, they end.

A launcher writes itself into `PI0_LAUNCHER`. A process without that variable holds on to its parent, unless `nohup` (an
ignored SIGHUP) says that it shall outlive it. No ROS here.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "PI0_LAUNCHER"


def launcher_variable() -> dict[str, str]:
    """What this process puts into the environment of those that shall end with it."""
    pid = os.getpid()
    return {VARIABLE: f"{pid} {_started(pid) or 0}"}


def _started(pid: int) -> int | None:
    """When process `pid` started (clock ticks since boot, so that no later one is taken for it); None: it is gone.

    A zombie is gone: it answers nobody any more. Where there is no /proc, only whether it exists (0).
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return None if fields[0] in ("Z", "X") else int(fields[19])
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/stat").exists():
            return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return 0


@dataclass(frozen=True)
class Lifeline:
    """Whom this process holds on to: process `pid` that started at `started`, or its parent; pid 0: nobody."""

    pid: int
    started: int | None
    is_parent: bool

    @classmethod
    def from_environment(cls) -> Lifeline:
        """That of this process; take it early, while the parent is still the one that started us."""
        if VARIABLE in os.environ:
            pid, _, started = os.environ[VARIABLE].partition(" ")
            return cls(int(pid), int(started or 0), False)
        if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
            return cls(0, None, False)
        parent = os.getppid()
        # 0: beyond this container; 1: a service manager, or nobody any more.
        return cls(0, None, False) if parent <= 1 else cls(parent, None, True)

    @property
    def cut(self) -> bool:
        """Whether the launcher is gone."""
        if self.pid == 0:
            return False
        if self.is_parent:
            return os.getppid() != self.pid
        return _started(self.pid) != self.started
