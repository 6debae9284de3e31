"""Reading rosbag2 recordings (MCAP or sqlite3, split, compressed or not) without ROS.

The storage files are opened one by one and merged by receive time; `metadata.yaml` is read for its `custom_data` and
never believed for the messages: a topic whose quality-of-service text differs between `metadata.yaml` and the storage
file would silently be skipped by readers that trust it, and after a power cut there is no `metadata.yaml` at all.
Message types come from the definitions inside the bag; types without a definition (Humble's sqlite3 files have none)
are taken from ROS 2 Jazzy's standard set. Nothing is ever written into a bag.
"""

from __future__ import annotations

import functools
import heapq
import re
import shutil
import struct
import sys
import tempfile
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rosbags.interfaces import MessageDefinitionFormat
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

STORAGE_SUFFIXES = (".mcap", ".db3", ".mcap.zstd", ".db3.zstd")
_SPLIT = re.compile(r"_\d+(?=\.)")  # in `name_0.mcap`: the number of a split file
YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's parser is ten times faster where it is built in
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"  # CDR always starts with a zero byte, so a compressed message can't be mistaken


class BagError(ValueError):
    """A recording that can't be read; the message names the file and says why."""


@dataclass(frozen=True)
class TopicInfo:
    """Message type and advertised number of messages of one recorded topic."""

    type: str
    count: int


@dataclass(frozen=True)
class BagInfo:
    """What a recording says about itself.

    Times are receive times in nanoseconds; `custom_data` comes from `metadata.yaml`.
    """

    path: Path
    files: tuple[Path, ...]
    topics: dict[str, TopicInfo]
    start_ns: int
    end_ns: int
    custom_data: dict[str, str]

    @property
    def duration_s(self) -> float:
        """Seconds between the first and the last message; 0 for an empty bag."""
        return max(0, self.end_ns - self.start_ns) * 1e-9


def is_bag(path: Path) -> bool:
    """Whether `path` is one recording: a storage file, a folder with a `metadata.yaml`, or one with a single
    recording's files.

    Without `metadata.yaml`, files belong to one recording when their names differ in a trailing number only, as
    rosbag2 splits them.
    """
    if path.is_dir():
        return (path / "metadata.yaml").is_file() or len({_SPLIT.sub("", file.name) for file in _files_in(path)}) == 1
    return path.is_file() and path.name.endswith(STORAGE_SUFFIXES)


