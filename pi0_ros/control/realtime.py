"""Real-time scheduling of this process where the machine allows it, and what to do where it does not. Linux only.

Nothing here is needed to run: every function returns the problem as a sentence instead of raising.
"""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Sequence
from dataclasses import dataclass

MCL_CURRENT, MCL_FUTURE = 1, 2  # <sys/mman.h>
LIMITS = "in /etc/security/limits.conf (log in again), or start as root"
# Not `setcap` on python: the loader then ignores LD_LIBRARY_PATH, which ROS needs.


@dataclass(frozen=True)
class Realtime:
    """What to ask the kernel for."""

    priority: int = 0  # SCHED_FIFO, 1 to 99; 0: normal scheduling
    lock_memory: bool = False  # no page of this process is ever swapped out or first touched in a tick
    cpus: Sequence[int] = ()  # the cores to run on; empty: all


def enter(wanted: Realtime) -> list[str]:
    """Apply `wanted` to the calling thread and those it starts later (memory: to the process); returns the problems."""
    problems = [
        pin(wanted.cpus) if wanted.cpus else "",
        lock_memory() if wanted.lock_memory else "",
        set_priority(wanted.priority) if wanted.priority else "",
    ]
    return [problem for problem in problems if problem]


def set_priority(priority: int) -> str:
    """Schedule the calling thread by SCHED_FIFO at `priority`; the problem, or ""."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except (OSError, AttributeError) as error:
        allow = f"allow it with `{_user()} - rtprio {priority}` {LIMITS}; `ulimit -r` shows it"
        return f"realtime.priority {priority} is refused ({error}): {allow}"
    return ""


def pin(cpus: Sequence[int]) -> str:
    """Keep the calling thread on the cores `cpus`; the problem, or ""."""
    try:
        os.sched_setaffinity(0, cpus)
    except (OSError, ValueError, OverflowError, AttributeError) as error:
        cores = ", ".join(map(str, sorted(os.sched_getaffinity(0)))) if hasattr(os, "sched_getaffinity") else "none"
        return f"realtime.cpu {list(cpus)} is refused ({error}): to choose from are {cores}"
    return ""


def lock_memory() -> str:
    """Keep all present and future memory of the process in RAM; the problem, or ""."""
    allow = f"allow it with `{_user()} - memlock unlimited` {LIMITS}; `ulimit -l` shows it"
    if not _may_lock_any_amount():  # within a finite limit it may succeed now and fail some allocation later
        return f"realtime.lock_memory is refused (the limit is finite): {allow}"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(MCL_CURRENT | MCL_FUTURE) != 0:
        return f"realtime.lock_memory is refused ({os.strerror(ctypes.get_errno())}): {allow}"
    return ""


def _may_lock_any_amount() -> bool:
    return os.geteuid() == 0 or resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY


def _user() -> str:
    return os.environ.get("USER", "USER")
