"""Real-time scheduling: inherited by threads, and refused in one sentence where the machine does not allow it."""

from __future__ import annotations

import os
import threading

import pytest

from pi0_ros.control import realtime
from pi0_ros.control.realtime import Realtime


def in_a_thread(action):
    """`action()` in a thread of its own, which takes its scheduling with it."""
    result = []
    thread = threading.Thread(target=lambda: result.append(action()))
    thread.start()
    thread.join()
    return result[0]


def policy_and_cpus():
    return os.sched_getscheduler(0), os.sched_getparam(0).sched_priority, os.sched_getaffinity(0)


def test_threads_inherit_what_the_thread_that_starts_them_has_entered():
    cpu = min(os.sched_getaffinity(0))
    before = policy_and_cpus()

    def enter():
        return realtime.enter(Realtime(priority=2, cpus=[cpu])), policy_and_cpus(), in_a_thread(policy_and_cpus)

    problems, own, child = in_a_thread(enter)
    if problems:
        pytest.skip(problems[0])
    assert own == child == (os.SCHED_FIFO, 2, {cpu})
    assert policy_and_cpus() == before


def test_refusals_are_sentences_that_say_what_to_do(monkeypatch):
    def refuse(*arguments):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    monkeypatch.setattr(realtime, "_may_lock_any_amount", lambda: False)
    problems = in_a_thread(lambda: realtime.enter(Realtime(80, lock_memory=True, cpus=[100_000])))
    assert len(problems) == 3
    cpu, memory, priority = problems
    assert "realtime.cpu [100000]" in cpu and "to choose from are 0" in cpu
    assert "memlock unlimited" in memory and "limits.conf" in memory
    assert "realtime.priority 80" in priority and "rtprio 80" in priority and "limits.conf" in priority


def test_nothing_is_asked_for_by_default(monkeypatch):
    for name in ("sched_setscheduler", "sched_setaffinity"):
        monkeypatch.delattr(os, name)
    assert realtime.enter(Realtime()) == []
