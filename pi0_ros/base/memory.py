"""Memory that the allocator keeps for later, given back where a phase that needed much of it has ended."""

from __future__ import annotations

import ctypes
from functools import cache


@cache
def _trim() -> ctypes._NamedFuncPointer | None:
    """glibc's `malloc_trim`; None elsewhere."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None)


def give_back() -> None:
    """Hand what is free inside the heap back to the system. Does nothing but with glibc."""
    if (trim := _trim()) is not None:
        trim(0)
