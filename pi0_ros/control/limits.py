"""Joint limits, and the limiter that every command passes through."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from pi0_ros.base.errors import InputError
from pi0_ros.control.hand import AXIS_FRACTION, Hand
from pi0_ros.robot import Robot
from pi0_ros.robot.space import Space
from pi0_ros.robot.types import DRIVER_WAITS_S

OUTSIDE_FRACTION = 0.1  # of a joint's range: sensors and grippers are a little off
REST = 1e-12  # of a speed's limit: what rounding leaves of zero
TOLERANCE = 1e-9  # relative; below it a difference is rounding, not a clamp


@dataclass(frozen=True)
class JointLimits:
    """What each of `J` joints may do, in the robot's units and joint order. Arrays are float64 [J].

    What is called the position of a speed (`speed`) is how fast it goes: it rests at zero alone, `velocity` is by how
    much it may change per s, and `acceleration` by how much that may.
    """

    names: tuple[str, ...]
    lower: np.ndarray
    upper: np.ndarray
    velocity: np.ndarray  # per s, both directions
    acceleration: np.ndarray  # per s^2, both directions
    gripper: np.ndarray  # bool [J]: joints that switch and never blend
    jerk: np.ndarray = field(default_factory=lambda: np.array(np.inf))  # per s^3, both directions; one number: for all
    tracking: np.ndarray = field(default_factory=lambda: np.array(np.inf))  # distance from the command that is too far
    outside: np.ndarray = field(default_factory=lambda: np.array(np.nan))  # as far outside may a joint be found when
    # it is armed; NaN: OUTSIDE_FRACTION of its range
    space: Space = field(default_factory=lambda: Space.lines(0))  # what the positions are; of no entries: lines
    speed: np.ndarray = field(default_factory=lambda: np.array(False))  # bool [J]: are velocities themselves
    measured: np.ndarray = field(default_factory=lambda: np.array(True))  # bool [J]: the others nobody measures
    driver_waits: np.ndarray = field(default_factory=lambda: np.array(DRIVER_WAITS_S))  # s without a command after
    # which a speed's driver counts as stopped; infinite: never

    def __post_init__(self) -> None:
        for name in ("lower", "upper", "velocity", "acceleration"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float64))
        object.__setattr__(self, "gripper", np.asarray(self.gripper, dtype=bool))
        if not len(self.space.turning):
            object.__setattr__(self, "space", Space.lines(len(self.names)))
        for name in ("speed", "measured"):
            mask = np.asarray(getattr(self, name), dtype=bool)
            object.__setattr__(self, name, np.full(len(self.names), mask) if mask.ndim == 0 else mask)
        for name in ("jerk", "tracking", "outside", "driver_waits"):
            value = np.asarray(getattr(self, name), dtype=np.float64)
            object.__setattr__(self, name, np.full(len(self.names), value) if value.ndim == 0 else value)
        usual = OUTSIDE_FRACTION * (self.upper - self.lower) if self.lower.shape == self.upper.shape else self.lower
        if self.outside.shape == usual.shape:
            object.__setattr__(self, "outside", np.where(np.isnan(self.outside), usual, self.outside))
        kept = (self.lower, self.upper, self.velocity, self.acceleration)
        masks = (self.gripper, self.space.turning, self.speed, self.measured)
        arrays = (*kept, self.jerk, self.tracking, self.outside, self.driver_waits, *masks)
        if any(array.shape != (len(self.names),) for array in arrays):
            raise InputError(f"limits must hold one value per joint ({len(self.names)} joints)")
        good = (
            (self.lower < self.upper)
            & (self.velocity > 0)
            & (self.acceleration > 0)
            & (self.jerk > 0)
            & (self.tracking > 0)
            & (self.outside >= 0)
            & (self.driver_waits > 0)
            & (~self.speed | (self.lower <= 0) & (self.upper >= 0))
            & (self.measured | self.speed)  # without a measurement only a speed is known: it begins at rest
        )
        if not good.all():
            raise InputError("limits upside down or not positive for " + ", ".join(np.array(self.names)[~good]))

    @property
    def labels(self) -> tuple[str, ...]:
        """What messages call the joints: of poses the place, or the rotation."""
        turning, posed = self.space.written, self.space.posed
        return tuple(
            f"{name.rpartition('.')[0]} (its {'rotation' if turning[j] else 'place'})" if posed[j] else name
            for j, name in enumerate(self.names)
        )

    @property
    def spoken(self) -> np.ndarray:
        """Whom messages name, bool [J]: each joint, and of a pose's place and of its rotation the first entry."""
        found = ~self.space.posed
        for pose in self.space.poses:
            found[[pose.at, pose.angular.start]] = True
        return found


