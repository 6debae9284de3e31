"""Several backends behind one: a policy on each of several devices, asked from as many threads."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from queue import Queue

from pi0_ros.base.errors import InputError
from pi0_ros.control.chunk import ActionChunk
from pi0_ros.inference.backend import Backend
from pi0_ros.inference.metadata import Metadata
from pi0_ros.inference.prefix import ActionPrefix
from pi0_ros.observation.streams import Observation


class Pool:
    """Gives each question to the member that has been free for longest; safe for any number of threads."""

    def __init__(self, members: Sequence[Backend], metadata: Metadata) -> None:
        """`metadata`: what all of them serve."""
        if not members:
            raise InputError("a pool needs at least one member")
        self.metadata: Metadata | None = metadata
        self._members = list(members)
        self._free: Queue[Backend] = Queue()
        for member in members:
            self._free.put(member)
        self._last = threading.local()

    def __len__(self) -> int:
        return len(self._members)

    @property
    def timing(self) -> Mapping[str, float]:
        """Of this thread's last inference."""
        timing: Mapping[str, float] = getattr(self._last, "timing", {})
        return timing

    def infer(self, observation: Observation, prefix: ActionPrefix | None = None) -> ActionChunk:
        """Predict at the next free member, waiting for one."""
        member = self._free.get()
        try:
            chunk = member.infer(observation, prefix)
            self._last.timing = dict(member.timing)
            return chunk
        finally:
            self._free.put(member)

    def close(self) -> None:
        """Close every member; nobody may be asking."""
        for member in self._members:
            member.close()
