"""What is an incident: stops, faults, holds nobody asked for; each once."""

from __future__ import annotations

from pi0_ros.control.incidents import Incidents


def reports(*steps: tuple[str, str, str], again_s: float = 30.0, every_s: float = 1.0) -> list[str]:
    incidents = Incidents(again_s)
    keys = ("state", "reason", "fault")
    return [incidents.look(dict(zip(keys, step, strict=True)), every_s * n) for n, step in enumerate(steps)]


IDLE, RUN = ("IDLE", "armed", ""), ("RUNNING", "following chunks", "")
STOP = ("STOPPED", "emergency stop by ~/estop", "")


def test_a_stop_and_a_fault_are_kept_once() -> None:
    assert reports(RUN, STOP, STOP) == ["", "emergency stop: emergency stop by ~/estop", ""]
    fault = ("DISARMED", "x", "yaw is said to be at 9")
    assert reports(RUN, fault, fault, ("DISARMED", "reset", "")) == ["", "fault: yaw is said to be at 9", "", ""]


def test_a_hold_is_kept_unless_a_person_asked_for_it() -> None:
    hold = ("HOLDING", "no newer chunk: the last one is over", "")
    assert reports(RUN, hold, hold) == ["", "hold: no newer chunk: the last one is over", ""]
    assert reports(RUN, ("HOLDING", "the deadman button /joy[4] is not pressed", "")) == ["", ""]
    assert reports(IDLE, hold) == ["", ""], "nothing moved"


def test_a_flapping_stream_does_not_fill_the_disk() -> None:
    late = [("HOLDING", f"joint state is 0.{n} s old", "") for n in range(4)]
    steps = [step for hold in late for step in (RUN, hold)]
    assert [bool(reason) for reason in reports(*steps)].count(True) == 1
    assert [bool(reason) for reason in reports(*steps, every_s=20.0)].count(True) == 4
    other = reports(RUN, late[0], RUN, ("HOLDING", "no newer chunk", ""))
    assert [bool(reason) for reason in other].count(True) == 2, "another cause is another incident"


def test_what_was_there_before_it_listened_is_none_and_a_shadow_has_incidents_too() -> None:
    assert reports(STOP, STOP) == ["", ""]
    assert reports(("SHADOW RUNNING", "", ""), ("SHADOW HOLDING", "no newer chunk", "")) == ["", "hold: no newer chunk"]
