"""Memory that the allocator keeps for later, given back where a phase that needed much of it has ended."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache
from pathlib import Path


@cache
def _trim() -> ctypes._NamedFuncPointer | None:
    """glibc's `malloc_trim`; None elsewhere."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None)


def give_back() -> None:
    """Hand what is free inside Arrow's pool, if it is at work, and glibc's heap back to the system."""
    if (arrow := sys.modules.get("pyarrow")) is not None:
        arrow.default_memory_pool().release_unused()
    if (trim := _trim()) is not None:
        trim(0)


def resident_bytes(process: int | str = "self") -> int:
    """Memory that a process holds at this moment; 0 where the system does not say."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGESIZE")
