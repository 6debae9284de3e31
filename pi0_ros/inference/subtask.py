"""The high-level step of pi0.5, beside the chunks: its subtask becomes the prompt of those that follow. No torch."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from pi0_ros.base.errors import InputError, Pi0Error
from pi0_ros.inference.backend import Backend, WritesSubtasks
from pi0_ros.observation.streams import Observation, ObservationBuffer

log = logging.getLogger("pi0 subtask")


class SubtaskWriter:
    """Writes the subtask of the task at hand, `rate_hz` times a second, in a thread of its own beside the chunks.

    `write` answers for one observation, `publish` takes each new subtask. No chunk waits for a subtask: until one is
    written, and after each change of the task, the task itself is the instruction.
    """

    def __init__(
        self,
        buffer: ObservationBuffer,
        write: Callable[[Observation], str],
        now_ns: Callable[[], int],
        publish: Callable[[str], None],
        rate_hz: float,
    ) -> None:
        self._buffer, self._write, self._now_ns, self._publish = buffer, write, now_ns, publish
        self._period_s = 1.0 / rate_hz
        self._lock = threading.Lock()
        self._task = self._subtask = ""
        self._trouble = ""
        self._new_task, self._stop = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def instruction(self, task: str) -> str:
        """Return the prompt of the next chunk for `task`: its subtask, or the task where none is known."""
        with self._lock:
            if task != self._task:
                self._task, self._subtask = task, ""
                self._new_task.set()
            return self._subtask or task

    def start(self) -> None:
        """Begin to write; a thread that `stop` did not wait for ends beside the new one."""
        if self._thread is None or self._stop.is_set():
            self._stop = threading.Event()
            self._thread = threading.Thread(target=self._loop, args=(self._stop,), name="subtask", daemon=True)
            self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> bool:
        """End after the subtask that is being written; False when that took longer than `timeout_s`."""
        self._stop.set()
        self._new_task.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                return False
        self._thread = None
        return True

    def step(self) -> None:
        """Write the subtask of the task at hand once; what hinders that is logged when it changes."""
        with self._lock:
            task = self._task
        if not task:
            return
        trouble = ""
        try:
            subtask = self._write(self._buffer.observe(self._now_ns() - self._buffer.delay_ns, task))
        except Pi0Error as error:  # a stale stream, a server that is gone
            subtask, trouble = "", str(error)
        except Exception as error:  # the loop must outlive whatever one observation does to it
            subtask, trouble = "", f"{type(error).__name__}: {error}"
        if trouble and trouble != self._trouble:
            log.warning("no subtask: %s", trouble)
        self._trouble = trouble
        with self._lock:
            new = subtask and task == self._task and subtask != self._subtask
            if new:
                self._subtask = subtask
        if new and not self._stop.is_set():
            self._publish(subtask)

    def _loop(self, stop: threading.Event) -> None:
        while not stop.is_set():
            self._new_task.wait(self._period_s)
            self._new_task.clear()
            if not stop.is_set():
                self.step()


def make_subtask_writer(
    rate_hz: float,
    backend: Backend,
    buffer: ObservationBuffer,
    now_ns: Callable[[], int],
    publish: Callable[[str], None],
) -> SubtaskWriter | None:
    """Return the writer for the parameter `subtask.rate_hz`; None for 0, ValueError where the policy cannot do it."""
    if rate_hz <= 0:
        return None
    if not isinstance(backend, WritesSubtasks):
        raise InputError("subtask.rate_hz needs the model in this process: set `backend` to local, or the rate to 0")
    if (metadata := backend.metadata) is not None and metadata.model != "pi05":
        raise InputError(
            f"subtask.rate_hz: checkpoint '{metadata.checkpoint}' is a {metadata.model} and only pi05 writes subtasks; "
            "set the rate to 0"
        )
    return SubtaskWriter(buffer, backend.write_subtask, now_ns, publish, rate_hz)
