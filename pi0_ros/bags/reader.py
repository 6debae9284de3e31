"""Reading rosbag2 recordings (MCAP or sqlite3, split, compressed or not) without ROS, whole or damaged.

The storage files are opened one by one and merged by receive time; `metadata.yaml` is read for its `custom_data` and
never believed for the messages: a topic whose quality-of-service text differs between `metadata.yaml` and the storage
file would silently be skipped by readers that trust it, and after a power cut there is no `metadata.yaml` at all.
A file that its reader refuses is read by what is left in it (`salvage_mcap.py`, `salvage_sqlite.py`), and
`BagInfo.damage` says what is lost. Message types come from the definitions inside the bag (`message_types.py`).
Nothing is ever written into a bag, or beside it.
"""

from __future__ import annotations

import errno
import heapq
import os
import re
import shutil
import sqlite3
import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rosbags.interfaces import Connection
from rosbags.rosbag2 import Reader
from rosbags.typesys.store import Typestore

from pi0_ros.bags import salvage_mcap, salvage_sqlite
from pi0_ros.bags.message_types import deserialize, typestore
from pi0_ros.bags.message_types import full_type as full_type
from pi0_ros.bags.metadata import Metadata, MetadataError, metadata_path, parse_metadata, read_metadata
from pi0_ros.bags.recorder_clock import SetBack, set_backs, unfolded, written_mcap, written_sqlite
from pi0_ros.bags.ros1 import Ros1Bag, Ros1Mcap, is_ros1
from pi0_ros.bags.salvage_mcap import SalvagedMcap, SalvageError
from pi0_ros.bags.salvage_sqlite import SalvagedSqlite
from pi0_ros.base.errors import AGAIN, InputError
from pi0_ros.base.search import Search

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

STORAGE_SUFFIXES = (".mcap", ".db3", ".mcap.zstd", ".db3.zstd", ".mcap.zst", ".db3.zst", ".bag")
_SPLIT = re.compile(r"_\d+(?=\.)")  # in `name_0.mcap`: the number of a split file
_NUMBERS = re.compile(r"(\d+)")  # part 10 of a split recording comes after part 2
SIDECARS = ("-wal", "-journal")  # what sqlite3 leaves beside a file that was not closed
URI_MARKS = frozenset("%?#")  # rosbags opens sqlite3 files by a URI, in which a path with these is another path
FOREVER_NS = 2**63 - 1
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"  # CDR always starts with a zero byte, so a compressed message can't be mistaken


class BagError(InputError):
    """A recording that can't be read; the message names the file and says why."""


# what this machine lacks, so that it says nothing about a recording
TROUBLE = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM}


