"""Reading MCAP files by their records alone: without an index, cut anywhere, with broken chunks in between.

The index of an MCAP file stands at its end, so a file whose writer was killed has none, and readers that want it find
nothing. Here the records are walked from the start (https://mcap.dev/spec). A chunk whose checksum or compression is
wrong is left out whole; of the last, cut one everything before the cut counts.
"""

from __future__ import annotations

import os
import struct
import sys
import zlib
from array import array
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

import lz4.frame
from rosbags.interfaces import Connection, ConnectionExtRosbag2, MessageDefinition, MessageDefinitionFormat

from pi0_ros.bags.mcap_format import (
    CHANNEL,
    CHUNK,
    FOOTER,
    FOOTER_BYTES,
    MAGIC,
    MESSAGE,
    MESSAGE_HEAD,
    METADATA,
    METADATA_INDEX,
    RECORD_HEAD,
    SCHEMA,
    STATISTICS,
    unpack_text,
)
from pi0_ros.bags.recorder_clock import NOTHING, Written
from pi0_ros.base.errors import InputError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

RECORD_LIMIT = 1 << 30  # bytes; a longer record is a broken length
NO_FORMAT = MessageDefinitionFormat.NONE
FORMATS = {
    "ros2msg": MessageDefinitionFormat.MSG,
    "ros1msg": MessageDefinitionFormat.MSG,
    "ros2idl": MessageDefinitionFormat.IDL,
}


class SalvageError(InputError):
    """Nothing of a file can be read; the message says why."""


class SalvagedMcap:
    """What the records of an MCAP file hold, with the part of rosbags' reader interface that `Bag` needs.

    `damage` says in sentences what is lost; it is empty for a whole file. `metadata` is the text of the `metadata.yaml`
    that rosbag2 also keeps inside, empty without one.
    """

    def __init__(self, path: Path) -> None:
        """Walk through the file once. Raises `SalvageError` where it is no MCAP file or holds no message."""
        self.path = path
        self.damage: list[str] = []
        self.metadata = ""
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise SalvageError("it is empty" if not path.stat().st_size else "it does not begin as an MCAP file")
        self.connections: list[Connection] = []
        self.message_count, self.start_time, self.end_time = 0, 2**63 - 1, 0
        self.written = Written(NOTHING, NOTHING)
        self._index()

    def _index(self) -> None:
        schemas: dict[int, tuple[str, MessageDefinition]] = {}
        channels: dict[int, tuple[int, str, str]] = {}  # id -> (schema, topic, encoding)
        counts: Counter[int] = Counter()
        written = array("Q")
        advertised: dict[int, int] = {}
        for kind, content in self._records(self.damage):
            try:
                if kind == MESSAGE:
                    channel, _, stamp, _ = MESSAGE_HEAD.unpack_from(content)
                    counts[channel] += 1
                    written.extend((channel, stamp))
                    self.start_time, self.end_time = min(self.start_time, stamp), max(self.end_time, stamp + 1)
                elif kind == SCHEMA:
                    name, at = unpack_text(content, 2)
                    encoding, at = unpack_text(content, at)
                    definition = MessageDefinition(FORMATS.get(encoding, NO_FORMAT), unpack_text(content, at)[0])
                    schemas[struct.unpack_from("<H", content)[0]] = name, definition
                elif kind == CHANNEL:
                    topic, at = unpack_text(content, 4)
                    channel, schema = struct.unpack_from("<HH", content)
                    channels[channel] = schema, topic, unpack_text(content, at)[0]
                elif kind == STATISTICS:
                    advertised = dict(struct.iter_unpack("<HQ", content[46:]))
                elif kind == METADATA:
                    self.metadata = _metadata(content) or self.metadata
            except (struct.error, UnicodeDecodeError) as error:
                self.damage.append(f"a record is broken ({error})")
        self.written = Written.of_pairs(written)
        for channel, (schema, topic, encoding) in channels.items():
            name, definition = schemas.get(schema, ("", MessageDefinition(NO_FORMAT, "")))
            extra = ConnectionExtRosbag2(encoding, [])
            self.connections.append(Connection(channel, topic, name, definition, "", counts[channel], extra, self))
        self.message_count = sum(connection.msgcount for connection in self.connections)
        if not self.message_count:
            raise SalvageError("not one whole message is in it")
        if advertised and (lost := sum(advertised.values()) - self.message_count) > 0:
            self.damage.append(f"{lost} of {sum(advertised.values())} messages are lost")

    def messages(self, connections: Collection[Connection]) -> Iterator[tuple[Connection, int, bytes]]:
        """(connection, receive time in ns, data) of all whole messages, in the order of the file."""
        wanted = {connection.id: connection for connection in connections}
        for kind, content in self._records([]):
            if kind == MESSAGE and len(content) >= MESSAGE_HEAD.size:
                channel, _, stamp, _ = MESSAGE_HEAD.unpack_from(content)
                if channel in wanted:
                    yield wanted[channel], stamp, content[MESSAGE_HEAD.size :]

    def close(self) -> None:
        """Nothing stays open between calls."""

    def _records(self, damage: list[str]) -> Iterator[tuple[int, bytes]]:
        """(kind, content) of the records in and outside of chunks; sentences on what is broken go to `damage`."""
        with self.path.open("rb") as file:
            yield from _walk(file, damage)


