"""Reading ROS 1 bags (`.bag`: plain, lz4, bz2) as if they were rosbag2's: types and messages in ROS 2's form."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from rosbags.interfaces import Connection
from rosbags.rosbag1 import Reader
from rosbags.typesys.store import Typestore

from pi0_ros.bags.message_types import typestore


class Ros1Bag:
    """A ROS 1 bag with the part of rosbags' reader interface that `Bag` needs. Messages come as CDR."""

    def __init__(self, path: Path) -> None:
        """Open the file. Raises what rosbags raises where it cannot be read."""
        self._reader = Reader(path)
        self._reader.open()
        self.connections: list[Connection] = list(self._reader.connections)
        definitions = {(c.msgtype, c.msgdef.format, c.msgdef.data) for c in self.connections}
        self._store: Typestore = typestore(frozenset(definitions))

    @property
    def message_count(self) -> int:
        """Number of messages."""
        return self._reader.message_count

    @property
    def start_time(self) -> int:
        """Time of the first message, ns."""
        return self._reader.start_time

    @property
    def end_time(self) -> int:
        """One past the time of the last message, ns."""
        return self._reader.end_time

    def messages(self, connections: Collection[Connection]) -> Iterator[tuple[Connection, int, bytes]]:
        """(connection, receive time in ns, CDR) in order of receive time."""
        for connection, receive_ns, data in self._reader.messages(connections):
            yield connection, receive_ns, bytes(self._store.ros1_to_cdr(data, connection.msgtype))

    def close(self) -> None:
        """Close the file."""
        self._reader.close()
