"""The controller's state machine: arming, following chunks, holding, stopping. Time is an argument; no ROS."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from pi0_ros.control.chunk import ActionChunk, ChunkError
from pi0_ros.control.feedback import FUTURE_S, Feedback
from pi0_ros.control.limits import JointLimits, Limiter
from pi0_ros.control.timeline import Timeline


class State(Enum):
    """What the controller does with chunks."""

    DISARMED = "DISARMED"  # commands nothing
    IDLE = "IDLE"  # armed, holds still until the first chunk
    RUNNING = "RUNNING"  # follows chunks
    HOLDING = "HOLDING"  # decelerated to a hold, goes on with the next chunk
    STOPPED = "STOPPED"  # emergency stop; needs reset and arm


ARMED = (State.IDLE, State.RUNNING, State.HOLDING)
JUMP_S = 0.1  # a clock that steps back by more than this makes all stamps worthless
HOLD_SHARE = 0.5  # a hold decelerates with this share of the limits, an emergency stop with all of it


@dataclass(frozen=True)
class Settings:
    """Behaviour that is no property of the robot. Seconds."""

    interpolation: str = "cubic"  # hold, linear or cubic
    blend_s: float = 0.2  # over which the offset between command and new chunk fades; 0 replaces at once
    chunk_timeout_s: float = 2.0  # greatest age of the observation behind the chunk that is followed
    rearm_after_s: float = 1.0  # a hold that lasts longer disarms


@dataclass(frozen=True)
class Command:
    """What the robot shall do now: float64 [J] each, in the robot's units, units/s and units/s^2."""

    position: np.ndarray
    velocity: np.ndarray
    acceleration: np.ndarray


@dataclass
class Counts:
    """Events since the start."""

    chunks: int = 0  # followed
    refused: int = 0  # bad chunks
    dropped: int = 0  # chunks that came too late or out of order
    stale_events: int = 0  # times that motion was interrupted because a chunk ran out or a joint state went stale


