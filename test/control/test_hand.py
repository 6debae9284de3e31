"""Poses on their way to the robot: speeds and accelerations of the whole hand within its limits, whatever is asked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from arms import Bench
from chunks import chunk_of
from hand import hand_robot, path, vectors
from hypothesis import given, settings
from hypothesis import strategies as st

from pi0_ros.control.chunk import ChunkError
from pi0_ros.control.limits import JointLimits, Limiter, limits_of
from pi0_ros.control.plan import begun, position_along, rest_of_plan
from pi0_ros.control.splines import INTERPOLATIONS, chunk_spline
from pi0_ros.control.states import Settings, State
from pi0_ros.control.transitions import TRANSITIONS
from pi0_ros.inference.prefix import Continuation, RtcSettings
from pi0_ros.robot import Robot, rotations
from pi0_ros.robot.rotations import WRITINGS

ROTATIONS = ("rot6d", "axis_angle", "quaternion", "euler_xyz")


def parts(robot: Robot, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places [N, 3] and rotation matrices [N, 3, 3], by the numbers alone."""
    (pose,) = robot.poses
    q = WRITINGS[pose.rotation].decode(positions[:, 3 : len(pose.entries)])
    return positions[:, :3], rotations.matrix(q)


def turn_vectors(matrices: np.ndarray) -> np.ndarray:
    """From each of [N, 3, 3] to the next, rad [N - 1, 3], in the frame's axes: angle by the trace, as in a textbook."""
    between = matrices[1:] @ matrices[:-1].transpose(0, 2, 1)
    skew = (between - between.transpose(0, 2, 1)) / 2
    vector = np.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]], axis=1)
    sine = np.linalg.norm(vector, axis=1, keepdims=True)
    angle = np.arctan2(sine[:, 0], (np.trace(between, axis1=1, axis2=2) - 1) / 2)[:, None]
    return vector * np.where(sine > 1e-12, angle / np.maximum(sine, 1e-12), 1.0)


def judged(robot: Robot, positions: np.ndarray, limits: JointLimits, period: float) -> tuple[np.ndarray, ...]:
    """(speed, acceleration, of the turn the same) of commands from rest, as fractions of the limits; in the room."""
    place, matrices = parts(robot, positions)
    found = []
    for ways, at in ((np.diff(place, axis=0), 0), (turn_vectors(matrices), 3)):
        velocity = np.vstack([np.zeros((1, 3)), ways / period])
        change = np.diff(velocity, axis=0) / period
        slack = 2e-13 / period, 1e-12 / period**2  # rounding of positions, differentiated
        for values, limit, less in zip((velocity, change), (limits.velocity[at], limits.acceleration[at]), slack):
            found.append((np.linalg.norm(values, axis=1) - less) / limit)
    outside = np.minimum(limits.lower[:3], place[0]), np.maximum(limits.upper[:3], place[0])
    assert (place >= outside[0] - 1e-12).all() and (place <= outside[1] + 1e-12).all()
    return tuple(found)


def assert_judged(robot: Robot, positions: np.ndarray, limits: JointLimits, period: float) -> None:
    for values, what in zip(judged(robot, positions, limits, period), ("speed", "acceleration", "turn", "its change")):
        assert values.max() <= 1 + 1e-6, f"{what}: {values.max()} at {values.argmax()} of {len(values)}"


