"""Deadlines do not drift, and late ticks are skipped."""

from __future__ import annotations

import pytest

from pi0_ros.control.pacing import KEPT, Pacer


def test_deadlines_are_absolute():
    pacer = Pacer(0.02)
    pacer.start(100.0)
    for k in range(1, 1000):
        assert pacer.deadline == pytest.approx(100.0 + 0.02 * k)
        assert pacer.wake(pacer.deadline + 0.001) == pytest.approx(100.0 + 0.02 * k)
    assert pacer.late_ticks == 0 and pacer.ticks == 999
    assert pacer.lateness().mean() == pytest.approx(0.001)


def test_a_late_wake_up_skips_and_never_bursts():
    pacer = Pacer(0.02)
    pacer.start(0.0)
    assert pacer.wake(0.095) == pytest.approx(0.08)  # due at 0.02: three deadlines are lost, this tick stands for 0.08
    assert pacer.late_ticks == 3 and pacer.ticks == 1
    assert pacer.deadline == pytest.approx(0.10)
    assert pacer.lateness() == pytest.approx([0.075])
    assert pacer.report() == {
        "ticks": 1,
        "late_ticks": 3,
        "tick_p50_ms": pytest.approx(75.0),
        "tick_p99_ms": pytest.approx(75.0),
    }
    assert Pacer(0.02).report()["tick_p99_ms"] == 0.0


def test_it_looks_back_on_a_limited_number_of_ticks():
    pacer = Pacer(0.01)
    pacer.start(0.0)
    for _ in range(KEPT + 10):
        pacer.wake(pacer.deadline)
    assert len(pacer.lateness()) == KEPT