def limits_of(robot: Robot) -> JointLimits:
    """The robot file's limits of the joints that are moved, as the controller takes them; `InputError` for a robot that
    it cannot drive."""
    blind = [joint.name for joint in robot.joints if joint.role == "action" and not joint.speed]
    if blind:
        raise InputError(
            f"robot '{robot.name}' is not for the controller, which commands positions from where the joints are: "
            f"{', '.join(blind)} is not in state and action both. Run the policy alone and follow its pi0/chunk"
        )
    return joint_limits(robot.moved)


def joint_limits(robot: Robot) -> JointLimits:
    """The robot file's limits of all its joints."""
    turning = robot.space.written  # a rotation is nowhere outside
    return JointLimits(
        robot.joint_names,
        np.where(turning, -np.inf, robot.lower),
        np.where(turning, np.inf, robot.upper),
        robot.velocity,
        robot.acceleration,
        np.array([joint.kind == "gripper" for joint in robot.joints], bool),
        robot.jerk,
        robot.tracking,
        robot.outside,
        robot.space,
        robot.speed_mask,
        np.array([joint.role != "action" for joint in robot.joints], bool),
        robot.driver_waits_s,
    )


@dataclass
class Clamps:
    """How often a limit kept the command from its target, in joint-ticks.

    Grippers count apart: they switch, so full speed is their normal way, and policies overshoot open and closed.
    """

    position: int = 0
    velocity: int = 0
    acceleration: int = 0
    gripper: int = 0  # position limits of grippers, not in the total

    @property
    def total(self) -> int:
        return self.position + self.velocity + self.acceleration


