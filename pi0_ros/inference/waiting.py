"""The questions that wait for a policy: of each client the newest, clients in turns, bounded in number and bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from pi0_ros.inference.protocol import Message

MAX_WAITING = 256  # clients whose question waits ...
MAX_WAITING_BYTES = 512 << 20  # ... and what their questions may weigh together


@dataclass(frozen=True)
class Question:
    """One question for a chunk and where its answer goes."""

    peer: bytes  # the socket's name of the connection
    message: Message
    size: int  # bytes
    received_ns: int  # by the clock of the day
    received: float  # time.monotonic


class Waiting:
    """Filled by the thread that owns the socket, emptied by those that infer."""

    def __init__(self) -> None:
        self._questions: OrderedDict[str, Question] = OrderedDict()  # by client
        self._bytes = self._taken = 0
        self._closed = False
        self._work = threading.Condition()

    def __len__(self) -> int:
        return len(self._questions)

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is worked on."""
        with self._work:
            return not self._questions and not self._taken

    def put(self, client: str, question: Question) -> str:
        """Add it, in the place of the client's last one; "" or why it is refused."""
        with self._work:
            before = self._questions.get(client)
            others, weight = len(self._questions) - (before is not None), self._bytes - (before.size if before else 0)
            if others >= MAX_WAITING or weight + question.size > MAX_WAITING_BYTES:
                return f"{others} other clients are waiting"
            self._questions[client] = question
            self._bytes = weight + question.size
            self._work.notify()
        return ""

    def take(self, most: int) -> list[Question]:
        """Wait for the question that waited longest, and up to `most` behind it; [] once closed.

        What was taken counts as worked on until `done`.
        """
        with self._work:
            self._work.wait_for(lambda: self._questions or self._closed)
            if self._closed:
                return []
            taken = [self._questions.popitem(last=False)[1] for _ in range(min(most, len(self._questions)))]
            self._bytes -= sum(question.size for question in taken)
            self._taken += len(taken)
            return taken

    def done(self, count: int) -> None:
        """`count` of the questions taken are answered."""
        with self._work:
            self._taken -= count

    def close(self) -> None:
        """Wake those that wait; nothing is given out any more."""
        with self._work:
            self._closed = True
            self._work.notify_all()