def raise_trouble(error: BaseException, path: Path) -> None:
    """Raise `OSError` where `error` is this machine's trouble (no space, permission, memory or free file), not the
    recording's: a conversion that goes on would take what is missing for damage. Looks through causes."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MemoryError):
            raise OSError(errno.ENOMEM, "this machine is out of memory", str(path)) from error
        full = isinstance(seen, sqlite3.OperationalError) and "disk is full" in str(seen)
        if full or (isinstance(seen, OSError) and seen.errno in TROUBLE):
            code = errno.ENOSPC if full else seen.errno if isinstance(seen, OSError) else errno.EIO
            name = seen.filename if isinstance(seen, OSError) and seen.filename else path
            hint = f" (temporary files go to {tempfile.gettempdir()}: TMPDIR)" if code == errno.ENOSPC else ""
            raise OSError(code, f"{os.strerror(code or 0)}{hint}: {AGAIN}", str(name)) from error
        seen = seen.__cause__ or seen.__context__


class DamagedError(BagError):
    """A recording whose damage showed while it was read; `Bag(path, salvage=True)` reads what is left."""


@dataclass(frozen=True)
class TopicInfo:
    """Message type and number of messages of one recorded topic."""

    type: str
    count: int  # that the storage files say they hold; of a salvaged file, that are left
    advertised: int  # that were recorded, as far as storage files and `metadata.yaml` say


@dataclass(frozen=True)
class BagInfo:
    """What a recording says about itself.

    Times are receive times in nanoseconds; `custom_data` comes from `metadata.yaml`, or from its copy in the files.
    """

    path: Path
    files: tuple[Path, ...]
    topics: dict[str, TopicInfo]
    start_ns: int
    end_ns: int
    custom_data: dict[str, str]
    damage: tuple[str, ...] = ()  # sentences on messages that are lost
    notes: tuple[str, ...] = ()  # sentences on what is odd but loses nothing

    @property
    def duration_s(self) -> float:
        """Seconds between the first and the last message; 0 for an empty bag."""
        return max(0, self.end_ns - self.start_ns) * 1e-9


def is_bag(path: Path) -> bool:
    """Whether `path` is one recording: a storage file, a folder with a `metadata.yaml`, or one with a single
    recording's files.

    Without `metadata.yaml`, files belong to one recording when their names differ in a trailing number only, as
    rosbag2 splits them, and no two of them hold different `custom_data`, as files of different episodes do.
    """
    if path.is_dir():
        files = _files_in(path)
        alike = len({_SPLIT.sub("", file.name) for file in files}) == 1
        return (path / "metadata.yaml").is_file() or (alike and (len(files) == 1 or not _differ(files)))
    return path.is_file() and path.name.endswith(STORAGE_SUFFIXES)


def _differ(files: Collection[Path]) -> bool:
    """Whether two of the files hold different custom data; of files that cannot be asked nobody can tell."""
    found: list[dict[str, str]] = []
    for file in files:
        with suppress(MetadataError, OSError, struct.error, UnicodeDecodeError, sqlite3.DatabaseError):
            if file.suffix in (".mcap", ".db3"):
                stored = salvage_mcap.stored_metadata if file.suffix == ".mcap" else salvage_sqlite.stored_metadata
                found.append(parse_metadata(stored(file)).custom_data)
    return any(data != found[0] for data in found)


def find_bags(paths: Collection[Path]) -> list[Path]:
    """Recordings at `paths`: bag folders, storage files, or folders that hold such at any depth.

    In name order, each once. Raises `BagError` for a path without any recording, and where not all below it can be
    looked at: what is missing would go unnoticed.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        bags, left_out = bags_at(path)
        if left_out:
            raise BagError(f"{left_out[0]}: not looked at; name the folders of the recordings themselves")
        if not bags:
            raise BagError(
                f"{path}: no rosbag here (a folder with metadata.yaml, or a .mcap or .db3 file, or a ROS 1 .bag)"
            )
        found.update((bag.resolve(), bag) for bag in bags)
    return list(found.values())


def bags_at(path: Path) -> tuple[list[Path], list[str]]:
    """Recordings at `path`, as far as a bounded search goes, each once; and in sentences what it left out."""
    if is_bag(path) or not path.is_dir():
        return [path] if is_bag(path) else [], []
    search, found = Search(), dict[Path, Path]()
    for bag in search.find(path, is_bag):
        found.setdefault(bag.resolve(), bag)
    return list(found.values()), search.left_out


def _files_in(folder: Path) -> tuple[Path, ...]:
    found = [path for path in folder.iterdir() if path.name.endswith(STORAGE_SUFFIXES) and path.is_file()]
    return tuple(
        sorted(
            found,
            key=lambda path: [(len(part), part) if part.isdigit() else (0, part) for part in _NUMBERS.split(path.name)],
        )
    )


def storage_files(path: Path) -> tuple[Path, ...]:
    """The storage files of the recording at `path` (folder or file). Raises `BagError` when there are none."""
    if not path.exists():
        raise BagError(f"{path}: no such file or folder")
    files = _files_in(path) if path.is_dir() else (path,)
    if not files:
        raise BagError(f"{path}: no .mcap or .db3 file inside, nor a ROS 1 .bag")
    return files