def _walk(file: BinaryIO, damage: list[str]) -> Iterator[tuple[int, bytes]]:
    size = os.fstat(file.fileno()).st_size
    at = len(MAGIC)
    last: tuple[int, bytes, int, bool] | None = None  # held back until what follows shows that it was written whole
    while at + 9 <= size:
        file.seek(at)
        kind, length = RECORD_HEAD.unpack(file.read(9))
        if not kind:  # does not exist: a file system's zeros after a power cut, and the record before may hold some
            last = None
            break
        if last is not None:
            yield from _contents(*last, damage)
        content = file.read(min(length, RECORD_LIMIT))
        last = kind, content, at, len(content) == length
        at += 9 + length
        if kind == FOOTER or len(content) < length:
            break
    if last is not None:
        yield from _contents(*last, damage)
    if last is None or last[0] != FOOTER or not last[3]:
        damage.append(f"it ends at byte {min(at, size)} of {size}, before its index")


def _contents(kind: int, content: bytes, at: int, whole: bool, damage: list[str]) -> Iterator[tuple[int, bytes]]:
    """A record, or those in it."""
    if kind == CHUNK:
        yield from _chunk(content, at, whole, damage)
    elif whole:
        yield kind, content


def _chunk(content: bytes, at: int, whole: bool, damage: list[str]) -> Iterator[tuple[int, bytes]]:
    """The records of a chunk: header of two times, size, checksum and compression, then the records."""
    try:
        size, checksum = struct.unpack_from("<QI", content, 16)
        compression, start = unpack_text(content, 28)
        data = _decompress(content[start + 8 :], compression)
    except (struct.error, UnicodeDecodeError, zstd.ZstdError, RuntimeError) as error:  # lz4 raises RuntimeError
        damage.append(f"the chunk at byte {at} is broken ({error})")
        return
    if whole and (len(data) != size or (checksum and zlib.crc32(data) != checksum)):
        damage.append(f"the chunk at byte {at} is broken (its checksum is wrong)")
        return
    place = 0
    last: tuple[int, bytes] | None = None  # held back as in `_walk`
    while place + 9 <= len(data):
        kind, length = RECORD_HEAD.unpack_from(data, place)
        place += 9 + length
        if not kind:
            damage.append(f"the chunk at byte {at} ends in zeros")
            return
        if last is not None:
            yield last
        last = kind, data[place - length : place]
        if place > len(data):
            if whole:
                damage.append(f"the chunk at byte {at} is broken (a record is longer than the chunk)")
            return
    if last is not None:
        yield last


def _decompress(data: bytes, compression: str) -> bytes:
    """As much as is there."""
    if compression == "zstd":
        return zstd.ZstdDecompressor().decompress(data)
    if compression == "lz4":
        return bytes(lz4.frame.LZ4FrameDecompressor().decompress(data))
    if compression:
        raise RuntimeError(f"compressed by {compression!r}, which nobody here knows")
    return data


def stored_metadata(path: Path) -> str:
    """The text of `metadata.yaml` that rosbag2 keeps inside a whole MCAP file, found by its index; empty without."""
    with path.open("rb") as file:
        file.seek(-FOOTER_BYTES, os.SEEK_END)
        kind, _, summary = struct.unpack("<BQQ", file.read(17))
        if kind != FOOTER or not summary:
            return ""
        file.seek(summary)
        while len(head := file.read(9)) == 9 and head[0] != FOOTER:
            content = file.read(struct.unpack_from("<Q", head, 1)[0])
            if head[0] == METADATA_INDEX:
                offset, length = struct.unpack_from("<QQ", content)
                file.seek(offset + 9)
                return _metadata(file.read(length - 9))
    return ""


def _metadata(content: bytes) -> str:
    """rosbag2's text in a metadata record: a name, then a map of strings."""
    name, at = unpack_text(content, 0)
    key, at = unpack_text(content, at + 4)
    return unpack_text(content, at)[0] if (name, key) == ("rosbag2", "serialized_metadata") else ""
