"""One episode on its way to disk: a queue, a thread and an MCAP rosbag2 folder. No ROS in here.

`put` only appends to a queue, so a subscription callback costs microseconds; the thread writes. The queue is bounded by
bytes; what does not fit is counted, never silently gone. The folder is called `<name>.partial` until `close` has
written the index and `metadata.yaml` and the disk has them, so whatever ends without `.partial` is whole. A killed
process leaves a `.partial` folder whose file lacks its index and at most the last half second: `pi0 convert` and
`pi0 bag` read it, `episode_recovery.py` makes a whole bag of it.
"""

from __future__ import annotations

import queue
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pi0_ros.bags.mcap_writer import McapWriter, finish_bag
from pi0_ros.base.disk import sync

PARTIAL = ".partial"
QUEUE_BYTES = 512 << 20
FLUSH_S = 0.5


class Message(NamedTuple):
    """One serialized (CDR) message; times in ns, `sequence` and `sent_ns` are the publisher's, 0 where unknown."""

    topic: str
    stamp_ns: int
    data: bytes
    sequence: int = 0
    sent_ns: int = 0


class EpisodeWriter:
    """Writes messages of `topics` (name -> type) to the bag folder `path`, from its own thread.

    `topics` may grow meanwhile. `custom_data` stands at the beginning of the file too, for the case of a kill. Raises
    FileExistsError where `path` or its `.partial` folder exists already, OSError where the disk refuses the latter.
    """

    def __init__(
        self,
        path: Path,
        topics: Mapping[str, str],
        custom_data: Mapping[str, str] | None = None,
        queue_bytes: int = QUEUE_BYTES,
        compression: str = "none",
    ) -> None:
        self.path = path
        self.partial = path.with_name(path.name + PARTIAL)
        if path.exists() or self.partial.exists():
            raise FileExistsError(f"{path} exists already: choose another folder or episode number")
        self.counts = dict.fromkeys(topics, 0)  # messages that were put
        self.error: Exception | None = None
        self._topics = topics
        self._queue_bytes = queue_bytes
        self._queue: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._put_bytes, self._taken_bytes = 0, 0  # each is changed by one thread only
        self._discarded = False
        self.partial.mkdir(parents=True)
        try:
            self._writer = McapWriter(self.partial / f"{path.name}.mcap", topics, custom_data, compression)
        except BaseException:
            shutil.rmtree(self.partial)
            raise
        self._thread = threading.Thread(target=self._write, name=f"write {path.name}", daemon=True)
        self._thread.start()

    @property
    def pending(self) -> int:
        """Number of messages that wait for the disk."""
        return self._queue.qsize()

    @property
    def pending_bytes(self) -> int:
        """Their bytes."""
        return self._put_bytes - self._taken_bytes

    @property
    def written(self) -> dict[str, int]:
        """Messages per topic that the disk took, or will with the next chunk."""
        return {**dict.fromkeys(self.counts, 0), **self._writer.counts}

    def put(self, message: Message) -> bool:
        """Queue a message; False where the queue is full; `counts` has it all the same. Never blocks."""
        self.counts[message.topic] = self.counts.get(message.topic, 0) + 1
        if self.pending_bytes + len(message.data) > self._queue_bytes:
            return False
        self._put_bytes += len(message.data)
        self._queue.put(message)
        return True

    def _write(self) -> None:
        flush_at = time.monotonic() + FLUSH_S
        while True:
            try:
                message = self._queue.get(timeout=FLUSH_S)
                last = message is None
            except queue.Empty:
                message, last = None, False
            self._taken_bytes += len(message.data) if message else 0
            # After an error the queue is emptied all the same, lest a full disk fill the memory too.
            if self.error is None and not self._discarded:
                try:
                    if message is not None:
                        self._write_one(message)
                    if last or time.monotonic() > flush_at:
                        self._writer.flush()
                        self._writer.release()
                        flush_at = time.monotonic() + FLUSH_S
                except Exception as error:
                    self.error = error
            if last:
                return

    def _write_one(self, message: Message) -> None:
        if not self._writer.knows(message.topic):
            self._writer.add_topic(message.topic, self._topics[message.topic])
        self._writer.write(message.topic, message.stamp_ns, message.data, message.sequence, message.sent_ns)

    def drain(self) -> None:
        """Wait until everything that was put is written or refused; `put` must not be called any more."""
        self._queue.put(None)
        self._thread.join()

    def close(self, custom_data: Mapping[str, str]) -> Path:
        """Finish the bag, also where writing has failed before: rename into place and return its folder.

        Raises OSError naming the `.partial` folder, which then stays for salvage, where the disk refused even that.
        """
        self._finish(custom_data)
        self.partial.rename(self.path)
        sync(self.path.parent)
        return self.path

    def leave_partial(self, custom_data: Mapping[str, str]) -> Path:
        """Finish the bag but leave it under its `.partial` name (the process ends in the middle of an episode)."""
        self._finish(custom_data)
        return self.partial

    def discard(self) -> None:
        """Stop writing and remove the folder."""
        self._discarded = True
        self.drain()
        self._writer.abort()
        shutil.rmtree(self.partial)

    def _finish(self, custom_data: Mapping[str, str]) -> None:
        if self._thread.is_alive():
            self.drain()
        try:
            finish_bag(self._writer, custom_data)
        except OSError as error:
            raise OSError(
                f"cannot finish the bag {self.partial}: {error}; free the disk. What was written stays there and is "
                "read by `pi0 convert --include-failed`"
            ) from error
