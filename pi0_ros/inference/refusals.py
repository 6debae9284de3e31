"""What a server refuses, said once each: a client that is wrong a hundred times a second must not fill the log."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections import OrderedDict

AGAIN_S = 600.0  # the same is said again after so long
REPORT_S = 10.0
LINES = 10  # of different refusals in REPORT_S
REMEMBERED = 256


class Refusals:
    """Counts and logs them. Used by one thread."""

    def __init__(self, log: logging.Logger) -> None:
        self.count = 0
        self.by_code: dict[str, int] = {}
        self._log = log
        self._said: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._begun, self._lines, self._unsaid = 0.0, 0, 0

    def say(self, code: str, text: str, count: int = 1) -> None:
        """Note a refusal and log it if it is new."""
        self.count += count
        self.by_code[code] = self.by_code.get(code, 0) + count
        self.report()
        now, key = time.monotonic(), (code, text[:500])
        if now - self._said.get(key, -AGAIN_S) < AGAIN_S or self._lines >= LINES:
            self._unsaid += count
            return
        self._said[key] = now
        if len(self._said) > REMEMBERED:
            self._said.popitem(last=False)
        self._lines += 1
        self._log.warning("refused: %.500s", text)

    def report(self) -> None:
        """Every REPORT_S say how many more there were."""
        now = time.monotonic()
        if now - self._begun >= REPORT_S:
            if self._unsaid:
                self._log.warning("refused: %d more like those before", self._unsaid)
            self._begun, self._lines, self._unsaid = now, 0, 0


class Bugs:
    """Logs the traceback of an error that nobody foresaw, once for each place: whoever found it may ask again and
    again. Threads may share it."""

    def __init__(self, log: logging.Logger) -> None:
        self._log, self._lock = log, threading.Lock()
        self._said: set[tuple[str, str, int | None]] = set()

    def say(self, what: str, error: Exception) -> None:
        """Log `what` with the traceback, if it is new."""
        end = traceback.extract_tb(error.__traceback__)[-1]
        key = type(error).__name__, end.filename, end.lineno
        with self._lock:
            new = key not in self._said and len(self._said) < REMEMBERED
            self._said.add(key)
        if new:
            self._log.error("%s (a bug; said once)", what, exc_info=error)
