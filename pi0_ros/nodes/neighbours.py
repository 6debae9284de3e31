"""Other publishers of this robot's commands and chunks, as the ROS graph tells."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rclpy.node import Node

LOOKS_AROUND_S = 1.0  # after the start: the others are found one by one


class Sole:
    """At most one process of this machine is it, for a name in a ROS domain; whoever ends makes room at once.

    Two nodes that start at the same moment may find each other late, or one of them never: seen once in 16 times.
    """

    def __init__(self, name: str, domain: int) -> None:
        self.path = Path(tempfile.gettempdir()) / f"pi0_ros_{domain}{name.replace('/', '_')}.lock"
        self._file: int | None = None
        with contextlib.suppress(OSError):  # no such folder, or the file of another user: then the graph alone tells
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._mine = self._file is None

    def taken(self) -> bool:
        """Whether another process is it."""
        if not self._mine and self._file is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._mine = True
        return not self._mine

    def close(self) -> None:
        """Make room."""
        if self._file is not None:
            os.close(self._file)
        self._file, self._mine = None, True


class Neighbours:
    """Looks at the graph for `node`, which has one publisher on each of `commanded` (names as its publishers have
    them) and listens to `chunks`. A process that was killed stays in the graph until its lease is over (20 s)."""

    def __init__(self, node: Node, commanded: Sequence[str], chunks: str) -> None:
        self._node, self._chunks = node, chunks
        self._began = time.monotonic()
        self._own = Counter(commanded)
        self._name = node.get_fully_qualified_name()
        self.sole = Sole(self._name, node.context.get_domain_id())
        self.sole.taken()  # the first one is it

    def rivals(self) -> list[str]:
        """Sentences about other publishers on our command topics, and about another node of our name."""
        node, found = self._node, []
        if time.monotonic() - self._began < LOOKS_AROUND_S:
            return ["it has only just started and looks around who else is there: call again"]
        for topic, own in self._own.items():
            if node.count_publishers(topic) > own:
                others = self._others(topic)
                found.append(f"{topic} has another publisher ({', '.join(others)}): end it, or disconnect it")
        same = sum(f"{space.rstrip('/')}/{name}" == self._name for name, space in node.get_node_names_and_namespaces())
        if same > 1:
            found.append(f"there is another node {self._name}: end it (after a kill it is remembered for 20 s)")
        if self.sole.taken():
            found.append(f"another process of this machine is {self._name} in this ROS_DOMAIN_ID: end it")
        return found

    def policies(self) -> frozenset[bytes]:
        """The publishers of chunks, each by its id."""
        return frozenset(bytes(info.endpoint_gid) for info in self._node.get_publishers_info_by_topic(self._chunks))

    def count_policies(self) -> int:
        """How many publishers of chunks there are; cheaper than `policies`."""
        return int(self._node.count_publishers(self._chunks))

    def _others(self, topic: str) -> list[str]:
        infos = self._node.get_publishers_info_by_topic(topic)
        names = [f"{info.node_namespace.rstrip('/')}/{info.node_name}" for info in infos]
        names = ["a node not yet named" if "UNKNOWN" in name else name for name in names]  # it has only just come
        return [name for name in names if name != self._name] or [f"a second {self._name}"]