@settings(max_examples=24, deadline=None)
@given(
    st.integers(0, 9999),
    st.sampled_from([20.0, 50.0, 125.0, 1000.0]),
    st.sampled_from(ROTATIONS),
    st.sampled_from(["jumps", "half turns", "noise"]),
)
def test_no_target_takes_a_hand_beyond_its_limits(seed: int, rate: float, rotation: str, kind: str) -> None:
    robot, rng = hand_robot(rotation, rate=rate), np.random.default_rng(seed)
    limits, period = limits_of(robot), 1.0 / rate
    limiter, count = Limiter(limits, period), 128
    q = rotations.normalized(rng.normal(size=(count, 4)))
    if kind == "half turns":
        axis = rng.normal(size=3)
        axis /= np.linalg.norm(axis)
        turned = np.where((np.arange(count) // 40 % 2 == 0)[:, None], 0.0, np.pi * axis)
        q = rotations.turned(np.broadcast_to(q[0], q.shape), turned)
    elif kind == "jumps":
        q = np.repeat(q[::32], 32, axis=0)
    place = np.repeat(rng.uniform(-1.3, 1.3, (count // 16, 3)), 16, axis=0)  # the room ends at 1
    targets = vectors(robot, place, q)
    speeds = np.where(limits.space.axes, rng.normal(size=targets.shape), 0.0) * rng.choice([0.0, 1.0, 5.0])
    limiter.start(vectors(robot, place[:1] * 0.5, q[:1])[0])
    sent = [limiter.position.copy()]
    for n, (target, speed) in enumerate(zip(targets, speeds)):
        if n % 50 > 44:
            limiter.brake(rng.uniform(0.3, 1.0))
        else:
            limiter.follow(target, speed)
        assert limiter.velocity[~limits.space.axes].any() == False  # noqa: E712
        sent.append(limiter.position.copy())
    assert_judged(robot, np.array(sent), limits, period)
    again = Limiter(limits, period)  # looking ahead is the same
    again.start(sent[0])
    first = Limiter(limits, period)
    first.start(sent[0])
    one = []
    for target, speed in zip(targets[:40], speeds[:40]):
        first.follow(target, speed)
        one.append(first.position.copy())
    np.testing.assert_allclose(again.follow_all(targets[:40], speeds[:40]), one, atol=1e-9)
    np.testing.assert_allclose(again.velocity, first.velocity, atol=1e-6)
    np.testing.assert_allclose(again.acceleration, first.acceleration, atol=1e-6 * rate)


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_a_half_turn_is_made_and_stands_still_at_its_end(rotation: str) -> None:
    robot = hand_robot(rotation)
    limits, limiter = limits_of(robot), Limiter(limits_of(robot), 0.01)
    begin = vectors(robot, np.zeros((1, 3)), np.array([[0.0, 0, 0, 1]]))[0]
    goal = vectors(robot, np.array([[0.3, 0.2, -0.1]]), np.array([[0.0, 1.0, 0, 0]]))[0]
    limiter.start(begin)
    sent = [begin]
    for _ in range(400):
        limiter.follow(goal, np.zeros_like(goal))
        sent.append(limiter.position.copy())
    space = limits.space
    assert space.sizes(space.way(goal, limiter.position)).max() < 1e-12 and not limiter.moving
    assert_judged(robot, np.array(sent), limits, 0.01)
    arrived = [n for n, at in enumerate(sent) if space.sizes(space.way(goal, at)).max() < 1e-9][0] * 0.01
    assert arrived < np.pi / 1.5 + 1.5 / 6.0 + 0.1, "as fast as the limits allow: trapezoid"


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_between_actions_it_is_slerp_and_as_smooth_as_for_joints(interpolation: str) -> None:
    robot = hand_robot("rot6d")
    limits, dt = limits_of(robot), 0.05
    chunk = chunk_of(10.0, dt, vectors(robot, *path(4, np.arange(12) * dt, turns=3.0)), robot.joint_names)
    spline = chunk_spline(chunk, interpolation, limits.gripper, 10.0, limits.space)
    times = np.linspace(0.0, 0.5, 2001)
    positions, velocities = spline.positions(times), spline.velocities(times)
    for n in (0, 700, 1400):  # one by one and all together are the same
        one = spline.sample(times[n])
        np.testing.assert_allclose(one[0], positions[n], atol=1e-12)
        np.testing.assert_allclose(one[1], velocities[n], atol=1e-9)
    turning = turn_vectors(parts(robot, positions)[1]) / np.diff(times)[:, None]
    knots = parts(robot, spline.positions(np.arange(11) * dt))[1]
    np.testing.assert_allclose(knots, parts(robot, chunk.actions[:11])[1], atol=1e-12)
    if interpolation == "hold":
        assert np.abs(velocities).max() == 0.0
        return
    inside = ~np.isin(np.arange(2000) % 200, (0, 199))  # not across an action
    middle = (velocities[:-1, 3:6] + velocities[1:, 3:6]) / 2
    np.testing.assert_allclose(turning[inside], middle[inside], atol=2e-3 * 3.0)
    speed = np.linalg.norm(turning, axis=1)
    if interpolation == "linear":  # constant from action to action: the definition of slerp
        pieces = speed[: 10 * 200].reshape(10, 200)[:, 1:-1]
        assert np.ptp(pieces, axis=1).max() < 1e-6
    else:
        steps = np.linalg.norm(np.diff(velocities[:, 3:6], axis=0), axis=1)
        assert steps.max() < 0.05, "no jump of the velocity"
    if interpolation == "quintic":
        bends = np.diff(velocities[:, 3:6], axis=0) / np.diff(times)[:, None]
        assert np.linalg.norm(np.diff(bends, axis=0), axis=1).max() < 1.0, "nor of the acceleration"


class HandBench(Bench):
    """A hand that goes where it is told; policies predict `path`, each chunk a little off."""

    def __init__(self, robot: Robot, settings: Settings, seed: int = 0) -> None:
        self.robot, self.rng, self.seed = robot, np.random.default_rng(seed), seed
        super().__init__(limits_of(robot), settings, 1.0 / robot.control_rate_hz)
        self.measured = vectors(robot, *path(seed, np.zeros(1)))[0]
        self.began = self.now

    def predicted(self, delay: float, off: float) -> np.ndarray:
        times = self.now - delay - self.began + 0.05 * np.arange(24)
        place, q = path(self.seed, times)
        q = rotations.turned(q, np.broadcast_to(off * self.rng.normal(size=3), (24, 3)))
        return vectors(self.robot, place + 0.3 * off * self.rng.normal(size=3), q)

    def chunks(self, seconds: float, every: float = 0.3, delay: float = 0.1, off: float = 0.03) -> None:
        for tick in range(round(seconds / self.period)):
            if tick % round(every / self.period) == 0:
                chunk = chunk_of(self.now - delay, 0.05, self.predicted(delay, off), self.robot.joint_names)
                assert self.controller.accept(chunk, self.now)
            self.step()


@pytest.mark.parametrize(
    "rotation, transition", [*(("rot6d", name) for name in TRANSITIONS), *((name, "blend") for name in ROTATIONS[1:])]
)
def test_chunks_are_followed_and_held_within_the_limits(rotation: str, transition: str) -> None:
    robot = hand_robot(rotation, rate=50.0)
    bench = HandBench(robot, Settings(transition=transition))
    bench.arm()
    bench.chunks(2.5)
    assert bench.controller.state is State.RUNNING, bench.controller.reason
    place, q = path(bench.seed, np.array([bench.now - bench.began]))
    space = bench.limits.space
    off = space.sizes(space.way(vectors(robot, place, q)[0], bench.sent[-1].position))
    assert off[:-1].max() < 0.15, "on the path, but for what chunks are off"
    sent = bench.positions()
    assert_judged(robot, bench.motions()[0], bench.limits, bench.period)
    if rotation != "euler_xyz":
        assert np.abs(np.diff(sent[:, 3:-1], axis=0)).max() < 0.2, "no name is jumped to"
    bench.step(150)  # the chunks are over
    assert bench.controller.state in (State.HOLDING, State.DISARMED) and "no newer chunk" in bench.controller.reason
    assert not bench.controller.moving
    assert_judged(robot, bench.motions()[0], bench.limits, bench.period)


@pytest.mark.parametrize("rotation", ["quaternion", "axis_angle"])
def test_a_driver_may_say_a_rotation_by_any_of_its_names(rotation: str) -> None:
    found = []
    for renamed in (False, True):
        bench = HandBench(hand_robot(rotation, rate=50.0), Settings())
        bench.arm()
        part = bench.limits.space.poses[0].written
        for tick in range(100):
            if tick % 15 == 0:
                chunk = chunk_of(bench.now - 0.1, 0.05, bench.predicted(0.1, 0.0), bench.robot.joint_names)
                assert bench.controller.accept(chunk, bench.now)
            if renamed and tick % 2:
                numbers = bench.measured[part]
                other = (
                    -numbers if rotation == "quaternion" else numbers * (1 - rotations.TURN / np.linalg.norm(numbers))
                )
                bench.measured = np.concatenate([bench.measured[:3], other, bench.measured[-1:]])
            bench.step()
        assert bench.controller.state is State.RUNNING and not bench.controller.fault, bench.controller.reason
        found.append(bench.positions())
    np.testing.assert_array_equal(*found)


def test_all_ways_to_write_a_rotation_command_the_same() -> None:
    found = []
    for rotation in ROTATIONS:
        bench = HandBench(hand_robot(rotation, rate=50.0), Settings(transition="blend"))
        bench.arm()
        bench.chunks(1.5)
        bench.controller.estop("now")
        bench.step(60)
        place, matrices = parts(bench.robot, bench.positions())
        found.append(np.hstack([place, matrices.reshape(len(place), 9)]))
        assert_judged(bench.robot, bench.motions()[0], bench.limits, bench.period)
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=1e-6)


def test_a_plan_says_what_is_sent_and_a_first_chunk_half_a_turn_away_is_reached() -> None:
    robot = hand_robot("rot6d", rate=50.0)
    bench = HandBench(robot, Settings())
    place, q = path(0, np.zeros(1))
    away = rotations.turned(q, np.array([[0.0, 0.0, np.pi - 1e-4]]))
    bench.measured = vectors(robot, place, away)[0]
    bench.arm()
    for _ in range(20):
        chunk = chunk_of(bench.now, 0.05, np.repeat(vectors(robot, place, q), 40, axis=0), robot.joint_names)
        assert bench.controller.accept(chunk, bench.now)
        bench.step(10)
    assert_judged(robot, bench.motions()[0], bench.limits, bench.period)
    bench.chunks(0.6)
    ahead = bench.controller.fork()
    now, position = bench.now, bench.sent[-1].position
    plan = rest_of_plan(ahead, position, now)
    assert plan is not None
    bench.step(60)
    times = plan.times[:40]
    told = position_along(plan, times - 0.01, bench.limits.gripper, bench.limits.space)[1:]
    space = bench.limits.space
    sent = np.array([command.position for command in bench.sent[-60:] if command is not None])
    np.testing.assert_allclose(plan.positions[:40], sent[:40], atol=1e-6)
    between = space.partly(sent[:39], sent[1:40], np.full((39, 1), 0.5))
    assert space.sizes(space.way(between, told))[:, :-1].max() < 2e-3


@pytest.mark.parametrize("rotation", ["rot6d", "axis_angle"])
def test_the_prefix_of_the_next_chunk_is_what_is_really_sent(rotation: str) -> None:
    robot = hand_robot(rotation, rate=50.0)
    bench = HandBench(robot, Settings())
    bench.arm()
    bench.chunks(1.2)
    continuation = Continuation(RtcSettings("exact"), robot.gripper_mask, robot.velocity, robot.action_space)
    chunk = chunk_of(bench.now - 0.05, 0.05, bench.predicted(0.05, 0.0), robot.joint_names)
    assert bench.controller.accept(chunk, bench.now)
    continuation.published(chunk, round(bench.now * 1e9))
    continuation.state(armed=True, follows=True)
    sent: list[tuple[float, np.ndarray]] = []
    for tick in range(10):
        bench.step()
        sent.append((bench.now, bench.sent[-1].position))
        continuation.sent(round(bench.now * 1e9), bench.sent[-1].position)
        if tick == 9:
            plan = rest_of_plan(bench.controller.fork(), bench.sent[-1].position, bench.now)
            continuation.planned(round(bench.now * 1e9), begun(plan, bench.sent[-1].position, bench.sent[-1].velocity))
    stamp = bench.now - 0.1
    prefix = continuation.prefix(round(stamp * 1e9))
    assert prefix is not None and continuation.problem == "" and len(prefix.actions) > 12
    for _ in range(40):
        bench.step()
        sent.append((bench.now, bench.sent[-1].position))
    space = bench.limits.space
    times = stamp + 0.05 * np.arange(12)
    really = space.interpolated(times, np.array([t for t, _ in sent]), np.array([x for _, x in sent]))
    off = space.sizes(space.way(prefix.actions[:12], really))
    assert off[:, :-1].max() < 2e-3, off.max(axis=0)
    assert space.sizes(space.way(prefix.actions, space.whole(prefix.actions))).max() < 1e-9, "whole rotations"


def test_who_does_not_follow_and_what_is_no_rotation_is_said() -> None:
    robot = hand_robot("rot6d", rate=50.0)
    bench = HandBench(robot, Settings())
    bench.arm()
    bench.chunks(0.6)
    bench.follows = False
    held = bench.measured.copy()
    away = rotations.turned(path(0, np.zeros(1))[1][0], np.array([1.2, 0.0, 0.0]))
    for _ in range(6):
        actions = vectors(robot, np.tile(held[:3], (24, 1)), np.tile(away, (24, 1)))
        bench.controller.accept(chunk_of(bench.now, 0.05, actions, robot.joint_names), bench.now)
        bench.step(15)
        bench.measured = held
    assert "hand (its rotation) is" in bench.controller.reason + bench.controller.fault
    assert "from its command" in bench.controller.reason + bench.controller.fault, bench.controller.reason
    bad = vectors(robot, *path(0, np.arange(24) * 0.05))
    bad[5, 3:9] = 0.0
    with pytest.raises(ChunkError, match=r"no rotation can be made of hand.r1"):
        bench.controller.accept(chunk_of(bench.now, 0.05, bad, robot.joint_names), bench.now)
    joints = replace(limits_of(robot), tracking=np.full(len(robot.joints), 0.5))
    assert joints.spoken.tolist() == [True, False, False, True, *[False] * 5, True]
