"""Arming unasked: what it says it waits for, and that it does not for ever."""

from __future__ import annotations

import pytest

from pi0_ros.nodes.auto_arm import AutoArm


def test_it_waits_says_for_what_and_gives_up() -> None:
    arm = AutoArm(True, 10.0, 100.0)
    arm.wait_for(["a policy", "rest"], 109.9)
    assert arm.waiting and not arm.gave_up and arm.said == "waits for: a policy; rest"
    arm.wait_for(["a policy"], 110.0)
    assert not arm.waiting and arm.gave_up
    assert arm.said == "gave up after 10 s of waiting for: a policy; call ~/arm when it is there"
    arm.end()
    assert not arm.waiting and not arm.gave_up and arm.said == "off"


@pytest.mark.parametrize(("wanted", "timeout_s"), [(False, 10.0), (True, 0.0)])
def test_unwanted_or_told_to_wait_for_ever(wanted: bool, timeout_s: float) -> None:
    arm = AutoArm(wanted, timeout_s, 100.0)
    assert arm.waiting is wanted and arm.said == "off"
    if wanted:
        arm.wait_for(["a policy"], 1e9)
        assert arm.waiting
