"""Writing MCAP files for rosbag2 so that a killed process or a full disk costs a moment, never the recording.

Format: https://mcap.dev/spec and the `ros2` profile of rosbag2's MCAP storage. What differs from a general writer: each
chunk goes to the kernel whole and at once, with a checksum, and a chunk that the disk refuses is cut off again, so the
file always ends behind a whole chunk. Message bytes are copied once.
"""

from __future__ import annotations

import os
import struct
import sys
import zlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from pi0_ros.bags.mcap_format import (
    CHANNEL,
    CHUNK,
    CHUNK_INDEX,
    DATA_END,
    FOOTER,
    HEADER,
    MAGIC,
    MESSAGE,
    MESSAGE_HEAD,
    MESSAGE_INDEX,
    METADATA,
    METADATA_INDEX,
    RECORD_HEAD,
    SCHEMA,
    STATISTICS,
    SUMMARY_OFFSET,
    pack_text,
    record,
)
from pi0_ros.base.disk import sync
from pi0_ros.base.errors import InputError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CHUNK_BYTES = 1 << 20
ZSTD_LEVEL = 1
COMPRESSIONS = ("none", "zstd")
QOS = "[]"  # as in metadata.yaml: readers skip topics where the two differ
TYPESTORE = get_typestore(Stores.ROS2_JAZZY)


@dataclass
class _Channel:
    """A topic of the file: its number, type, and messages written."""

    id: int
    kind: str
    count: int = 0


@dataclass
class _Chunk:
    """Messages on their way to the file."""

    parts: list[bytes] = field(default_factory=list)
    size: int = 0
    stamps: list[int] = field(default_factory=list)
    index: dict[int, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))  # channel -> time, place