class Controller:
    """One tick per control period turns the newest chunk into one command within the limits.

    All times are seconds of one clock. Not thread-safe: the caller serialises the calls.
    """

    def __init__(self, limits: JointLimits, period: float, max_age: np.ndarray, settings: Settings) -> None:
        self.limits = limits
        self.settings = settings
        self.feedback = Feedback(limits, max_age)
        self.limiter = Limiter(limits, period)
        self.timeline = Timeline(limits, settings.interpolation, settings.blend_s)
        self.counts = Counts()
        self.state = State.DISARMED
        self.reason = "call ~/arm to start"
        self.last_refusal = ""
        self._pending: ActionChunk | None = None
        self._newest_stamp = -np.inf
        self._now = -np.inf
        self._held_since = 0.0
        self._held_in_motion = False

    # --- what people ask for

    def arm(self, now: float) -> list[str]:
        """Arm, or return every reason not to. The command then starts from the measured position."""
        if self.state in ARMED:
            return []
        if self.state is State.STOPPED:
            return [f"stopped ({self.reason}): call ~/reset first"]
        problems = self.feedback.not_ready(now)
        if self.limiter.moving:
            problems.append("the command is still decelerating")
        if not problems:
            self._forget_chunks()
            self.limiter.start(self.feedback.position)
            self._enter(State.IDLE, "armed, waiting for the first chunk")
        return problems

    def disarm(self, reason: str) -> None:
        """Decelerate to a hold, then command nothing."""
        if self.state in ARMED:
            self._forget_chunks()
            self._enter(State.DISARMED, reason)

    def estop(self, reason: str) -> None:
        """From any state: decelerate at the limit, then command nothing until reset and arm."""
        self._forget_chunks()
        self._enter(State.STOPPED, reason)

    def reset(self) -> list[str]:
        """Leave STOPPED for DISARMED, or return the reason not to."""
        if self.state is not State.STOPPED:
            return [f"nothing to reset: the controller is {self.state.value}, not STOPPED"]
        self._enter(State.DISARMED, "reset, call ~/arm to start")
        return []

    # --- what arrives

    def measure(self, stamp: float, joints: np.ndarray, position: np.ndarray) -> None:
        """Take measured positions of `joints` (indices) captured at `stamp`."""
        self.feedback.measure(stamp, joints, position)

    def accept(self, chunk: ActionChunk, now: float) -> bool:
        """Take a chunk for the next tick. False: it came too late, `last_refusal` says how. `ChunkError`: it is bad."""
        if chunk.stamp > now + FUTURE_S:
            raise ChunkError(
                f"stamped {chunk.stamp - now:.2f} s in the future: do policy and controller share a clock?"
            )
        self._check_reach(chunk)
        if now > self._expiry(chunk) or chunk.stamp <= self._newest_stamp:
            self.counts.dropped += 1
            order = "older than the chunk before it" if chunk.stamp <= self._newest_stamp else "already over"
            self.last_refusal = f"dropped a chunk that was {order} (observation {now - chunk.stamp:.2f} s old)"
            return False
        self._pending, self._newest_stamp = chunk, chunk.stamp
        return True

    def refuse(self, reason: str, now: float) -> None:
        """A chunk could not be used: hold until a good one comes."""
        self.counts.refused += 1
        self.last_refusal = reason
        self._pending = None
        if self.state is State.RUNNING:
            self._hold(f"chunk refused: {reason}", now)

    # --- the tick

    def tick(self, now: float) -> Command | None:
        """Advance one control period to `now`; None when nothing is to be commanded."""
        step = now - self._now
        if step < -JUMP_S:
            self._clock_went_back(now)
        self._now = now
        if self.state in ARMED:
            self._update(now)
        regular = 0.5 < step / self.limiter.period < 1.5
        if self.state is State.RUNNING and self.timeline.chunk and not regular:
            self._join(self.timeline.chunk, now)  # ticks were skipped: fade what was missed, do not jump after it
        if self.state is State.RUNNING:
            self.limiter.follow(*self.timeline.sample(now))
        elif self.state in ARMED or self.limiter.moving:
            self.limiter.brake(1.0 if self.state is State.STOPPED else HOLD_SHARE)
        else:
            return None
        limiter = self.limiter
        return Command(limiter.position.copy(), limiter.velocity.copy(), limiter.acceleration.copy())

    def report(self, now: float) -> dict[str, object]:
        """State, reason and counts as the diagnostics show them."""
        chunk, clamps = self.timeline.chunk, self.limiter.clamps
        return {
            "state": self.state.value,
            "reason": self.reason,
            "chunks": self.counts.chunks,
            "refused": self.counts.refused,
            "dropped": self.counts.dropped,
            "last_refusal": self.last_refusal,
            "stale_events": self.counts.stale_events,
            "clamps": clamps.total,
            "clamps_position": clamps.position,
            "clamps_velocity": clamps.velocity,
            "clamps_acceleration": clamps.acceleration,
            "clamps_gripper": clamps.gripper,
            "chunk_age_s": round(now - chunk.stamp, 3) if chunk else "",
            "joint_state_age_s": round(self.feedback.age(now), 3),
        }

    def _update(self, now: float) -> None:
        stale = self.feedback.stale(now)
        chunk = self._pending
        if stale:
            if self.state is not State.HOLDING:
                self.counts.stale_events += self.state is State.RUNNING
                self._hold("; ".join(stale), now)
        elif chunk is not None and now <= self._expiry(chunk):
            self._pending = None
            self._join(chunk, now)
            self.counts.chunks += 1
            self._enter(State.RUNNING, "following chunks")
        elif self.state is State.RUNNING and self.timeline.chunk and now > self._expiry(self.timeline.chunk):
            self.counts.stale_events += 1
            age = now - self.timeline.chunk.stamp
            self._hold(f"no newer chunk: the last one is over, its observation is {age:.2f} s old", now)
        elif self.state is State.HOLDING and not self._held_in_motion:
            self._enter(State.IDLE, "armed, waiting for the first chunk")
        if self.state is State.HOLDING and now - self._held_since > self.settings.rearm_after_s:
            self.disarm(f"{self.reason}; held for {self.settings.rearm_after_s:g} s, call ~/arm to go on")

    def _join(self, chunk: ActionChunk, now: float) -> None:
        """Follow `chunk` from the last command, as if sent one period ago: so a join at every tick makes headway."""
        self.timeline.push(chunk, now - self.limiter.period, self.limiter.position, self.limiter.velocity)

    def _hold(self, reason: str, now: float) -> None:
        self._held_in_motion = self.state is State.RUNNING
        self._held_since = now
        self.timeline.clear()
        self._enter(State.HOLDING, reason)

    def _clock_went_back(self, now: float) -> None:
        self.feedback.clear()
        self._forget_chunks()
        if self.state in ARMED:
            self._hold(f"the clock went back by {self._now - now:.3f} s", now)

    def _check_reach(self, chunk: ActionChunk) -> None:
        """Raise `ChunkError` where an action is outside the limits by more than their range: no clamp mends that."""
        lower, upper = self.limits.lower, self.limits.upper
        excess = np.maximum(lower - chunk.actions, chunk.actions - upper) / (upper - lower)
        i, j = np.unravel_index(int(np.argmax(excess)), excess.shape)
        if excess[i, j] > 1.0:
            raise ChunkError(
                f"{self.limits.names[j]} would go to {chunk.actions[i, j]:.4g}, far outside its limits "
                f"[{lower[j]:.4g}, {upper[j]:.4g}]: wrong unit or normalisation statistics?"
            )

    def _forget_chunks(self) -> None:
        self.timeline.clear()
        self._pending = None
        self._newest_stamp = -np.inf

    def _expiry(self, chunk: ActionChunk) -> float:
        """Time after which `chunk` must not be followed any more."""
        return min(chunk.end, chunk.stamp + self.settings.chunk_timeout_s)

    def _enter(self, state: State, reason: str) -> None:
        self.state, self.reason = state, reason
