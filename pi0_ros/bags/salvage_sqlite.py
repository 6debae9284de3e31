"""Reading damaged sqlite3 recordings row by row: cut files, and files with broken pages.

Rows are read in the order of their ids, without the time index, and where a page is broken the reading goes on behind
it. SQLite refuses a file that is shorter than its header says unless `writable_schema` is on; nothing is written all
the same, since the file is opened read-only and immutable, which also keeps journal files from appearing.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from array import array
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

from rosbags.interfaces import Connection, ConnectionExtRosbag2, MessageDefinition, MessageDefinitionFormat

from pi0_ros.bags.recorder_clock import Written
from pi0_ros.bags.salvage_mcap import FORMATS, SalvageError

DEFINITIONS = "SELECT topic_type, encoding, encoded_message_definition FROM message_definitions"
METADATA = "SELECT metadata FROM metadata ORDER BY id DESC LIMIT 1"
FARTHEST = 1 << 40  # ids that are skipped at once, at most: then there is no row left


class SalvagedSqlite:
    """The rows of a sqlite3 recording that can be read, with the part of rosbags' reader interface that `Bag` needs.

    `damage` and `metadata` are those of `SalvagedMcap`.
    """

    def __init__(self, path: Path) -> None:
        """Read the file once. Raises `SalvageError` where no topic or no message can be read."""
        self.path = path
        self.damage: list[str] = []
        self.connections: list[Connection] = []
        self._stack = ExitStack()
        try:
            self._database = _open(self._whole_pages())
            self._stack.callback(self._database.close)
            self._index()
        except BaseException:
            self.close()
            raise

    def _index(self) -> None:
        try:
            self._database.execute("PRAGMA writable_schema = ON")
            topics = self._database.execute("SELECT id, name, type, serialization_format FROM topics").fetchall()
        except sqlite3.DatabaseError as error:
            raise SalvageError(str(error)) from error
        definitions = {name: (form, text) for name, form, text in _optional(self._database, DEFINITIONS)}
        self.metadata = _stored_metadata(self._database)
        counts: Counter[int] = Counter()
        written = array("q")
        for topic, stamp, _ in self._rows(self.damage):
            counts[topic] += 1
            written.extend((topic, stamp))
        if not written:
            raise SalvageError("not one whole message is in it")
        self.written = Written.of_pairs(written)
        self.message_count, self.start_time = len(self.written.times), int(self.written.times.min())
        self.end_time = int(self.written.times.max()) + 1
        for topic, name, kind, encoding in topics:
            form, text = definitions.get(kind, ("", ""))
            definition = MessageDefinition(FORMATS.get(form, MessageDefinitionFormat.NONE), text)
            extra = ConnectionExtRosbag2(encoding, [])
            self.connections.append(Connection(topic, name, kind, definition, "", counts[topic], extra, self))

    def messages(self, connections: Collection[Connection]) -> Iterator[tuple[Connection, int, bytes]]:
        """(connection, receive time in ns, data) of all readable messages, in the order of their ids."""
        wanted = {connection.id: connection for connection in connections}
        for topic, stamp, data in self._rows([]):
            if topic in wanted:
                yield wanted[topic], stamp, data

    def close(self) -> None:
        """Close the database."""
        self._stack.close()

    def _whole_pages(self) -> Path:
        """The file, or a temporary copy without the rest of a page at its end, which SQLite would fill up with zeros
        and take for messages."""
        size = self.path.stat().st_size
        with self.path.open("rb") as file:
            head = file.read(18)
            page = int.from_bytes(head[16:18], "big")  # https://sqlite.org/fileformat.html; 1 stands for 65536
            page = 65536 if page == 1 else page
            if not head.startswith(b"SQLite format 3\0") or page < 512:
                raise SalvageError("it is empty" if not size else "it does not begin as a sqlite3 file")
            if not size % page:
                return self.path
            file.seek(0)
            copy = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="pi0_bag_"))) / self.path.name
            with copy.open("wb") as target:
                shutil.copyfileobj(file, target)
                target.truncate(size - size % page)
        self.damage.append(f"it is cut at byte {size}")
        return copy

    def _rows(self, damage: list[str]) -> Iterator[tuple[int, int, bytes]]:
        """(topic, time, data); where a row can't be read, farther and farther ids are tried."""
        last, skip, broken = 0, 1, []
        query = "SELECT id, topic_id, timestamp, data FROM messages NOT INDEXED WHERE id > ? ORDER BY id"
        while skip <= FARTHEST:
            try:
                for row in self._database.execute(query, (last,)):
                    last, topic, stamp, data = row
                    skip = 1
                    if isinstance(topic, int) and isinstance(stamp, int) and isinstance(data, bytes):
                        yield topic, stamp, data
                break
            except sqlite3.DatabaseError as error:
                if skip == 1:
                    broken.append(f"message {last + 1} and some behind it can't be read ({error})")
                last, skip = last + skip, 2 * skip
        damage.extend(broken[:3])
        if len(broken) > 3:
            damage.append(f"and so on, {len(broken)} places in all")


def stored_metadata(path: Path) -> str:
    """The text of `metadata.yaml` that rosbag2 also keeps inside a sqlite3 file; empty without."""
    database = _open(path)
    try:
        return _stored_metadata(database)
    finally:
        database.close()


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro&immutable=1", uri=True)


def _stored_metadata(database: sqlite3.Connection) -> str:
    return next((str(text) for (text,) in _optional(database, METADATA)), "")


def _optional(database: sqlite3.Connection, query: str) -> list[tuple[str, ...]]:
    """Rows of a table that older versions do not have."""
    try:
        return database.execute(query).fetchall()
    except sqlite3.DatabaseError:
        return []
