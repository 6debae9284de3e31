"""Work on several pictures at once. Decoders and resizers let go of Python's lock, so threads are enough."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
MOST_THREADS = 4  # a robot has two to four cameras


def side_by_side(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """`function` of each item, in their order; raises the error of the first item that has one."""
    if len(items) < 2:
        return [function(item) for item in items]
    return list(_threads().map(function, items))


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1), thread_name_prefix="pictures")


os.register_at_fork(after_in_child=_threads.cache_clear)  # a child has none of its parent's threads
