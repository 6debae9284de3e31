"""The numbers of a replay, against what they must be by construction."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from pi0_ros.control.chunk import ActionChunk
from pi0_ros.monitor.replay import Limits, Played, Truth, disagreement, draw, measure, table
from pi0_ros.robot import load_robot

ROBOT = load_robot("demo_arm")
SECOND = 1_000_000_000
BEGIN = 1_700_000_000 * SECOND
SPAN = ROBOT.upper - ROBOT.lower


def way(seconds: np.ndarray) -> np.ndarray:
    """What the operator does, [N, 6]: linear, so that nothing is lost between samples."""
    return np.outer(seconds, 0.01 * SPAN)


def replayed(offset: float, jump: float = 0.0, until: float = 4.0) -> tuple[Truth, Played]:
    """A policy that is beside the operator by `offset` of every range, and every second chunk by `jump` more."""
    seconds = np.arange(0, until + 2, 0.05)
    truth = Truth(BEGIN + np.rint(seconds * SECOND).astype(np.int64), way(seconds))
    played = Played(6, BEGIN, BEGIN + round(until * SECOND))
    for number in range(int(until / 0.4)):
        begin = 0.4 * number
        actions = way(begin + 0.05 * np.arange(20)) + (offset + jump * (number % 2)) * SPAN
        played.chunks.append(ActionChunk(BEGIN + round(begin * SECOND), SECOND // 20, actions, ROBOT.joint_names))
    for tick in np.arange(0, until, 0.02):
        played.command_ns.append(BEGIN + round(tick * SECOND))
        played.commands.append(way(np.array([tick]))[0] + offset * SPAN)
    played.at_begin = {"clamps_velocity": "3", "stale_events": "1"}
    played.controller = {"clamps_velocity": "10", "stale_events": "3", "refused": "2"}
    return truth, played


def test_errors_disagreement_and_counts_are_those_that_were_made() -> None:
    truth, played = replayed(0.03, jump=0.02)
    report = measure("policy", ROBOT, truth, played)
    assert report.chunks == 10 and report.seconds == pytest.approx(4.0)
    assert report.error == pytest.approx(0.03 + 0.01, abs=1e-6)
    assert report.disagreement == pytest.approx(0.02, abs=1e-6)
    assert all(joint.command == pytest.approx(0.03 * joint.span, abs=1e-6) for joint in report.joints)
    for joint in report.joints:
        assert joint.worst == pytest.approx(0.05 * joint.span, abs=1e-6)
        assert joint.worst_at % 0.8 == pytest.approx(0.4, abs=1.0), "of a second chunk"
    assert np.allclose(report.by_step, 0.04, atol=1e-6) and len(report.by_step) == 20
    assert (report.clamps["velocity"], report.holds, report.refused) == (7, 2, 2)


def test_what_was_before_the_recording_does_not_count() -> None:
    truth, played = replayed(0.0)
    standing = ActionChunk(BEGIN - SECOND, SECOND // 20, np.tile(ROBOT.upper, (20, 1)), ROBOT.joint_names)
    played.chunks.insert(0, standing)
    assert measure("policy", ROBOT, truth, played).error == pytest.approx(0.0, abs=1e-9)


def test_chunks_that_do_not_meet_do_not_disagree() -> None:
    early = ActionChunk(BEGIN, SECOND // 20, np.zeros((4, 6)), ROBOT.joint_names)
    late = ActionChunk(BEGIN + SECOND, SECOND // 20, np.ones((4, 6)), ROBOT.joint_names)
    assert disagreement(early, late).shape == (0, 6)


def test_a_joint_that_turns_without_end_is_compared_the_short_way_round() -> None:
    """Operator, policy and commands go through pi, each with a count of its own."""
    roll = 4
    joint = replace(ROBOT.joints[roll], kind="continuous", lower=-np.inf, upper=np.inf)
    robot = replace(ROBOT, joints=(*ROBOT.joints[:roll], joint, *ROBOT.joints[roll + 1 :]))
    truth, played = replayed(0.0)

    def turned(values: np.ndarray, beside: float, times_ns: np.ndarray) -> np.ndarray:
        angles = (3.0 + 0.5 * (times_ns - BEGIN) / SECOND + beside + np.pi) % (2 * np.pi) - np.pi
        return np.column_stack([values[:, :roll], angles, values[:, roll + 1 :]])

    truth = replace(truth, actions=turned(truth.actions, 0.0, truth.times_ns))
    for number, chunk in enumerate(played.chunks):
        times_ns = chunk.stamp_ns + chunk.dt_ns * np.arange(len(chunk.actions))
        played.chunks[number] = replace(chunk, actions=turned(chunk.actions, 0.1 + 0.2 * (number % 2), times_ns))
    played.commands = list(turned(np.array(played.commands), 0.1, np.array(played.command_ns)))
    found = measure("policy", robot, truth, played).joints[roll]
    assert found.span == pytest.approx(2 * np.pi)
    assert (found.mean, found.command, found.disagreement) == pytest.approx((0.2, 0.1, 0.2), abs=1e-5)


def test_limits_name_what_exceeds_them_and_what_cannot_be_measured_does() -> None:
    truth, played = replayed(0.03)
    report = measure("policy", ROBOT, truth, played)
    assert Limits(error=0.04, joint_error=0.04, disagreement=0.01, clamps=7, holds=2).exceeded(report) == []
    said = Limits(error=0.02, clamps=6, holds=1, latency_ms=100.0).exceeded(report)
    assert [sentence.split(" is ")[0] for sentence in said] == [
        "policy: error", "policy: clamps", "policy: holds", "policy: latency p99 in ms",
    ]  # fmt: skip
    nothing = measure("policy", ROBOT, Truth(truth.times_ns, np.full_like(truth.actions, np.nan)), played)
    assert Limits(error=0.5).exceeded(nothing) and json.loads(json.dumps(nothing.to_dict()))["error"] is None


def test_two_are_shown_side_by_side(tmp_path) -> None:
    pairs = []
    for name, offset in (("old", 0.05), ("new", 0.01)):
        truth, played = replayed(offset)
        pairs.append((measure(name, ROBOT, truth, played), played))
    rows = table([report for report, _ in pairs])
    assert rows[0] == ("", "old", "new")
    (error,) = [row for row in rows if row[0] == "error, mean of joints"]
    assert error[1:] == ("5.00% of range", "1.00% of range")
    draw(tmp_path / "both.png", ROBOT, truth, pairs)
    assert (tmp_path / "both.png").stat().st_size > 20_000