class Limiter:
    """Turns targets into commands within position, velocity and acceleration limits, one control period at a time.

    Velocity is the command's difference over one period, acceleration the velocity's difference: what a robot that is
    fed one command per period can see. From any state it has reached, the limiter can stop inside the position
    limits. Speeds are led like positions, but come to rest at zero. The arrays `position`, `velocity` and
    `acceleration` [J] are its own and change with every call.
    """

    def __init__(self, limits: JointLimits, period: float) -> None:
        self.limits = limits
        self.period = period
        joints = len(limits.names)
        self.position, self.velocity, self.acceleration = np.zeros((3, joints))
        self.clamps = Clamps()
        self._change = limits.acceleration * period
        self._reach = (
            limits.velocity**2 / limits.acceleration + 2.0 * limits.velocity * period
        )  # more than stopping takes
        self._slowest, self._tight = -limits.velocity, TOLERANCE * limits.velocity
        self._steady = ~limits.gripper & ~limits.space.posed
        ends = limits.lower, limits.upper, limits.velocity, limits.acceleration
        self._hands = [Hand(pose, *ends, period) for pose in limits.space.poses]
        self._target, self._target_velocity, self._wanted, self._allowed, self._before = np.zeros((5, joints))
        self._excess = np.zeros((3, joints))
        self._any_speed = bool(limits.speed.any())
        self._zero = REST * np.maximum(-limits.lower, limits.upper)  # of a speed: below it is zero
        self._distances, self._speeds, self._steps = np.zeros((3, 3, joints))  # rows: behind, room up, room down

    @property
    def moving(self) -> bool:
        return bool(self.velocity.any()) or self.drives

    @property
    def drives(self) -> bool:
        """Whether a speed is not at rest, which is zero."""
        speed = self.limits.speed
        return self._any_speed and bool(self.position[speed].any() or self.velocity[speed].any())

    def start(self, position: np.ndarray) -> None:
        """Start at rest (speeds: without acceleration) from a measured position [J]; a joint found outside its limits
        may only move back inside."""
        self.position[:] = position
        self.velocity[:] = self.acceleration[:] = 0.0
        for hand in self._hands:
            hand.start(self.position)

    def follow(self, position: np.ndarray, velocity: np.ndarray, counted: bool = True) -> None:
        """Advance one period towards a target that is at `position` [J] by then and moves with `velocity` [J].

        Clamps are `counted` unless it is no policy's target. The target is met exactly where the limits allow; where it
        was lost, it is caught up as fast as the limits allow without overshoot.
        """
        if self._hands:
            before = self.position.copy(), self.velocity.copy()
            self._follow(position, velocity, counted)
            for hand in self._hands:
                was = hand.read(*before)
                turn = hand.quaternion(position)
                told = hand.read(position, velocity)
                found = hand.step(*was, told[0], turn, *told[1:])
                hand.write(found, was, before[0], self.position, self.velocity, self.acceleration)
                if counted:
                    self.clamps.position += hand.excess[0]
                    self.clamps.velocity += hand.excess[1]
                    self.clamps.acceleration += hand.excess[2]
        else:
            self._follow(position, velocity, counted)

    def _follow(self, position: np.ndarray, velocity: np.ndarray, counted: bool) -> None:
        """`follow` of joints; what it does to the entries of poses means nothing."""
        limits, period = self.limits, self.period
        target, target_velocity, wanted, allowed = self._target, self._target_velocity, self._wanted, self._allowed
        np.minimum(np.maximum(position, limits.lower, out=target), limits.upper, out=target)
        np.minimum(np.maximum(velocity, self._slowest, out=target_velocity), limits.velocity, out=target_velocity)
        behind = np.multiply(target_velocity, -period, out=wanted)
        behind += target
        behind -= self.position
        np.abs(behind, out=self._distances[0])
        self._stopping_speeds()
        np.copysign(self._speeds[0], behind, out=wanted)
        wanted += target_velocity
        np.minimum(np.maximum(wanted, self._slowest, out=allowed), limits.velocity, out=allowed)
        excess = self._excess
        np.subtract(position, target, out=excess[0])
        np.subtract(wanted, allowed, out=excess[1])
        np.subtract(allowed, self._advance(allowed), out=excess[2])
        np.abs(excess, out=excess)
        if counted and (excess > self._tight).any():
            self._count(excess)

    def follow_all(self, positions: np.ndarray, velocities: np.ndarray) -> np.ndarray:
        """Follow these targets [n, J], one per period, and return where that leads, [n, J]; no clamp is counted.

        For looking ahead: joints that no limit hinders are where their targets are, only the others are gone through.
        """
        free, found = self._free(positions, velocities), positions.copy()
        space, start = self.limits.space, self.position.copy()
        for hand in self._hands:
            found[:, hand.pose.whole] = self._hand_along(hand, positions, velocities)
        for joint in np.flatnonzero(~free.all(axis=0) & ~space.posed):
            first = int(np.argmin(free[:, joint]))
            found[first:, joint] = self._one_by_one(int(joint), first, positions[:, joint], velocities[:, joint])
        found[self.limits.speed & (np.abs(found) <= self._zero)] = 0.0
        path = np.vstack([space.moved(start, -self.velocity * self.period), start, found])[-3:]
        before, self.velocity[:] = space.way(path[:-1], path[1:]) / self.period
        self.acceleration[:] = (self.velocity - before) / self.period
        self.position[:] = found[-1]
        return found

    def _hand_along(self, hand: Hand, positions: np.ndarray, velocities: np.ndarray) -> np.ndarray:
        """`follow` of one pose for these targets [n, J]: its entries, [n, entries].

        As long as no limit hinders it, it is where its targets are; from there on it is gone through.
        """
        pose, met = hand.pose, positions[: self._met(hand, positions, velocities)]
        start, speed, count = self.position, self.velocity, len(met)
        if count:
            before = met[-2] if count > 1 else start
            start, speed = met[-1], self.limits.space.way(before, met[-1]) / self.period
            hand.start(start)
        found = np.zeros((len(positions), len(self.position)))
        found[:count] = met
        if count < len(positions):
            at, rest, moving = hand.read(start, speed), positions[count:], velocities[count:]
            places, rotations = [], []
            targets = (x.tolist() for x in (rest[:, pose.linear], moving[:, pose.linear], moving[:, pose.angular]))
            for turn, place, along, about in zip(hand.quaternions(rest), *targets):
                at = hand.step(*at, tuple(place), turn, tuple(along), tuple(about))
                places.append(at[0])
                rotations.append(hand.rotation)
            found[count:, pose.linear] = places
            found[count:, pose.written] = pose.writing.encode(np.array(rotations))
        return self.limits.space.unwrapped(found, self.position)[:, pose.whole]

    def _met(self, hand: Hand, positions: np.ndarray, velocities: np.ndarray) -> int:
        """How many of the targets, from the first on, a pose meets exactly."""
        limits, period, space, pose = self.limits, self.period, self.limits.space, hand.pose
        before = np.vstack([self.position, positions[:-1]])
        ways = space.way(before, positions)
        changes = np.diff(np.vstack([self.velocity, ways / period]), axis=0)
        free = space.sizes(ways) <= limits.velocity * period
        free &= (space.sizes(velocities) <= limits.velocity) & (space.sizes(changes) <= self._change)
        free &= space.sizes(ways - velocities * period) < self._change * period  # what a tick can catch up
        place, lower, upper = before[:, pose.linear], limits.lower[pose.linear], limits.upper[pose.linear]
        rooms = np.clip(np.stack([upper - place, place - lower]), 0.0, self._reach[pose.linear])
        slow = limits.acceleration[pose.linear] * AXIS_FRACTION
        up, down = speed_to_stop_within(rooms, slow, period, np.empty_like(rooms), np.empty_like(rooms))
        speeds, goal = ways[:, pose.linear] / period, positions[:, pose.linear]
        inside = (speeds <= up) & (-speeds <= down) & (goal >= lower) & (goal <= upper)
        met = free[:, pose.whole].all(axis=1) & inside.all(axis=1)
        return len(met) if met.all() else int(np.argmin(met))

    def _free(self, positions: np.ndarray, velocities: np.ndarray) -> np.ndarray:
        """Which of the targets, bool [n, J], `follow` meets exactly where it met those before."""
        limits, period = self.limits, self.period
        before = np.vstack([self.position, positions[:-1]])
        speeds = (positions - before) / period
        changes = np.diff(np.vstack([self.velocity, speeds]), axis=0)
        rooms = np.clip(np.stack([limits.upper - before, before - limits.lower]), 0.0, self._reach)
        up, down = speed_to_stop_within(rooms, limits.acceleration, period, np.empty_like(rooms), np.empty_like(rooms))
        free = (positions >= limits.lower) & (positions <= limits.upper) & (np.abs(velocities) <= limits.velocity)
        free &= np.abs(positions - velocities * period - before) < self._change * period  # what a tick can catch up
        free &= (np.abs(speeds) <= limits.velocity) & (np.abs(changes) <= self._change)
        return np.asarray(free & (speeds <= up) & (-speeds <= down))

    def _one_by_one(self, joint: int, first: int, positions: np.ndarray, velocities: np.ndarray) -> list[float]:
        """`follow` for one joint from target `first` on, in plain numbers: numpy's calls cost more than the sums."""
        limits, period, change = self.limits, self.period, float(self._change[joint])
        lower, upper, fastest = (float(x[joint]) for x in (limits.lower, limits.upper, limits.velocity))
        reach, found, twice = float(self._reach[joint]), [], 8.0 / (change * period)
        at = float(positions[first - 1]) if first else float(self.position[joint])
        before = float(positions[first - 2]) if first > 1 else float(self.position[joint])
        velocity = (at - before) / period if first else float(self.velocity[joint])

        def stopping(distance: float) -> float:
            distance = min(max(distance, 0.0), reach)
            steps = math.floor((math.sqrt(distance * twice + 1.0) - 1.0) * 0.5)
            return steps * 0.5 * change + distance / (period * (steps + 1.0))

        for position, moving in zip(positions[first:].tolist(), velocities[first:].tolist()):
            target, along = min(max(position, lower), upper), min(max(moving, -fastest), fastest)
            behind = target - along * period - at
            wanted = math.copysign(stopping(abs(behind)), behind) + along
            taken = min(max(min(max(wanted, -fastest), fastest), velocity - change), velocity + change)
            velocity = max(min(taken, stopping(upper - at)), -stopping(at - lower))
            at = min(max(at + velocity * period, min(lower, at)), max(upper, at))
            found.append(at)
        return found

    def brake(self, fraction: float = 1.0) -> None:
        """Advance one period while decelerating to rest with `fraction` of the acceleration limits (more where a
        position limit is near). All joints stop together, so the path keeps its direction; speeds go to zero as fast as
        they may."""
        speed, sizes = self.limits.speed, self.limits.space.sizes(self.velocity)
        steps = float(np.max(sizes / self._change, initial=0.0, where=~speed)) / fraction
        kept = 1.0 - 1.0 / steps if steps > 1.0 else 0.0
        before = self.position.copy(), self.velocity.copy()
        self._distances[0] = np.where(speed, np.abs(self.position), 0.0) if self._any_speed else 0.0
        self._stopping_speeds()
        np.multiply(self.velocity, kept, out=self._allowed)
        if self._any_speed:
            slowing = np.minimum(self._speeds[0], self.limits.velocity)
            np.copyto(self._allowed, np.copysign(slowing, -self.position), where=speed)
        self._advance(self._allowed)
        for hand in self._hands:
            was = hand.read(*before)
            hand.write(hand.slow(*was, kept), was, before[0], self.position, self.velocity, self.acceleration)

    def _stopping_speeds(self) -> None:
        """Speeds with which the joints can still stop within what is behind, and before their limits."""
        distances = self._distances
        np.subtract(self.limits.upper, self.position, out=distances[1])
        np.subtract(self.position, self.limits.lower, out=distances[2])
        np.minimum(np.maximum(distances, 0.0, out=distances), self._reach, out=distances)
        speed_to_stop_within(distances, self.limits.acceleration, self.period, self._speeds, self._steps)

    def _advance(self, velocity: np.ndarray) -> np.ndarray:
        """Take on `velocity` [J] as far as acceleration and position limits allow, and return what became of it."""
        limits, before = self.limits, self._before
        before[:] = self.velocity
        taken = np.maximum(velocity, np.subtract(before, self._change, out=self.velocity), out=self.velocity)
        np.minimum(taken, np.add(before, self._change, out=self._target_velocity), out=taken)
        np.minimum(taken, self._speeds[1], out=taken)
        np.maximum(taken, np.negative(self._speeds[2], out=self._speeds[2]), out=taken)
        np.divide(np.subtract(taken, before, out=self.acceleration), self.period, out=self.acceleration)
        highest = np.maximum(limits.upper, self.position, out=before)
        lowest = np.minimum(limits.lower, self.position, out=self._target_velocity)
        self.position += np.multiply(taken, self.period, out=self._speeds[0])
        np.minimum(np.maximum(self.position, lowest, out=self.position), highest, out=self.position)
        if self._any_speed:  # what rounding has left of a speed is no motion
            rests = self.limits.speed & (np.abs(self.position) <= self._zero)
            np.copyto(self.position, 0.0, where=rests)
            np.copyto(taken, 0.0, where=rests & (np.abs(taken) * self.period <= self._zero))
        return taken

    def _count(self, excess: np.ndarray) -> None:
        over = excess > self._tight
        position, velocity, acceleration = np.count_nonzero(over & self._steady, axis=1)
        self.clamps.position += int(position)
        self.clamps.velocity += int(velocity)
        self.clamps.acceleration += int(acceleration)
        self.clamps.gripper += int(np.count_nonzero(over[0] & self.limits.gripper))


def speed_to_stop_within(
    distance: np.ndarray, acceleration: np.ndarray, period: float, out: np.ndarray, steps: np.ndarray
) -> np.ndarray:
    """Greatest speed with which joints can still stop within `distance` >= 0, in steps of `period` s.

    A joint that moves at speed `v` for this step and then loses `a * period` each step travels
    `period * ((n + 1) * v - a * period * n * (n + 1) / 2)` with `n = floor(v / (a * period))`: linear between
    multiples of `a * period`, so its inverse is exact. Units: distance u, acceleration u/s^2, result u/s.
    """
    change = acceleration * period
    np.multiply(distance, 8.0 / (change * period), out=steps)
    steps += 1.0
    np.sqrt(steps, out=steps)
    steps -= 1.0
    steps *= 0.5
    np.floor(steps, out=steps)
    np.multiply(
        steps, 0.5 * change, out=out
    )  # (d / h + change n (n + 1) / 2) / (n + 1) = d / (h (n + 1)) + change n / 2
    steps += 1.0
    steps *= period
    out += np.divide(distance, steps, out=steps)
    return out
