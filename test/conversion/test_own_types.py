"""State in messages of a type that nobody else knows: recorded with its definition, read by the path of a field."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bagmaker import START_NS, Recipe, messages, state_at
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from pi0_ros.bags import mcap_writer
from pi0_ros.bags.episode_writer import EpisodeWriter, Message
from pi0_ros.bags.mcap_writer import learn
from pi0_ros.bags.reader import Bag
from pi0_ros.conversion.align import rows, scan, ticks_of
from pi0_ros.robot import StateTopic, load_robot

KIND = "my_msgs/msg/Hand"
PART = "=" * 80 + "\nMSG: "
DEFINITION = (
    f"std_msgs/Header header\nFinger[<=8] fingers\n{PART}my_msgs/Finger\nfloat32 angle\nstring name\n"
    f"{PART}std_msgs/Header\nbuiltin_interfaces/Time stamp\nstring frame_id\n"
)


def test_a_type_of_ones_own_is_recorded_and_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcap_writer, "TYPESTORE", get_typestore(Stores.ROS2_JAZZY))
    with pytest.raises(ValueError, match="its definition is not known"):
        mcap_writer.message_definition(KIND)
    learn(KIND, DEFINITION)
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg(DEFINITION, KIND))
    demo = load_robot("demo_arm")
    entry = StateTopic("/hand", KIND, demo.joint_names, 0.1, field="fingers[1:7].angle")
    robot = replace(demo, state=(entry,))

    def hand(ns: int, values: np.ndarray) -> bytes:
        kinds = store.types
        fingers = [kinds["my_msgs/msg/Finger"](angle=float(v), name=str(n)) for n, v in enumerate([9.0, *values])]
        stamp = kinds["builtin_interfaces/msg/Time"](sec=ns // 10**9, nanosec=ns % 10**9)
        header = kinds["std_msgs/msg/Header"](stamp=stamp, frame_id="")
        return bytes(store.serialize_cdr(kinds[KIND](header=header, fingers=fingers), KIND))

    found = [
        Message(topic, ns, bytes(store.serialize_cdr(message, kind)))
        for ns, topic, kind, message in messages(replace(robot, state=()), Recipe(seconds=1.0))
        if topic in robot.topics
    ]
    stamps = [START_NS + n * 20_000_000 for n in range(50)]
    found += [Message("/hand", ns, hand(ns, state_at((ns - START_NS) / 1e9, 6))) for ns in stamps]
    writer = EpisodeWriter(tmp_path / "bag", robot.topics)
    for message in sorted(found, key=lambda item: item.stamp_ns):
        writer.put(message)
    writer.close({})
    with Bag(tmp_path / "bag") as bag:
        seen = scan(bag, robot)
        got = list(rows(bag, robot, seen, ticks_of(seen, robot), lambda tick: "go"))
    assert len(got) > 10
    for row in got:
        assert row.observation is not None, row.problem
        newest = max(ns for ns in stamps if ns <= row.stamp_ns)
        expected = state_at((newest - START_NS) / 1e9, 6).astype(np.float32)
        np.testing.assert_array_equal(row.observation.state, expected)
