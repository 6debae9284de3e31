"""One episode on its way to disk: a queue, a thread and an MCAP rosbag2 folder. No ROS in here.

`put` only appends to a queue, so a subscription callback costs microseconds and nothing is dropped while the disk is
slow; the thread writes. The folder is called `<name>.partial` until `close` has written the index and `metadata.yaml`,
so whatever ends without `.partial` is whole. A killed process leaves a `.partial` folder whose MCAP file lacks only its
index and at most the last megabyte: `episode_recovery.py` makes it readable.
"""

from __future__ import annotations

import queue
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path

from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

PARTIAL = ".partial"
TYPESTORE = get_typestore(Stores.ROS2_JAZZY)


class EpisodeWriter:
    """Writes serialized messages (`topics`: name -> type) to the bag folder `path`, from its own thread.

    Raises FileExistsError where `path` or its `.partial` folder exists already.
    """

    def __init__(self, path: Path, topics: Mapping[str, str]) -> None:
        self.path = path
        self.partial = path.with_name(path.name + PARTIAL)
        if path.exists() or self.partial.exists():
            raise FileExistsError(f"{path} exists already: choose another folder or episode number")
        self.counts = dict.fromkeys(topics, 0)
        self.error: Exception | None = None
        self._queue: queue.SimpleQueue[tuple[str, int, bytes] | None] = queue.SimpleQueue()
        self._writer = Writer(self.partial, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.open()
        self._connections = {
            topic: self._writer.add_connection(topic, kind, typestore=TYPESTORE) for topic, kind in topics.items()
        }
        self._thread = threading.Thread(target=self._write, name=f"write {path.name}", daemon=True)
        self._thread.start()

    @property
    def pending(self) -> int:
        """Number of messages that were put but are not yet written."""
        return self._queue.qsize()

    def put(self, topic: str, stamp_ns: int, data: bytes) -> None:
        """Queue one serialized (CDR) message; `stamp_ns` is the receive time. Never blocks."""
        self._queue.put((topic, stamp_ns, data))
        self.counts[topic] += 1

    def _write(self) -> None:
        while (item := self._queue.get()) is not None:
            if self.error is not None:
                continue  # keep emptying the queue, so that a full disk does not fill the memory too
            topic, stamp_ns, data = item
            try:
                self._writer.write(self._connections[topic], stamp_ns, data)
            except Exception as error:
                self.error = error

    def close(self, custom_data: Mapping[str, str]) -> Path:
        """Write what is queued, the index and `metadata.yaml`; rename into place and return the bag's folder.

        Raises OSError naming the bag where the disk refused; the `.partial` folder then stays for salvage.
        """
        self._finish(custom_data)
        # The bag was opened under the .partial name: its file and the index that names it lose the suffix first.
        file = self.partial / f"{self.partial.name}.mcap"
        file.rename(self.partial / f"{self.path.name}.mcap")
        metadata = self.partial / "metadata.yaml"
        metadata.write_text(metadata.read_text("utf8").replace(file.name, f"{self.path.name}.mcap"), "utf8")
        return self.partial.rename(self.path)

    def leave_partial(self, custom_data: Mapping[str, str]) -> Path:
        """Finish the bag but leave it under its `.partial` name (the process ends in the middle of an episode)."""
        self._finish(custom_data)
        return self.partial

    def discard(self) -> None:
        """Stop writing and remove the folder."""
        self._queue.put(None)
        self._thread.join()
        self._writer.abort()
        shutil.rmtree(self.partial)

    def _finish(self, custom_data: Mapping[str, str]) -> None:
        self._queue.put(None)
        self._thread.join()
        for key, value in custom_data.items():
            self._writer.set_custom_data(key, value)
        try:
            if self.error is not None:
                raise self.error
            self._writer.close()
        except Exception as error:
            self._writer.abort()
            raise OSError(f"cannot write the bag {self.partial}: {error}; free the disk and record again") from error
