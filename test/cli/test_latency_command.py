"""`pi0 latency` from a recording: table, advice and picture."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("rclpy")
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.serialization import serialize_message

from pi0_ros.cli.main import main
from pi0_ros.control.latency import controller_half, policy_half
from pi0_ros.nodes.messages import diagnostic_array, diagnostic_status, ns_to_stamp

MS = 1_000_000
T0 = 1_700_000_000_000_000_000


def messages(i: int) -> list[DiagnosticArray]:
    """The words of policy and controller on chunk `i`, and a status of somebody else."""
    stamp = T0 + i * 250 * MS
    stages = {"receive": 20.0, "preprocess": 5.0, "infer": 60.0 + i}
    words = {
        "chunk published": policy_half(stamp, 0.05, 30, stamp + 70 * MS, stages),
        "chunk followed": controller_half(stamp, stamp + 72 * MS, stamp + 80 * MS),
        "somebody": {"key": "value"},
    }
    statuses = [diagnostic_status(name, DiagnosticStatus.OK, "", values) for name, values in words.items()]
    return [diagnostic_array(ns_to_stamp(stamp), [status]) for status in statuses]


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    rosbag2 = pytest.importorskip("rosbags.rosbag2")
    from rosbags.typesys import Stores, get_typestore

    path = tmp_path / "run"
    with rosbag2.Writer(path, version=9, storage_plugin=rosbag2.StoragePlugin.MCAP) as writer:
        kind = "diagnostic_msgs/msg/DiagnosticArray"
        connection = writer.add_connection("/pi0/latency", kind, typestore=get_typestore(Stores.ROS2_JAZZY))
        for i in range(8):
            for message in messages(i):
                writer.write(connection, T0 + i * 250 * MS, serialize_message(message))
    return path


def test_a_recording_becomes_a_table_with_advice_and_a_picture(bag, tmp_path, capsys):
    picture = tmp_path / "figures" / "latency.png"
    assert main(["latency", "--bag", str(bag), "--plot", str(picture)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("8 chunks, 4.0 per second")
    assert "infer           63.5" in printed and "- Most of the time goes into `infer`" in printed
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_recording_without_traces_says_what_is_missing(bag, capsys):
    assert main(["latency", "--bag", str(bag), "--topic", "other/latency"]) == 2
    assert "0 chunks on other/latency, 0 of them followed" in capsys.readouterr().err