def find_bags(paths: Collection[Path]) -> list[Path]:
    """Recordings at `paths`: bag folders, storage files, or folders that hold such at any depth.

    In name order, each once. Raises `BagError` for a path without any recording.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        bags = _bags_below(path) if path.is_dir() and not is_bag(path) else [path] if is_bag(path) else []
        if not bags:
            raise BagError(f"{path}: no rosbag here (a folder with metadata.yaml, or a .mcap or .db3 file)")
        found.update((bag.resolve(), bag) for bag in bags)
    return list(found.values())


def _bags_below(folder: Path) -> list[Path]:
    bags: list[Path] = []
    for child in sorted(folder.iterdir()):
        if is_bag(child):
            bags.append(child)
        elif child.is_dir():
            bags += _bags_below(child)
    return bags


def _files_in(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(path for path in folder.iterdir() if path.is_file() and path.name.endswith(STORAGE_SUFFIXES)))


def storage_files(path: Path) -> tuple[Path, ...]:
    """The storage files of the recording at `path` (folder or file). Raises `BagError` when there are none."""
    if not path.exists():
        raise BagError(f"{path}: no such file or folder")
    files = _files_in(path) if path.is_dir() else (path,)
    if not files:
        raise BagError(f"{path}: no .mcap or .db3 file inside")
    return files


def custom_data(path: Path) -> dict[str, str]:
    """`custom_data` of the `metadata.yaml` beside the storage files; empty without one.

    Raises `BagError` for broken YAML.
    """
    metadata = (path if path.is_dir() else path.parent) / "metadata.yaml"
    if not metadata.is_file():
        return {}
    try:
        content = yaml.load(metadata.read_text(), Loader=YAML_LOADER)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BagError(f"{metadata}: not valid YAML: {error}") from error
    information = content.get("rosbag2_bagfile_information") if isinstance(content, dict) else None
    data = information.get("custom_data") if isinstance(information, dict) else None
    return {str(key): str(value) for key, value in data.items()} if isinstance(data, dict) else {}


class Bag:
    """One open recording, a context manager: `raw` gives undecoded messages, `decode` decodes one."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._stack = ExitStack()
        self._readers: list[Reader] = []
        self._types: dict[str, str] = {}
        self._store: Typestore
        self.info: BagInfo

    def __enter__(self) -> Bag:
        try:
            self._open()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _open(self) -> None:
        files = storage_files(self.path)
        for file in files:
            try:
                self._readers.append(self._stack.enter_context(Reader(self._decompressed(file))))
            except Exception as error:  # the readers raise their storage library's own errors
                raise BagError(f"{file}: can't be read: {error}") from error
        connections = [connection for reader in self._readers for connection in reader.connections]
        counts: dict[str, int] = {}
        for connection in connections:
            known = self._types.setdefault(connection.topic, connection.msgtype)
            if known != connection.msgtype:
                raise BagError(f"{self.path}: topic {connection.topic} has two types, {known} and {connection.msgtype}")
            counts[connection.topic] = counts.get(connection.topic, 0) + connection.msgcount
        definitions = {(c.msgtype, c.msgdef.format, c.msgdef.data) for c in connections}
        self._store = _typestore(frozenset(definitions))
        filled = [reader for reader in self._readers if reader.message_count]
        self.info = BagInfo(
            path=self.path,
            files=files,
            topics={topic: TopicInfo(self._types[topic], counts[topic]) for topic in sorted(counts)},
            start_ns=min((reader.start_time for reader in filled), default=0),
            end_ns=max((reader.end_time for reader in filled), default=1)
            - 1,  # rosbags' end is one past the last message
            custom_data=custom_data(self.path),
        )

    def _decompressed(self, file: Path) -> Path:
        """`file` itself, or its unpacked copy in a temporary folder that lives as long as the bag is open."""
        if file.suffix != ".zstd":
            return file
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="pi0_bag_"))
        unpacked = Path(folder) / file.stem
        with zstd.open(file, "rb") as source, unpacked.open("wb") as target:
            shutil.copyfileobj(source, target)
        return unpacked

    def raw(self, topics: Collection[str] | None = None) -> Iterator[tuple[str, int, bytes]]:
        """(topic, receive time in ns, CDR bytes) in order of receive time; all topics where `topics` is None.

        Raises `BagError` where the storage is damaged; what was yielded until then is good.
        """
        streams = []
        for reader in self._readers:
            wanted = [c for c in reader.connections if topics is None or c.topic in topics]
            if wanted:
                streams.append(reader.messages(connections=wanted))
        merged = streams[0] if len(streams) == 1 else heapq.merge(*streams, key=lambda message: message[1])
        try:
            for connection, receive_ns, data in merged:
                if data[:4] == ZSTD_MAGIC:
                    data = zstd.decompress(data)
                yield connection.topic, receive_ns, data
        except GeneratorExit:
            raise
        except Exception as error:  # the readers raise their storage library's own errors
            raise BagError(f"{self.path}: damaged storage: {error}") from error

    def decode(self, topic: str, data: bytes) -> Any:
        """The message of `topic` in CDR bytes `data`. Raises `BagError` where bytes and type do not agree."""
        try:
            return self._store.deserialize_cdr(data, self._types[topic])
        except Exception as error:  # deserialisers are generated code: broken bytes raise anything
            raise BagError(f"{self.path}: topic {topic} does not decode as {self._types[topic]}: {error}") from error

    def has_header(self, topic: str) -> bool:
        """Whether the messages of `topic` start with a `std_msgs/msg/Header`, hence with a time stamp."""
        fields = self._store.fielddefs[self._types[topic]][1]
        return bool(fields) and fields[0][1][1] == "std_msgs/msg/Header"


def header_stamp_ns(data: bytes) -> int:
    """Stamp in ns of a CDR message that starts with a header, read without decoding the message.

    The layout is 4 bytes of encapsulation, int32 seconds, uint32 nanoseconds.
    """
    seconds, nanoseconds = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


def read_bag(path: Path, topics: Collection[str] | None = None) -> Iterator[tuple[str, Any, int]]:
    """(topic, decoded message, receive time in ns) of the recording at `path`, in order of receive time."""
    with Bag(path) as bag:
        for topic, receive_ns, data in bag.raw(topics):
            yield topic, bag.decode(topic, data), receive_ns


def bag_info(path: Path) -> BagInfo:
    """Topics, counts, times and custom data of the recording at `path`."""
    with Bag(path) as bag:
        return bag.info


@functools.lru_cache(maxsize=8)
def _typestore(definitions: frozenset[tuple[str, MessageDefinitionFormat, str]]) -> Typestore:
    """Types of ROS 2 Jazzy, overruled by the definitions that travel in the bag."""
    types = dict(get_typestore(Stores.ROS2_JAZZY).fielddefs)
    for name, kind, text in sorted(definitions, key=lambda definition: definition[0]):
        if kind == MessageDefinitionFormat.MSG:
            types.update(get_types_from_msg(text, name))
        elif kind == MessageDefinitionFormat.IDL:
            for part in text.split("=" * 80 + "\n"):
                types.update(get_types_from_idl(part.split("\n", 1)[1] if part.startswith("IDL: ") else part))
    store = get_typestore(Stores.EMPTY)
    store.register(types)
    return store
