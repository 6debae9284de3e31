"""Running a node as a process: until SIGINT or SIGTERM, with time for last words."""

from __future__ import annotations

import ctypes
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from pi0_ros.base.errors import InputError, report, take_traceback

NodeType = TypeVar("NodeType", bound=Node)
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # <malloc.h>


def keep_freed_memory() -> None:
    """Let glibc keep freed blocks of an image's size, for nodes that receive many: giving each back to the kernel and
    fetching it again costs more than receiving it. Other C libraries are left as they are."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_TRIM_THRESHOLD, 1 << 28)
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 25)


def report_failure(error: Exception) -> int:
    """Print what ended this process, a parameter of the wrong type or range as the user's; returns its exit status."""
    known = InputError(str(error)) if isinstance(error, ParameterException) else error
    return report(known.with_traceback(error.__traceback__), Path(sys.argv[0]).stem)


def run_node(
    create: Callable[[], NodeType],
    args: list[str] | None = None,
    last_words: Callable[[NodeType], None] | None = None,
    alive: Callable[[NodeType], bool] = lambda node: True,
) -> int:
    """Spin the node that `create` makes until SIGINT or SIGTERM (status 0) or until it is not `alive` (status 1).

    rclpy's own signal handlers would invalidate the context first; ours leave it alive, so `last_words(node)` may still
    publish. What the user can mend in `create` (a parameter of a wrong type or range too) is one line: status 2. A bug
    shows its traceback, there or while spinning: status 70. `--traceback` shows it always.
    """
    rclpy.init(args=take_traceback(sys.argv if args is None else args), signal_handler_options=SignalHandlerOptions.NO)
    signals: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, frame: signals.append(received))
    try:
        node = create()
    except Exception as error:
        rclpy.try_shutdown()
        return report_failure(error)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        while not signals and alive(node):
            executor.spin_once(timeout_sec=0.1)
        return 0 if signals else 1
    except Exception as error:
        return report_failure(error)
    finally:
        if last_words is not None:
            last_words(node)
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
