"""A joystick's axes and buttons as joint positions."""

from __future__ import annotations

import numpy as np
import pytest

from pi0_ros.base.errors import InputError
from pi0_ros.control.joystick import Joystick, read_sticks
from pi0_ros.robot import load_robot

ARM, MOBILE = load_robot("demo_arm"), load_robot("mobile_bimanual")
AT = (ARM.lower + ARM.upper) / 2
STILL = [0.0] * 8


def joystick(axes: str, buttons: str = "", speed: float = 0.5, dead_zone: float = 0.1) -> Joystick:
    made = Joystick(ARM, read_sticks(axes, buttons, ARM), speed, dead_zone)
    made.begin(AT)
    return made


def test_full_deflection_is_a_share_of_the_velocity_limit_either_way() -> None:
    stick = joystick("yaw=0 -shoulder=1")
    moved = stick.move([1.0, 1.0], [], 0.1) - AT
    np.testing.assert_allclose(moved[:2], 0.05 * ARM.velocity[:2] * [1, -1])
    assert not moved[2:].any()
    np.testing.assert_allclose(stick.move([-1.0, -1.0], [], 0.1), AT, atol=1e-12)


def test_the_middle_of_an_axis_moves_nothing_and_its_motion_begins_at_zero() -> None:
    stick = joystick("yaw=0")
    for value in (0.0, 0.1, -0.1, float("nan"), float("inf")):
        np.testing.assert_array_equal(stick.move([value], [], 0.1), AT)
    slow = stick.move([0.11], [], 0.1)[0] - AT[0]
    assert 0.0 < slow < 0.02 * 0.05 * ARM.velocity[0]
    assert joystick("yaw=0").move([7.0], [], 0.1)[0] == joystick("yaw=0").move([1.0], [], 0.1)[0]


def test_nothing_leaves_the_limits_and_what_began_outside_comes_back_only() -> None:
    stick = joystick("yaw=0", "gripper=0 -gripper=1")
    for _ in range(1000):
        stick.move([1.0], [1, 0], 0.1)
    assert stick.position[0] == ARM.upper[0] and stick.position[-1] == ARM.upper[-1]
    for _ in range(1000):
        stick.move([-1.0], [0, 1], 0.1)
    assert stick.position[0] == ARM.lower[0] and stick.position[-1] == ARM.lower[-1]
    stick.begin(np.array([ARM.upper[0] + 0.3, *AT[1:]]))
    assert stick.move([1.0], [0, 0], 0.1)[0] == ARM.upper[0] + 0.3
    assert stick.move([-1.0], [0, 0], 0.1)[0] < ARM.upper[0] + 0.3


def test_a_base_drives_as_fast_as_the_stick_says_and_stands_when_it_is_let_go() -> None:
    stick = Joystick(MOBILE, read_sticks("base_forward=1 lift=4", "", MOBILE), 1.0, 0.0)
    forward = MOBILE.joint_names.index("base_forward")
    axes = list(STILL)
    for value, speed in ((1.0, 0.6), (0.5, 0.3), (-1.0, -0.3), (0.0, 0.0)):
        axes[1] = value
        assert stick.move(axes, [], 0.02)[forward] == pytest.approx(speed)


@pytest.mark.parametrize(
    ("axes", "buttons", "said"),
    [
        ("", "", 'say which axis moves which joint, for example axes:="yaw=0 shoulder=1"'),
        ("yaw", "", "axes: 'yaw': write JOINT=NUMBER"),
        ("yaw=-1", "", "axes: 'yaw=-1': write JOINT=NUMBER, or -JOINT=NUMBER the other way"),
        ("", "thumb=1", "buttons: demo_arm has no joint 'thumb'; it has yaw, shoulder"),
    ],
)
def test_what_cannot_be_meant_is_named(axes: str, buttons: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_sticks(axes, buttons, ARM)


def test_another_joystick_than_the_one_that_was_meant_is_told() -> None:
    stick = joystick("yaw=5", "gripper=2")
    assert stick.problem([0.0] * 4, [0] * 8) == "there is no axis 5: the message has 4, counted from 0"
    assert stick.problem([0.0] * 6, [0] * 2) == "there is no button 2: the message has 2, counted from 0"
    assert stick.problem([0.0] * 6, [0] * 3) == ""
