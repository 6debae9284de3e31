"""Running a node as a process: until a signal or the end of its launcher, with time for last words."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from pi0_ros.base.errors import InputError, report, take_traceback
from pi0_ros.launching.given_parameters import check_given
from pi0_ros.launching.lifeline import Lifeline
from pi0_ros.launching.processes import ENDINGS_OF_ROBOTS
from pi0_ros.nodes.ros import start_ros

NodeType = TypeVar("NodeType", bound=Node)
LAST_ANSWER_S = 0.3  # that the answer to the service which ends a node has to leave
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


class Ending:
    """Whether this process shall end: a signal came, or its launcher is gone.

    `nohup`'s ignored SIGHUP stays ignored; shells that ignore SIGINT for background jobs are overruled, because
    launchers stop nodes by it.
    """

    def __init__(self) -> None:
        self.lifeline = Lifeline.from_environment()
        self.signals: list[int] = []
        self._numbers = [
            number
            for number in ENDINGS_OF_ROBOTS
            if not (number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN)
        ]
        self.end_at_once()

    def end_at_once(self) -> None:
        """From now on a signal ends the process without a word, even in the middle of a library's long call."""
        for number in self._numbers:
            signal.signal(number, signal.SIG_DFL)

    def listen(self) -> None:
        """From now on signals are remembered."""
        for number in self._numbers:
            signal.signal(number, lambda received, frame: self.signals.append(received))

    def over(self) -> None:
        """What remains is taking the process down: another Ctrl-C shall not make that look like a death by a signal."""
        for number in self._numbers:
            signal.signal(number, signal.SIG_IGN)

    @property
    def reason(self) -> str:
        """Why the process shall end; "" while it shall not."""
        if self.signals:
            return signal.Signals(self.signals[0]).name
        return "its launcher is gone" if self.lifeline.cut else ""


_ending: Ending | None = None  # of this process, once it runs a node


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Around long work that commands nothing (loading a model): signals end the process at once meanwhile."""
    if _ending is None or threading.current_thread() is not threading.main_thread() or _ending.reason:
        yield
        return
    _ending.end_at_once()
    try:
        yield
    finally:
        _ending.listen()


def begin(node: str, args: Sequence[str] | None) -> Ending:
    """Before anything else of a node's process: signals answered, arguments looked at, rclpy started.

    InputError for arguments that nobody would read. rclpy's own signal handlers would invalidate the context before
    last words are said: ours leave it alive.
    """
    global _ending
    _ending = Ending()
    if os.environ.get("NO_COLOR"):
        os.environ.setdefault("RCUTILS_COLORIZED_OUTPUT", "0")  # ROS's logger knows this variable only
    words = take_traceback(list(sys.argv if args is None else args))
    check_given(node, words)
    start_ros(words)
    return _ending


def run_node(
    name: str,
    create: Callable[[], NodeType],
    args: list[str] | None = None,
    last_words: Callable[[NodeType], None] | None = None,
    alive: Callable[[NodeType], bool] = lambda node: True,
    spin: Callable[[NodeType, SingleThreadedExecutor, Ending], None] | None = None,
    done: Callable[[NodeType], bool] = lambda node: False,
) -> int:
    """Spin the node that `create` makes until a signal, the end of its launcher or it is `done` (status 0), or until it
    is not `alive` (status 1); then `last_words(node)`, which may still publish.

    What the user can mend in `create` (a parameter of a wrong type or range too) is one line: status 2. A bug shows its
    traceback, there or while spinning: status 70. `--traceback` shows it always. While the node is made a signal ends
    the process at once: nothing was commanded yet. `name`: of the node in the table of parameters.
    `spin(node, executor, ending)` replaces one turn of the loop.
    """
    try:
        ending = begin(name, args)
        node = create()
    except Exception as error:
        rclpy.try_shutdown()
        return report_failure(error)
    ending.listen()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        while not ending.reason and alive(node) and not done(node):
            if spin is None:
                executor.spin_once(timeout_sec=0.1)
            else:
                spin(node, executor, ending)
        if ending.reason and not ending.signals:
            node.get_logger().warning(f"ends: {ending.reason}")
        if not ending.reason and done(node):
            executor.spin_once(timeout_sec=LAST_ANSWER_S)  # whoever asked for it hears the answer
            return 0
        return 0 if ending.reason else 1
    except Exception as error:
        return report_failure(error)
    finally:
        if last_words is not None:
            last_words(node)
        ending.over()
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
