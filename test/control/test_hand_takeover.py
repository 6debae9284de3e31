"""A person leads a hand by poses: no jump of place or rotation, limits hold, and a joystick moves and turns it."""

from __future__ import annotations

import numpy as np
import pytest
from arms import Bench
from hand import apart, hand_robot, path, vectors
from hypothesis import given, settings
from hypothesis import strategies as st
from test_hand import assert_judged

from pi0_ros.base.errors import InputError
from pi0_ros.control.joystick import Joystick, read_sticks
from pi0_ros.control.limits import limits_of
from pi0_ros.control.states import State
from pi0_ros.control.takeover import Takeover
from pi0_ros.robot import Robot, rotations
from pi0_ros.robot.rotations import WRITINGS
from pi0_ros.robot.types import TakeoverTopics

ROTATIONS = sorted(WRITINGS)
BY_COMMANDS = TakeoverTopics(begins="commands", timeout_s=0.3)
PERIOD = 0.02


def person_at(robot: Robot, seed: int, times: np.ndarray) -> np.ndarray:
    """Where the person wants the hand, [N, J]."""
    return vectors(robot, *path(seed, times, turns=0.3), 0.5)


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_the_robot_is_led_from_where_it_is_to_the_person_and_follows_them(rotation: str) -> None:
    robot = hand_robot(rotation, rate=50.0)
    limits = limits_of(robot)
    takeover = Takeover(limits, timeout_s=0.3, blend_s=0.5)
    times = np.arange(0.0, 12.0, PERIOD)
    poses = person_at(robot, 1, times)
    command = vectors(robot, *path(2, np.zeros(1)), 0.5)[0]
    takeover.hear(poses[0], times[0])
    takeover.begin(command, times[0])
    places, velocities = [], []
    for pose, t in zip(poses, times):
        takeover.hear(robot.action_space.nearest(pose, places[-1] if places else command), t)
        place, velocity = takeover.target(t)
        places.append(place.copy())
        velocities.append(velocity.copy())
    assert apart(robot, places[0], command).max() < 1e-9, "no jump"
    assert apart(robot, places[-1], poses[-2]).max() < 1e-9, "one pose behind, on the line to the newest"
    space = robot.action_space
    whole = space.whole(np.array(places))
    np.testing.assert_allclose(whole, places, atol=1e-9)
    ways = space.way(np.array(places[2:-2]), np.array(places[4:])) / (2 * PERIOD)  # at first no line leads anywhere
    middle = np.array(velocities[3:-1])
    slack = 0.05 * space.sizes(middle) + 0.02  # of differences, and of lines from pose to pose
    assert (np.abs(ways - middle) <= slack).all(), "velocities are those of the places"


@settings(max_examples=20, deadline=None)
@given(
    seeds=st.lists(st.integers(0, 9999), min_size=1, max_size=4),
    rotation=st.sampled_from(ROTATIONS),
    period=st.sampled_from([0.02, 0.008]),
)
def test_whatever_the_person_does_the_hand_stays_within_its_limits(
    seeds: list[int], rotation: str, period: float
) -> None:
    robot = hand_robot(rotation, rate=1.0 / period)
    limits = limits_of(robot)
    bench = Bench(limits, period=period, takeover=BY_COMMANDS)
    bench.measured = vectors(robot, *path(3, np.zeros(1)), 0.5)[0]
    bench.arm()
    for seed in seeds:
        random = np.random.default_rng(seed)
        for _ in range(int(random.integers(1, 80))):
            if random.random() < 0.8:
                wild = random.uniform(-0.9, 0.9, (1, 3)), rotations.normalized(random.normal(size=(1, 4)))
                bench.controller.lead(vectors(robot, *wild, random.uniform())[0], bench.steady)
            bench.step()
        bench.step(int(random.integers(0, 40)))
        if bench.controller.state is State.DISARMED:
            bench.step(200)
            bench.controller.arm(bench.now)
    for positions in bench.motions():
        assert_judged(robot, positions, limits, period)


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_a_person_holds_the_hand_where_they_want_it(rotation: str) -> None:
    robot = hand_robot(rotation, rate=50.0)
    bench = Bench(limits_of(robot), takeover=BY_COMMANDS)
    bench.measured = vectors(robot, *path(3, np.zeros(1)), 0.5)[0]
    bench.arm()
    wanted = person_at(robot, 4, np.zeros(1))[0]
    for _ in range(400):
        bench.controller.lead(wanted, bench.steady)
        bench.step()
    assert bench.controller.in_charge == "person"
    assert bench.sent[-1] is not None and apart(robot, bench.sent[-1].position, wanted).max() < 1e-6


def joystick(robot: Robot, axes: str, speed: float = 0.5) -> Joystick:
    made = Joystick(robot, read_sticks(axes, "", robot), speed, 0.0)
    made.begin(vectors(robot, *path(5, np.zeros(1)), 0.5)[0])
    return made


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_a_joystick_moves_along_and_turns_about_the_axes_of_the_frame(rotation: str) -> None:
    robot = hand_robot(rotation)
    place, turn = (values[0] for values in path(5, np.zeros(1)))
    stick = joystick(robot, "hand.x=0 -hand.z=1 hand.angular.z=2")
    for _ in range(10):
        stick.move([1.0, 1.0, 1.0], [], 0.1)
    turned = rotations.turned(turn, np.array([0.0, 0.0, 0.5 * 1.5]))
    wanted = vectors(robot, (place + [0.25, 0.0, -0.25])[None], turned[None], 0.5)[0]
    assert apart(robot, stick.position, wanted).max() < 1e-9
    for _ in range(100):
        stick.move([1.0, 1.0, 0.0], [], 0.1)
    assert stick.position[0] == 1.0 and stick.position[2] == -1.0, "the hand stays in its room"
    assert apart(robot, stick.position, wanted)[3:].max() < 1e-9


def test_numbers_of_a_rotation_are_no_axes_of_a_joystick() -> None:
    robot = hand_robot("rot6d")
    name = robot.poses[0].entries[3]
    with pytest.raises(InputError, match=r"has no joint .*; it has hand\.x, .*hand\.angular\.z"):
        read_sticks(f"{name}=0", "", robot)
