"""Arms and paths that the tests of `pi0_ros.control` share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from chunks import chunk_of

from pi0_ros.control.chunk import ActionChunk
from pi0_ros.control.controller import Controller
from pi0_ros.control.limits import JointLimits
from pi0_ros.control.states import Command, Settings
from pi0_ros.robot.types import NOBODY, TakeoverTopics

PERIOD = 0.02
START = 1.7e9  # today's dates, with their rounding
NAMES = ("yaw", "elbow", "gripper")
ALL = np.arange(3)


def arm_limits() -> JointLimits:
    """Two revolute joints and a gripper."""
    return JointLimits(
        NAMES,
        lower=np.array([-2.0, -1.0, 0.0]),
        upper=np.array([2.0, 1.0, 1.0]),
        velocity=np.array([2.0, 1.5, 5.0]),
        acceleration=np.array([16.0, 12.0, 50.0]),
        gripper=np.array([False, False, True]),
    )


def path(t: np.ndarray | float) -> np.ndarray:
    """A smooth path well within the limits, [..., 3] at `t` s after START."""
    t = np.asarray(t, dtype=np.float64)
    return np.stack([np.sin(1.2 * t), 0.6 * np.sin(0.9 * t), (np.sin(t) > 0.5) * 1.0], axis=-1)


def path_chunk(stamp: float, steps: int = 24, dt: float = 0.05, offset: float = 0.0) -> ActionChunk:
    """What a perfect policy predicts from an observation at `stamp`, moved by `offset`."""
    return chunk_of(stamp, dt, path(stamp - START + dt * np.arange(steps)) + [offset, offset, 0.0], NAMES)


class Bench:
    """A controller, the clock that drives it, and what it sent. The robot is where it was told to be."""

    def __init__(
        self,
        limits: JointLimits | None = None,
        settings: Settings | None = None,
        period: float = PERIOD,
        takeover: TakeoverTopics = NOBODY,
    ) -> None:
        self.limits = limits or arm_limits()
        self.period = period
        joints = len(self.limits.names)
        ages, settings = np.full(joints, 0.15), settings or Settings()
        self.controller = Controller(self.limits, period, ages, settings, takeover=takeover)
        self.now = START
        self.steady = 50.0  # of the machine: it passes although the clock is set
        self.measured = np.clip(np.zeros(joints), self.limits.lower, self.limits.upper)
        self.feedback_works = self.follows = True
        self.sent: list[Command | None] = []
        self.stalls: set[int] = set()  # places in `sent` before which the process stood still, and the robot with it

    def step(self, ticks: int = 1) -> None:
        """Let `ticks` control periods pass."""
        for _ in range(ticks):
            self.now += self.period
            self.steady += self.period
            if self.feedback_works:
                self.controller.measure(self.now, np.arange(len(self.measured)), self.measured)
            command = self.controller.tick(self.now, self.steady)
            self.sent.append(command)
            if command is not None and self.follows:
                self.measured = command.position

    def stall(self, seconds: float) -> None:
        """Let time pass without a tick, as for a stopped process."""
        self.now += seconds
        self.steady += seconds
        if seconds + self.period > self.controller.stalls.limit_s:
            self.stalls.add(len(self.sent))

    def arm(self) -> None:
        """Rest for a moment, then arm."""
        self.step(int(0.4 / self.period))
        assert self.controller.arm(self.now) == []

    def run(self, seconds: float, every: float = 0.4, delay: float = 0.1) -> None:
        """Follow the path's chunks for `seconds`."""
        for tick in range(round(seconds / self.period)):
            if tick % round(every / self.period) == 0:
                self.controller.accept(path_chunk(self.now - delay), self.now)
            self.step()

    def motions(self) -> list[np.ndarray]:
        """What was sent without a break, each [ticks, J], with where the robot was taken to rest before.

        A stall is a break: the robot came to rest at the last command, and must be led on from there.
        """
        found: list[list[np.ndarray]] = []
        for place, (before, after) in enumerate(zip([None, *self.sent[:-1]], self.sent, strict=True)):
            if after is not None:
                if before is None:
                    found.append([self.limits.space.moved(after.position, -after.velocity * self.period)])
                elif place in self.stalls:
                    braked_from = after.position - after.velocity * self.period  # a base may have stopped by itself
                    found.append([np.where(self.limits.speed, braked_from, before.position)])
                found[-1].append(after.position)
        return [np.array(motion) for motion in found]

    def assert_within_limits(self) -> None:
        """Every motion was within the limits, beginning and ending at rest or where no tick came for a while."""
        for motion in self.motions():
            outside = replace(
                self.limits,
                lower=np.minimum(self.limits.lower, motion[0]),
                upper=np.maximum(self.limits.upper, motion[0]),
            )
            assert_within_limits(motion, outside, self.period)

    def positions(self) -> np.ndarray:
        """What was sent, [ticks, J]."""
        return np.array([command.position for command in self.sent if command is not None])


def assert_within_limits(positions: np.ndarray, limits: JointLimits, period: float = PERIOD) -> None:
    """Positions, one per period, break no position, velocity, acceleration or jerk limit, starting from rest."""
    assert np.isfinite(positions).all()
    assert (positions >= limits.lower - 1e-9).all() and (positions <= limits.upper + 1e-9).all()
    velocity = np.diff(positions, axis=0, prepend=positions[:1]) / period
    acceleration = np.diff(velocity, axis=0, prepend=np.zeros((1, positions.shape[1]))) / period
    jerk = np.diff(acceleration, axis=0, prepend=np.zeros((1, positions.shape[1]))) / period
    # Rounding of positions, differentiated again and again, is what the slack is for.
    slack = 1e-12 * np.maximum(1.0, np.abs(positions).max())
    assert (np.abs(velocity) <= limits.velocity * (1 + 1e-9) + 2 * slack / period).all()
    assert (np.abs(acceleration) <= limits.acceleration * (1 + 1e-9) + 4 * slack / period**2).all()
    assert (np.abs(jerk) <= limits.jerk * (1 + 1e-9) + 8 * slack / period**3).all()