def full_topic(name: str) -> str:
    """One spelling of a topic: with the slash before it."""
    return name if name.startswith("/") else f"/{name}"


def custom_data(path: Path) -> dict[str, str]:
    """`custom_data` of the `metadata.yaml` beside the storage files; empty without one, or with a broken one."""
    try:
        return (read_metadata(path) or Metadata()).custom_data
    except MetadataError:  # said in `BagInfo.notes`
        return {}


class Bag:
    """One open recording, a context manager: `raw` gives undecoded messages, `decode` decodes one.

    With `salvage` the storage files are read by what is left in them from the start, instead of only where their
    reader refuses them.
    """

    def __init__(self, path: Path, salvage: bool = False) -> None:
        self.path = Path(path)
        self.salvage = salvage
        self._stack = ExitStack()
        self._readers: list[Reader | SalvagedMcap | SalvagedSqlite | Ros1Bag | Ros1Mcap] = []
        self._damage: list[str] = []
        self._notes: list[str] = []
        self._types: dict[str, str] = {}
        self._set_backs: list[SetBack] = []
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
        readable: list[Path] = []
        for file in files:
            try:
                found = self._readable(file)
                self._readers.append(self._reader(found, file.name))
                readable.append(found)
            except (SalvageError, OSError) as error:
                raise_trouble(error, file)
                self._damage.append(f"{file.name}: can't be read: {error}")
        if not self._readers:
            raise BagError(f"{self.path}: {'; '.join(self._damage)}")
        self._heed_recorder(readable)
        metadata = self._metadata(readable)
        missing = sorted(set(metadata.files) - {file.name for file in files}) if self.path.is_dir() else []
        self._damage += [f"{name}: metadata.yaml names this file, but it is not there" for name in missing]
        connections = [connection for reader in self._readers for connection in reader.connections]
        counts: Counter[str] = Counter()
        for connection in connections:
            topic, kind = full_topic(connection.topic), full_type(connection.msgtype)
            counts[topic] += connection.msgcount
            known = self._types.setdefault(topic, kind)
            if kind not in known.split(" and "):
                self._types[topic] = f"{known} and {kind}"
        definitions = {(full_type(c.msgtype), c.msgdef.format, c.msgdef.data) for c in connections}
        self._store = typestore(frozenset(definitions))
        told = {full_topic(topic): count for topic, count in metadata.counts.items()} if self.path.is_dir() else {}
        if told and not self._damage and any(counts[topic] != count for topic, count in told.items()):
            self._notes.append("metadata.yaml counts the messages otherwise than the storage files, which are believed")
            told = {}
        topics = {
            topic: TopicInfo(self._types[topic], counts[topic], max(counts[topic], told.get(topic, 0)))
            for topic in sorted(counts)
        }
        lost = {topic: info.advertised - info.count for topic, info in topics.items() if info.advertised > info.count}
        if lost:
            per_topic = ", ".join(f"{count} of {topics[topic].advertised} on {topic}" for topic, count in lost.items())
            self._damage.append(f"lost, by what metadata.yaml says: {per_topic}")
        filled = [reader for reader in self._readers if reader.message_count]
        back = self._set_backs[-1] if self._set_backs else None
        self.info = BagInfo(
            path=self.path,
            files=files,
            topics=topics,
            start_ns=back.first if back else min((reader.start_time for reader in filled), default=0),
            # ends of readers are one past the last message
            end_ns=back.last + back.by if back else max((reader.end_time for reader in filled), default=1) - 1,
            custom_data=metadata.custom_data,
            damage=tuple(self._damage),
            notes=tuple(self._notes),
        )

    def _heed_recorder(self, readable: Sequence[Path]) -> None:
        """Where the recorder's clock was set back, read the messages as they were written."""
        written = []
        for reader, file in zip(self._readers, readable, strict=True):
            try:
                written.append(
                    (written_mcap if file.suffix == ".mcap" else written_sqlite)(file)
                    if isinstance(reader, Reader)
                    else reader.written
                )
            except (OSError, struct.error, ValueError, sqlite3.DatabaseError) as error:
                raise_trouble(error, file)
                return  # it is damaged, which shows when it is read
        self._set_backs = set_backs(written)
        for number, (reader, file) in enumerate(zip(self._readers, readable, strict=True)):
            if self._set_backs and isinstance(reader, Reader):
                self._readers[number] = salvaged = (SalvagedMcap if file.suffix == ".mcap" else SalvagedSqlite)(file)
                self._stack.callback(salvaged.close)
            elif self._set_backs and isinstance(reader, Ros1Bag):
                reader.split([sum(n for (at, _), n in step.before.items() if at == number) for step in self._set_backs])
        total = 0
        for step in self._set_backs:
            text = f"the recorder's clock was set back by {(step.by - total) / 1e9:.2f} s: read as it was written"
            self._notes.append(text)
            total = step.by

    def _readable(self, file: Path) -> Path:
        """`file` itself, or a copy in a temporary folder that lives as long as the bag is open.

        Compressed files are unpacked there, as far as that goes, and sqlite3 replays there what was not yet part of
        the file when its writer was killed.
        """
        left = [sidecar for end in SIDECARS if (sidecar := Path(f"{file}{end}")).is_file() and sidecar.stat().st_size]
        if file.suffix not in (".zstd", ".zst") and not left:
            return file
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="pi0_bag_")))
        if left:
            for part in (file, *left):
                shutil.copyfile(part, folder / part.name)
            database = sqlite3.connect(folder / file.name)
            try:
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            except sqlite3.DatabaseError as error:  # the reader will say what is wrong with it
                raise_trouble(error, folder)
            finally:
                database.close()
            self._notes.append(f"{file.name}: its writer was killed; {left[0].name} is read too")
            return folder / file.name
        unpacked = folder / file.stem
        with zstd.open(file, "rb") as source, unpacked.open("wb") as target:
            try:
                shutil.copyfileobj(source, target)
            except (EOFError, zstd.ZstdError) as error:
                self._damage.append(f"{file.name}: can't be unpacked to its end: {error}")
        return unpacked

    def _reader(self, file: Path, name: str) -> Reader | SalvagedMcap | SalvagedSqlite | Ros1Bag | Ros1Mcap:
        """The file's reader, or what is left of it. Raises `SalvageError` where that is nothing."""
        if file.suffix == ".bag":
            return self._ros1(file)
        refused = ""
        misread = file.suffix == ".db3" and not URI_MARKS.isdisjoint(str(file))
        if not (self.salvage or misread):
            try:
                return self._stack.enter_context(Reader(file))
            except Exception as error:  # the readers raise their storage library's own errors
                raise_trouble(error, file)
                refused = str(error)
        salvaged = (SalvagedMcap if file.suffix == ".mcap" else SalvagedSqlite)(file)
        self._stack.callback(salvaged.close)
        self._damage += [f"{name}: {sentence}" for sentence in salvaged.damage]
        if isinstance(salvaged, SalvagedMcap) and any(map(is_ros1, salvaged.connections)):
            return Ros1Mcap(salvaged)
        if refused and not salvaged.damage:
            self._notes.append(f"{name}: read by its records, since its reader says: {refused}")
        return salvaged

    def _ros1(self, file: Path) -> Ros1Bag:
        try:
            found = Ros1Bag(file)
        except Exception as error:  # the reader raises its storage library's own errors
            raise_trouble(error, file)
            raise SalvageError(f"it is no whole ROS 1 bag ({error}): `rosbag reindex` mends what was cut") from error
        self._stack.callback(found.close)
        return found

    def _metadata(self, files: Collection[Path]) -> Metadata:
        """What `metadata.yaml` says, or the text inside the storage files where it is missing or broken."""
        if self.path.is_dir():
            try:
                if (found := read_metadata(self.path)) is not None:
                    return found
                self._notes.append("metadata.yaml is missing")
            except MetadataError as error:
                self._notes.append(f"{metadata_path(self.path).name} is broken: {error}")
        elif custom := custom_data(self.path):
            return Metadata(custom)
        inside = Metadata()
        for reader in self._readers:
            if isinstance(reader, (SalvagedMcap, SalvagedSqlite)):  # a killed recorder left it at the beginning
                with suppress(MetadataError):
                    inside = parse_metadata(reader.metadata)
        for file in files:
            if file.suffix == ".bag":
                continue
            stored = salvage_mcap.stored_metadata if file.suffix == ".mcap" else salvage_sqlite.stored_metadata
            with suppress(MetadataError, OSError, struct.error, UnicodeDecodeError, sqlite3.DatabaseError):
                inside = parse_metadata(stored(file))
        return Metadata(inside.custom_data)  # each file's copy counts only what was written before it

    def raw(
        self, topics: Collection[str] | None = None, start_ns: int = 0, stop_ns: int = FOREVER_NS
    ) -> Iterator[tuple[str, int, bytes]]:
        """(topic, receive time in ns, CDR bytes) in order of receive time; all topics where `topics` is None.

        From `start_ns` to before `stop_ns`: files with an index are read there only. Of a salvaged file in the file's
        order. Raises `DamagedError` where the storage is damaged; what was yielded until then is good.
        """
        streams = []
        for number, reader in enumerate(self._readers):
            wanted = [c for c in reader.connections if topics is None or full_topic(c.topic) in topics]
            if wanted:
                messages: Iterator[tuple[Connection, int, bytes]]
                if isinstance(reader, Reader) and (start_ns > 0 or stop_ns < FOREVER_NS):
                    messages = reader.messages(wanted, start_ns, stop_ns)
                else:
                    messages = reader.messages(connections=wanted)
                streams.append(unfolded(messages, number, self._set_backs) if self._set_backs else messages)
        merged = streams[0] if len(streams) == 1 else heapq.merge(*streams, key=lambda message: message[1])
        try:
            for connection, receive_ns, data in merged:
                if not start_ns <= receive_ns < stop_ns:
                    continue
                if data[:4] == ZSTD_MAGIC:
                    try:
                        data = zstd.decompress(data)
                    except zstd.ZstdError:
                        if not self.salvage:
                            raise
                        continue  # counted as one that could not be read
                yield full_topic(connection.topic), receive_ns, data
        except GeneratorExit:
            raise
        except Exception as error:  # the readers raise their storage library's own errors
            raise_trouble(error, self.path)
            raise DamagedError(f"{self.path}: damaged storage: {error}") from error

    def decode(self, topic: str, data: bytes) -> Any:
        """The message of `topic` in CDR bytes `data`. Raises `BagError` where bytes and type do not agree."""
        try:
            return deserialize(self._store, data, self._types[topic])
        except Exception as error:  # deserialisers are generated code: broken bytes raise anything
            raise BagError(f"{self.path}: topic {topic} does not decode as {self._types[topic]}: {error}") from error

    def has_header(self, topic: str) -> bool:
        """Whether the messages of `topic` start with a `std_msgs/msg/Header`, hence with a time stamp."""
        fields = self._store.fielddefs.get(self._types[topic], ([], []))[1]
        return bool(fields) and fields[0][1][1] == "std_msgs/msg/Header"


def header_stamp_ns(data: bytes) -> int:
    """Stamp in ns of a CDR message that starts with a header, read without decoding the message; 0 where it is cut off.

    The layout is 4 bytes of encapsulation, int32 seconds, uint32 nanoseconds.
    """
    if len(data) < 12:
        return 0
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
