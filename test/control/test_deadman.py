"""The deadman button: whatever it does, the robot moves only while it is pressed, within the limits."""

from __future__ import annotations

import pytest
from arms import Bench, path_chunk

from pi0_ros.control.deadman import Deadman
from pi0_ros.control.states import Settings, State

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402


def test_only_a_fresh_pressed_button_lets_go() -> None:
    button = Deadman("/joy[4]", 0.5)
    assert "nothing was heard of the deadman button /joy[4]" in button.withholds(100.0)
    button.heard(True, 100.0)
    assert button.withholds(100.5) == ""
    assert "within 0.5 s" in button.withholds(100.51)
    button.heard(False, 101.0)
    assert "not pressed" in button.withholds(101.0)
    button.heard(True, 102.0, "the message has 2 buttons")
    assert "2 buttons" in button.withholds(102.0)


def test_it_cannot_be_armed_without_the_button_and_a_short_release_goes_on() -> None:
    bench = Bench(settings=Settings(rearm_after_s=0.5))
    controller = bench.controller
    controller.withheld = "not pressed"
    bench.step(20)
    assert controller.arm(bench.now) == ["not pressed"]
    controller.withheld = ""
    bench.arm()
    bench.run(1.0)
    assert controller.state is State.RUNNING
    controller.withheld = "not pressed"
    bench.step()
    assert controller.state is State.HOLDING and controller.reason == "not pressed", "within one tick"
    bench.step(10)
    controller.withheld = ""
    bench.run(0.5)
    assert controller.state is State.RUNNING
    controller.withheld = "not pressed"
    bench.run(0.8)
    assert controller.state is State.DISARMED and not controller.fault and "call ~/arm" in controller.reason
    bench.assert_within_limits()


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 40)), min_size=1, max_size=12))
def test_any_presses_move_it_only_while_pressed(presses: list[tuple[bool, int]]) -> None:
    bench = Bench(settings=Settings(rearm_after_s=100.0))
    bench.arm()
    for pressed, ticks in presses:
        bench.controller.withheld = "" if pressed else "not pressed"
        for tick in range(ticks):
            if tick % 10 == 0:
                bench.controller.accept(path_chunk(bench.now - 0.1), bench.now)
            bench.step()
            assert pressed or bench.controller.state is State.HOLDING
    bench.controller.withheld = "not pressed"
    bench.step(150)
    assert not bench.controller.moving, "it comes to rest"
    bench.assert_within_limits()