class McapWriter:
    """Writes serialized messages of `topics` (name -> type) to the new MCAP file `path`.

    `custom_data` (of rosbag2's metadata) stands at the beginning too, where it survives a kill; `compression` of the
    chunks is "none" or "zstd". After an OSError of any method the file ends behind its last whole chunk, and `close`
    may be tried. Raises FileExistsError, ValueError for a type that is not known.
    """

    def __init__(
        self,
        path: Path,
        topics: Mapping[str, str],
        custom_data: Mapping[str, str] | None = None,
        compression: str = "none",
    ) -> None:
        if compression not in COMPRESSIONS:
            raise InputError(f"compression {compression!r}: use {' or '.join(COMPRESSIONS)}")
        self.path = path
        self.start_ns, self.end_ns = 0, 0
        self._compression = "" if compression == "none" else compression
        self._schemas: dict[str, int] = {}
        self._channels: dict[str, _Channel] = {}
        self._definitions: list[bytes] = []  # schema and channel records, for the summary
        self._chunk = _Chunk()
        self._chunk_indexes: list[bytes] = []
        self._end = 0  # of what is whole in the file
        self._released = 0
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        head = MAGIC + record(HEADER, pack_text("ros2") + pack_text("pi0_ros"))
        try:
            self._put(head, self._metadata_record(custom_data or {}))
            for topic, kind in topics.items():
                self.add_topic(topic, kind)
        except BaseException:
            self.abort()
            raise

    @property
    def counts(self) -> dict[str, int]:
        """Messages written per topic, those of the chunk under way included."""
        return {topic: channel.count for topic, channel in list(self._channels.items())}  # another thread may add one

    def knows(self, topic: str) -> bool:
        """Whether `topic` was declared."""
        return topic in self._channels

    def add_topic(self, topic: str, kind: str) -> None:
        """Declare a topic of message type `kind`; ValueError where the type's definition is not known."""
        records = []
        if kind not in self._schemas:
            definition = message_definition(kind)
            schema = len(self._schemas) + 1
            text = struct.pack("<H", schema) + pack_text(kind) + pack_text("ros2msg") + pack_text(definition)
            records.append(record(SCHEMA, text))
        else:
            schema = self._schemas[kind]
        channel = len(self._channels) + 1
        extra = pack_text("offered_qos_profiles") + pack_text(QOS)
        content = struct.pack("<HH", channel, schema) + pack_text(topic) + pack_text("cdr")
        records.append(record(CHANNEL, content + struct.pack("<I", len(extra)) + extra))
        self._put(*records)
        self._definitions += records
        self._schemas[kind] = schema
        self._channels[topic] = _Channel(channel, kind)

    def write(self, topic: str, stamp_ns: int, data: bytes, sequence: int = 0, sent_ns: int = 0) -> None:
        """Add one serialized (CDR) message: its receive time, the publisher's number and time where known."""
        channel, chunk = self._channels[topic], self._chunk
        head = RECORD_HEAD.pack(MESSAGE, MESSAGE_HEAD.size + len(data))
        head += MESSAGE_HEAD.pack(channel.id, sequence & 0xFFFFFFFF, stamp_ns, sent_ns or stamp_ns)
        chunk.index[channel.id].append((stamp_ns, chunk.size))
        chunk.stamps.append(stamp_ns)
        chunk.parts += (head, data)
        chunk.size += len(head) + len(data)
        channel.count += 1
        if chunk.size >= CHUNK_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand what is collected to the kernel as one chunk; OSError leaves the file as it was before."""
        chunk, self._chunk = self._chunk, _Chunk()
        if not chunk.stamps:
            return
        try:
            self._write_chunk(chunk)
        except OSError:
            for channel in self._channels.values():
                channel.count -= len(chunk.index.get(channel.id, ()))
            raise
        first, last = min(chunk.stamps), max(chunk.stamps)
        self.start_ns, self.end_ns = min(self.start_ns or first, first), max(self.end_ns, last)

    def _write_chunk(self, chunk: _Chunk) -> None:
        times = struct.pack("<QQ", min(chunk.stamps), max(chunk.stamps))
        raw = b"".join(chunk.parts)
        data = zstd.compress(raw, ZSTD_LEVEL) if self._compression else raw
        info = (
            struct.pack("<QI", len(raw), zlib.crc32(raw)) + pack_text(self._compression) + struct.pack("<Q", len(data))
        )
        head = RECORD_HEAD.pack(CHUNK, len(times) + len(info) + len(data)) + times + info
        start, at = self._end, self._end + len(head) + len(data)
        places = b""
        indexes: list[bytes] = []
        for channel, entries in chunk.index.items():
            flat = [number for entry in entries for number in entry]
            places += struct.pack("<HQ", channel, at + sum(map(len, indexes)))
            content = struct.pack(f"<HI{len(flat)}Q", channel, 8 * len(flat), *flat)
            indexes.append(record(MESSAGE_INDEX, content))
        self._put(head, data, *indexes)
        content = times + struct.pack("<QQI", start, len(head) + len(data), len(places)) + places
        content += struct.pack("<Q", sum(map(len, indexes))) + pack_text(self._compression)
        self._chunk_indexes.append(record(CHUNK_INDEX, content + struct.pack("<QQ", len(data), len(raw))))

    def release(self) -> None:
        """Ask the kernel to start writing to the disk and not to keep the file in memory; does not wait."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._file, self._released, self._end - self._released, os.POSIX_FADV_DONTNEED)
        self._released = self._end

    def close(self, custom_data: Mapping[str, str]) -> dict[str, object]:
        """Write the rest and the index, wait for the disk; returns the content of `metadata.yaml`."""
        self.flush()
        metadata, metadata_start = self._metadata_record(custom_data), self._end
        data_end = record(DATA_END, struct.pack("<I", 0))
        summary_start = metadata_start + len(metadata) + len(data_end)
        place = struct.pack("<QQ", metadata_start, len(metadata)) + pack_text("rosbag2")
        schemas = [record for record in self._definitions if record[0] == SCHEMA]
        channels = [record for record in self._definitions if record[0] == CHANNEL]
        groups = [schemas, channels, self._chunk_indexes, [record(METADATA_INDEX, place)], [self._statistics()]]
        offsets, at = [], summary_start
        for group in groups:
            size = sum(map(len, group))
            if size:
                offsets.append(record(SUMMARY_OFFSET, struct.pack("<BQQ", group[0][0], at, size)))
            at += size
        footer = record(FOOTER, struct.pack("<QQI", summary_start, at, 0))
        self._put(metadata, data_end, *(record for group in groups for record in group), *offsets, footer, MAGIC)
        os.fsync(self._file)
        self.abort()
        return {"rosbag2_bagfile_information": self._metadata(custom_data)}

    def abort(self) -> None:
        """Close the file as it is, if it is open."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def _statistics(self) -> bytes:
        counts = [(channel.id, channel.count) for channel in self._channels.values()]
        total = sum(count for _, count in counts)
        content = struct.pack("<QHIIII", total, len(self._schemas), len(counts), 0, 1, len(self._chunk_indexes))
        content += struct.pack("<QQI", self.start_ns, self.end_ns, 10 * len(counts))
        return record(STATISTICS, content + b"".join(struct.pack("<HQ", *pair) for pair in counts))

    def _metadata_record(self, custom_data: Mapping[str, str]) -> bytes:
        text = yaml.safe_dump(self._metadata(custom_data), sort_keys=False, allow_unicode=True)
        pair = pack_text("serialized_metadata") + pack_text(text)
        return record(METADATA, pack_text("rosbag2") + struct.pack("<I", len(pair)) + pair)

    def _metadata(self, custom_data: Mapping[str, str]) -> dict[str, object]:
        """rosbag2's description of this file, version 9."""
        times = {
            "starting_time": {"nanoseconds_since_epoch": self.start_ns},
            "duration": {"nanoseconds": self.end_ns - self.start_ns},
            "message_count": sum(self.counts.values()),
        }
        topics = [
            {
                "topic_metadata": {
                    "name": topic,
                    "type": channel.kind,
                    "serialization_format": "cdr",
                    "offered_qos_profiles": [],
                    "type_description_hash": TYPESTORE.hash_rihs01(channel.kind),
                },
                "message_count": channel.count,
            }
            for topic, channel in self._channels.items()
        ]
        return {
            "version": 9,
            "storage_identifier": "mcap",
            "relative_file_paths": [self.path.name],
            **times,
            "topics_with_message_count": topics,
            "compression_format": "",
            "compression_mode": "",
            "files": [{"path": self.path.name, **times}],
            "custom_data": dict(custom_data),
            "ros_distro": os.environ.get("ROS_DISTRO", "jazzy"),
        }

    def _put(self, *pieces: bytes) -> None:
        """Append all of `pieces` or nothing."""
        try:
            for piece in pieces:
                rest = memoryview(piece)
                while rest:
                    rest = rest[os.write(self._file, rest) :]
        except OSError:
            os.ftruncate(self._file, self._end)
            os.lseek(self._file, self._end, os.SEEK_SET)
            raise
        self._end += sum(map(len, pieces))


def finish_bag(writer: McapWriter, custom_data: Mapping[str, str]) -> None:
    """Close `writer` and write `metadata.yaml` beside its file; returns when the disk has both. Raises OSError."""
    file = writer.path.parent / "metadata.yaml"
    try:
        metadata = writer.close(custom_data)
        file.write_text(yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True), "utf8")
        sync(file)
        sync(file.parent)
    except OSError:
        writer.abort()
        file.unlink(missing_ok=True)
        raise


def message_definition(kind: str) -> str:
    """The text that describes the message type in a bag; ValueError where it is not known."""
    if kind not in TYPESTORE.fielddefs:
        raise InputError(f"cannot record messages of type {kind}: its definition is not known")
    return str(TYPESTORE.generate_msgdef(kind, ros_version=2)[0])


def learn(kind: str, definition: str) -> None:
    """Take up a type that is not among ROS 2's common ones, by its definition (ros2msg)."""
    TYPESTORE.register(get_types_from_msg(definition, kind))
