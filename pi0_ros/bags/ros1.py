"""ROS 1 bags (`.bag`: plain, lz4, bz2) and ROS 1 messages in MCAP files, read as if they were rosbag2's: types and
messages in ROS 2's form."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Sequence
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
from rosbags.interfaces import Connection
from rosbags.rosbag1 import Reader
from rosbags.typesys.store import Typestore

from pi0_ros.bags.message_types import full_type, typestore
from pi0_ros.bags.recorder_clock import Written
from pi0_ros.bags.salvage_mcap import SalvagedMcap

ROS1 = "ros1"  # the encoding of such channels in MCAP files


class Ros1Bag:
    """A ROS 1 bag with the part of rosbags' reader interface that `Bag` needs. Messages come as CDR."""

    def __init__(self, path: Path) -> None:
        """Open the file. Raises what rosbags raises where it cannot be read."""
        self._reader = Reader(path)
        self._reader.open()
        self.connections: list[Connection] = list(self._reader.connections)
        definitions = {(c.msgtype, c.msgdef.format, c.msgdef.data) for c in self.connections}
        self._store: Typestore = typestore(frozenset(definitions))
        self._places: list[tuple[int, int]] = []
        self._starts = [(-1, 0)]

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

    @property
    def written(self) -> Written:
        """The messages as they were written."""
        found = [
            (entry.chunk_pos, entry.offset, which, entry.time)
            for which, entries in self._reader.indexes.items()
            for entry in entries
        ]
        table = np.array(sorted(found), np.int64).reshape(-1, 4)
        self._places = [(int(chunk), int(offset)) for chunk, offset in table[:, :2]]
        return Written(table[:, 2], table[:, 3])

    def split(self, counts: Sequence[int]) -> None:
        """From now on messages come in the order of their times only up to, and after, so many of them."""
        self._starts = [(-1, 0), *(self._places[count] for count in counts if count < len(self._places))]

    def messages(self, connections: Collection[Connection]) -> Iterator[tuple[Connection, int, bytes]]:
        """(connection, receive time in ns, CDR) in order of receive time."""
        for start, end in pairwise([*self._starts, (1 << 62, 0)]):
            part = copy.copy(self._reader)
            part.current_chunk = (-1, BytesIO())
            part.indexes = {
                which: [entry for entry in entries if start <= (entry.chunk_pos, entry.offset) < end]
                for which, entries in self._reader.indexes.items()
            }
            for connection, receive_ns, data in part.messages(connections):
                yield connection, receive_ns, bytes(self._store.ros1_to_cdr(data, connection.msgtype))

    def close(self) -> None:
        """Close the file."""
        self._reader.close()


class Ros1Mcap:
    """An MCAP file of which some channels hold ROS 1 messages. These come as CDR; one that is broken comes empty."""

    def __init__(self, file: SalvagedMcap) -> None:
        self._file = file
        self.connections = [
            connection._replace(msgtype=full_type(connection.msgtype)) for connection in file.connections
        ]
        definitions = {(c.msgtype, c.msgdef.format, c.msgdef.data) for c in self.connections}
        self._store: Typestore = typestore(frozenset(definitions))
        self.message_count, self.start_time, self.end_time = file.message_count, file.start_time, file.end_time
        self.written = file.written

    def messages(self, connections: Collection[Connection]) -> Iterator[tuple[Connection, int, bytes]]:
        """(connection, receive time in ns, CDR) in the order of the file."""
        for connection, receive_ns, data in self._file.messages(connections):
            yield connection, receive_ns, self._cdr(connection, data) if is_ros1(connection) else data

    def _cdr(self, connection: Connection, data: bytes) -> bytes:
        try:
            return bytes(self._store.ros1_to_cdr(data, connection.msgtype))
        except Exception:  # generated code: broken bytes raise anything; decoding the empty message says so
            return b""


def is_ros1(connection: Connection) -> bool:
    """Whether a channel of an MCAP file holds ROS 1 messages."""
    return getattr(connection.ext, "serialization_format", "") == ROS1
