"""Joint limits, and the limiter that every command passes through."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TOLERANCE = 1e-9  # relative; below it a difference is rounding, not a clamp


@dataclass(frozen=True)
class JointLimits:
    """What each of `J` joints may do, in the robot's units and joint order. Arrays are float64 [J]."""

    names: tuple[str, ...]
    lower: np.ndarray
    upper: np.ndarray
    velocity: np.ndarray  # per s, both directions
    acceleration: np.ndarray  # per s^2, both directions
    gripper: np.ndarray  # bool [J]: joints that switch and never blend

    def __post_init__(self) -> None:
        for field in ("lower", "upper", "velocity", "acceleration"):
            object.__setattr__(self, field, np.asarray(getattr(self, field), dtype=np.float64))
        object.__setattr__(self, "gripper", np.asarray(self.gripper, dtype=bool))
        arrays = (self.lower, self.upper, self.velocity, self.acceleration, self.gripper)
        if any(array.shape != (len(self.names),) for array in arrays):
            raise ValueError(f"limits must hold one value per joint ({len(self.names)} joints)")
        good = (self.lower < self.upper) & (self.velocity > 0) & (self.acceleration > 0)
        if not good.all():
            raise ValueError("limits upside down or not positive for " + ", ".join(np.array(self.names)[~good]))


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


def speed_to_stop_within(distance: np.ndarray, acceleration: np.ndarray, period: float) -> np.ndarray:
    """Greatest speed with which joints can still stop within `distance` >= 0, in steps of `period` s.

    A joint that moves at speed `v` for this step and then loses `a * period` each step travels
    `period * ((n + 1) * v - a * period * n * (n + 1) / 2)` with `n = floor(v / (a * period))`: linear between
    multiples of `a * period`, so its inverse is exact. Units: distance u, acceleration u/s^2, result u/s.
    """
    steps = np.floor((np.sqrt(1.0 + 8.0 * distance / (acceleration * period * period)) - 1.0) / 2.0)
    return (distance / period + acceleration * period * steps * (steps + 1.0) / 2.0) / (steps + 1.0)


class Limiter:
    """Turns targets into commands within position, velocity and acceleration limits, one control period at a time.

    Velocity is the command's difference over one period, acceleration the velocity's difference: what a robot that is
    fed one command per period can see. From any state it has reached, the limiter can stop inside the position
    limits.
    """

    def __init__(self, limits: JointLimits, period: float) -> None:
        self.limits = limits
        self.period = period
        self.position = np.zeros(len(limits.names))
        self.velocity = np.zeros(len(limits.names))
        self.acceleration = np.zeros(len(limits.names))
        self.clamps = Clamps()
        self._reach = (
            limits.velocity**2 / limits.acceleration + 2.0 * limits.velocity * period
        )  # more than stopping takes

    @property
    def moving(self) -> bool:
        return bool(self.velocity.any())

    def start(self, position: np.ndarray) -> None:
        """Start at rest from a measured position [J]; a joint found outside its limits may only move back inside."""
        self.position = np.array(position, dtype=np.float64)
        self.velocity = np.zeros_like(self.position)
        self.acceleration = np.zeros_like(self.position)

    def follow(self, position: np.ndarray, velocity: np.ndarray) -> None:
        """Advance one period towards a target that is at `position` [J] by then and moves with `velocity` [J].

        The target is met exactly where the limits allow; where it was lost, it is caught up as fast as the limits allow
        without overshoot.
        """
        limits = self.limits
        target = np.clip(position, limits.lower, limits.upper)
        target_velocity = np.clip(velocity, -limits.velocity, limits.velocity)
        behind = target - target_velocity * self.period - self.position
        catch_up = speed_to_stop_within(np.minimum(np.abs(behind), self._reach), limits.acceleration, self.period)
        wanted = target_velocity + np.copysign(catch_up, behind)
        allowed = np.clip(wanted, -limits.velocity, limits.velocity)
        before = allowed.copy()
        self._advance(allowed)
        self._count(np.abs(position - target), np.abs(wanted - before), np.abs(before - self.velocity))

    def brake(self, share: float = 1.0) -> None:
        """Advance one period while decelerating to rest with `share` of the acceleration limits (more where a position
        limit is near). All joints stop together, so the path keeps its direction."""
        steps = np.max(np.abs(self.velocity) / (share * self.limits.acceleration * self.period), initial=0.0)
        self._advance(self.velocity * (1.0 - 1.0 / steps) if steps > 1.0 else np.zeros_like(self.velocity))

    def _advance(self, velocity: np.ndarray) -> None:
        limits, change = self.limits, self.limits.acceleration * self.period
        room_up = np.clip(limits.upper - self.position, 0.0, self._reach)
        room_down = np.clip(self.position - limits.lower, 0.0, self._reach)
        velocity = np.clip(velocity, self.velocity - change, self.velocity + change)
        velocity = np.minimum(velocity, speed_to_stop_within(room_up, limits.acceleration, self.period))
        velocity = np.maximum(velocity, -speed_to_stop_within(room_down, limits.acceleration, self.period))
        highest = np.maximum(limits.upper, self.position)
        lowest = np.minimum(limits.lower, self.position)
        self.acceleration = (velocity - self.velocity) / self.period
        self.velocity = velocity
        self.position = np.clip(self.position + velocity * self.period, lowest, highest)

    def _count(self, position: np.ndarray, velocity: np.ndarray, acceleration: np.ndarray) -> None:
        tight, steady = TOLERANCE * self.limits.velocity, ~self.limits.gripper
        self.clamps.position += int(np.count_nonzero((position > TOLERANCE) & steady))
        self.clamps.gripper += int(np.count_nonzero((position > TOLERANCE) & ~steady))
        self.clamps.velocity += int(np.count_nonzero((velocity > tight) & steady))
        self.clamps.acceleration += int(np.count_nonzero((acceleration > tight) & steady))
