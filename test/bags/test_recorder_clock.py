"""A machine whose clock is set back while it records: stamps and arrivals step alike, only the file's order tells."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bagmaker import START_NS, STORE, Recipe, header, messages
from oddbags import write_mcap
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from pi0_ros.bags.reader import Bag
from pi0_ros.bags.recorder_clock import Written, set_backs
from pi0_ros.conversion.convert import convert
from pi0_ros.datasets.dataset import Dataset
from pi0_ros.robot import load_robot

ROBOT = load_robot("demo_arm")
RECIPE = Recipe(seconds=6.0, size=(32, 32))
Found = list[tuple[int, str, str, Any]]


def stepped(*steps: tuple[float, float]) -> Found:
    """The recording of a machine whose clock was set at these seconds by so much: receive times and stamps."""
    found = []
    for ns, topic, kind, message in messages(ROBOT, RECIPE):
        by = sum(round(by * 1e9) for at, by in steps if ns - START_NS >= at * 1e9)
        if hasattr(message, "header"):
            old = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
            message = dataclasses.replace(message, header=header(old + by))
        found.append((ns + by, topic, kind, message))
    return found


def rosbag2(storage: StoragePlugin, mode: CompressionMode | None = None) -> Callable[[Path, Found], Path]:
    def write(path: Path, found: Found) -> Path:
        writer = Writer(path, version=9, storage_plugin=storage)
        if mode is not None:
            writer.set_compression(mode, CompressionFormat.ZSTD)
        with writer:
            connections: dict[str, Any] = {}
            for ns, topic, kind, message in found:
                if topic not in connections:
                    connections[topic] = writer.add_connection(topic, kind, typestore=STORE)
                writer.write(connections[topic], ns, STORE.serialize_cdr(message, kind))
        return path

    return write


def ros1(path: Path, found: Found) -> Path:
    store, connections = get_typestore(Stores.ROS1_NOETIC), dict[str, Any]()
    with Ros1Writer(path.with_suffix(".bag")) as writer:
        for ns, topic, kind, message in found:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=store)
            writer.write(connections[topic], ns, STORE.cdr_to_ros1(STORE.serialize_cdr(message, kind), kind))
    return path.with_suffix(".bag")


def split(path: Path, found: Found) -> Path:
    path.mkdir()
    size = len(found) // 12 + 1
    for number in range(12):
        write_mcap(path / f"bag_{number}.mcap", found[number * size : (number + 1) * size])
    return path


WRITERS = {
    "mcap": rosbag2(StoragePlugin.MCAP),
    "mcap, chunks": rosbag2(StoragePlugin.MCAP, CompressionMode.STORAGE),
    "mcap without index": lambda path, found: write_mcap(path.with_suffix(".mcap"), found),
    "sqlite3": rosbag2(StoragePlugin.SQLITE3),
    "sqlite3, messages": rosbag2(StoragePlugin.SQLITE3, CompressionMode.MESSAGE),
    "twelve parts": split,
    "ros1": ros1,
}


@pytest.mark.parametrize("name", WRITERS)
def test_two_moments_do_not_interleave(name: str, tmp_path: Path) -> None:
    path = WRITERS[name](tmp_path / "bag", stepped((3.0, -2.0)))
    report = convert([path], tmp_path / "out", ROBOT).bags[0]
    assert [episode.frames for episode in report.episodes] == pytest.approx([60, 60], abs=2)
    assert any("the recorder's clock was set back by 2.00 s" in note for note in report.notes), report.notes
    assert "the clock was set back by 2.00 s" in [gap.why for gap in report.gaps]
    for about, episode in zip(report.episodes, Dataset(tmp_path / "out").episodes, strict=True):
        seconds = (about.start_ns - START_NS) * 1e-9 + np.arange(episode.length) / 20
        exact = 0.3 * np.sin(seconds[:, None] + np.arange(6)) + 0.35
        assert np.abs(episode.state - exact).max() < 0.3 * 0.04
        shown = (episode.frames("base").mean(axis=(1, 2, 3)) - 30) / 5
        behind = (seconds * 20 - shown + 20) % 40 - 20
        assert behind.min() > -0.5 and behind.max() < 2.0


@pytest.mark.parametrize("steps", [((2.0, -0.4), (4.0, -3600.0)), ((2.0, -2.0), (2.5, 5.0), (4.0, -7.0))])
def test_several_steps(steps: tuple[tuple[float, float], ...], tmp_path: Path) -> None:
    with Bag(WRITERS["mcap"](tmp_path / "bag", stepped(*steps))) as bag:
        times = np.array([receive_ns for _, receive_ns, _ in bag.raw()])
        assert (np.diff(times) >= 0).all() and len(bag.info.notes) == sum(by < 0 for _, by in steps)
        forward = sum(by for _, by in steps if by > 0)
        assert (times[-1] - times[0]) * 1e-9 == pytest.approx(6.0 + forward, abs=0.1)
        assert bag.info.duration_s == pytest.approx(6.0 + forward, abs=0.1)


def test_topics_written_one_after_the_other_are_no_step(tmp_path: Path) -> None:
    """As converters of other formats do."""
    found = sorted(messages(ROBOT, RECIPE), key=lambda item: item[1])
    with Bag(WRITERS["mcap"](tmp_path / "bag", found)) as bag:
        assert not bag.info.notes
        times = [receive_ns for _, receive_ns, _ in bag.raw()]
    assert times == sorted(times)


def test_one_topic_out_of_order_is_no_step() -> None:
    """Written by a thread of its own, which held it back and mixed it up."""
    times = np.arange(1000) * 10_000_000
    ids = np.arange(1000) % 4
    late = times.copy()
    late[ids == 0] = np.roll(late[ids == 0], 20)
    assert not set_backs([Written(ids, late)])
    back = times - 100_000_000 * (np.arange(1000) >= 500)
    (step,) = set_backs([Written(ids, back)])
    assert sum(step.before.values()) == 500 and step.by == pytest.approx(100_000_000, abs=20_000_000)
