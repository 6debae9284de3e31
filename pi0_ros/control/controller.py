"""The controller's state machine: arming, following chunks, holding, stopping. Time is an argument; no ROS."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np

from pi0_ros.control.chunk import ActionChunk, ChunkError
from pi0_ros.control.driver_stops import DriverStops
from pi0_ros.control.feedback import FUTURE_S, Feedback
from pi0_ros.control.limits import JointLimits, Limiter
from pi0_ros.control.plausible import Plausibility
from pi0_ros.control.reach import check_reach, turned
from pi0_ros.control.smoothing import Smoother
from pi0_ros.control.stalls import Stalls
from pi0_ros.control.states import ARMED, IN_MOTION, Command, Counts, Settings, State
from pi0_ros.control.takeover import Takeover
from pi0_ros.control.tick_times import TickAxis
from pi0_ros.control.timeline import Timeline
from pi0_ros.control.tracking import Tracking
from pi0_ros.control.transitions import transition_of
from pi0_ros.robot.types import NOBODY, TakeoverTopics

HELD_FRACTION = 0.05  # of a gripper's range: one that has moved less than this still holds what it held
HOLD_FRACTION = 0.5  # a hold decelerates with this fraction of the limits, an emergency stop with all of it
ON_ITS_WAY_S = 0.5  # behind its last command a robot may still be about to go there
QUEUED_S = 0.05  # what arrives so soon after a stall may have waited for its end
LED_S = 0.2  # while a person leads, what lies ahead is told anew this often


class Controller:
    """One tick per control period turns the newest chunk into one command within the limits.

    Stamps, and `now`, are seconds of the robot's clock, which may be set or simulated. How long something lasts is
    measured by `steady`, seconds that never stop nor go back. Ticks further apart than `stall_s` of them are a hold
    that began when they ended; infinite, for simulated time, which may be slow, lets `now` tell, where `steady` says
    that it did not merely jump. Not thread-safe: the caller serialises the calls.
    """

    def __init__(
        self,
        limits: JointLimits,
        period: float,
        max_age: np.ndarray,
        settings: Settings,
        stall_s: float | None = None,
        takeover: TakeoverTopics = NOBODY,
        beside: Feedback | None = None,
    ) -> None:
        self.limits = limits
        self.period = period
        self.settings = settings
        self.stalls = Stalls(period, stall_s)
        self._plausibility = _plausibility(limits)
        self._plausibility_beside = None if beside is None else _plausibility(beside.limits)
        self.feedback = Feedback(limits, max_age, beside)
        self.smoother = Smoother(limits, period)
        allowed = replace(limits, acceleration=self.smoother.acceleration)
        self.limiter = Limiter(allowed, period)
        self.timeline = Timeline(allowed, period, settings.interpolation, settings.transition, settings.blend_s)
        self.takeover = Takeover(allowed, takeover.timeout_s, takeover.blend_s, takeover.begins == "switch")
        self.tracking = Tracking(limits, settings.tracking_s, period)
        self.counts = Counts()
        self.state = State.DISARMED
        self.reason = "call ~/arm to start"
        self.fault = ""  # what ended in DISARMED by itself, until somebody acknowledges it (arm, disarm, reset)
        self.withheld = ""  # why a person does not let the robot move now: whoever ticks sets it before every tick
        self.revision = 0  # goes up whenever the motion ahead changes
        self.rejoined = 0  # and this where it does by as much as skipped ticks make up
        self.last_refusal = ""
        self.joined_at_step = 0.0  # how many steps of the chunk that is followed were past when it was taken up
        combined = transition_of(settings.transition).combined
        decay, interpolation = settings.ensemble_decay, settings.interpolation
        self._combined = combined(decay, interpolation, limits.gripper, limits.space) if combined else None
        self._axis = TickAxis(period)
        self._sent, self._sent_velocity = np.zeros((2, len(limits.names)))
        self._measured_then = np.full(len(limits.names), np.nan)  # what was measured when the last command went out
        self._pending: ActionChunk | None = None
        self._newest_ns: int | None = None  # stamp of the newest chunk that was taken
        self._nothing_before = -np.inf  # chunks of observations up to this time are not believed
        self._ticked = self._before = np.nan  # steady time of the last tick or publication, and of the one before
        self._left_at = np.nan  # when the last command was published, s
        self._previous = np.zeros(len(limits.names))  # sent before the last command
        self._entered = 0.0  # steady time since which IDLE or HOLDING lasts
        self._held_in_motion = False
        self._cause, self._began = ("", ""), ""  # (kind, text) of what holds now; the text of what began it
        self._standing = -np.inf  # after a stall: only joint states newer than this say where the robot is
        self._restarting = False
        self._blocked_since = np.nan  # steady
        self._owes_rest = False  # the last command that left has a velocity, and no tick to come would take it back
        self._relaxing: np.ndarray | None = None  # [J] where a blocked robot's command goes
        self.goes_alone = np.zeros(len(limits.names), bool)  # joints that follow a plan also while no command comes
        self._led = -np.inf  # steady time at which a person's lead was last told
        self._led_until = -np.inf  # s; what the policy saw before, it saw while a person led
        self._stop_ticks = 0  # since the stop began that the timeline leads along
        self._adrift = False  # since a stall nobody knows where the joints are: only speeds may be commanded, to zero
        self._drivers = DriverStops(limits)

    @property
    def moving(self) -> bool:
        """Whether the command has not come to rest."""
        return self.limiter.moving or not self.smoother.settled

    @property
    def sent(self) -> np.ndarray:
        """The last command, float64 [J]."""
        return self._sent

    @property
    def steady(self) -> float:
        """Steady time of the last tick, s."""
        return self._ticked

    @property
    def _here(self) -> np.ndarray:
        """From where it goes on, float64 [J]: the command, or where the robot is."""
        return self.limiter.position if self.state in ARMED or self.moving else self.feedback.position

    # --- what people ask for

    def arm(self, now: float) -> list[str]:
        """Arm, or return every reason not to. The command then starts from the measured position."""
        if self.state in ARMED:
            return []
        if self.state is State.STOPPED:
            return [f"stopped ({self.reason}): call ~/reset first"]
        problems = self.not_ready(now) + ([self.withheld] if self.withheld else [])
        if not problems:
            self._forget_chunks()
            self._start_where_it_is(may_be_late=0.0 <= now - self._left_at < ON_ITS_WAY_S)
            self.fault = ""
            self._entered = self._ticked
            self._enter(State.IDLE, "armed, waiting for the first chunk")
        return problems

    def not_ready(self, now: float) -> list[str]:
        """Reasons not to arm that lie in the joint states and in the command."""
        return [*self.feedback.not_ready(now), *(["the command is still decelerating"] if self.moving else [])]

    def disarm(self, reason: str) -> None:
        """Decelerate to a hold, then command nothing. Asked for while disarmed, it acknowledges a fault."""
        if self.state in ARMED:
            self._forget_chunks()
            self._enter(State.DISARMED, reason)
        elif self.state is State.DISARMED and self.fault:
            self._enter(State.DISARMED, f"{reason}; acknowledged: {self.fault}")
        self.fault = ""

    def fail(self, reason: str) -> None:
        """Something is wrong that must not go on by itself: decelerate to a hold and disarm, a fault until somebody
        acknowledges it."""
        if self.state in ARMED:
            self.disarm(reason)
            self.fault = reason

    def estop(self, reason: str) -> None:
        """From any state: decelerate at the limit, then command nothing until reset and arm."""
        self._forget_chunks()
        self._relaxing = None
        self._enter(State.STOPPED, reason)

    def reset(self) -> list[str]:
        """Leave STOPPED for DISARMED or acknowledge a fault, or return the reason not to."""
        if self.state is not State.STOPPED and not self.fault:
            return [f"nothing to reset: the controller is {self.state.value}, not STOPPED"]
        self.fault = ""
        self._enter(State.DISARMED, "reset, call ~/arm to start")
        return []

    # --- what arrives

    def measure(self, stamp: float, joints: np.ndarray, position: np.ndarray, arrived: bool = False) -> None:
        """Take measured positions of `joints` (indices) captured at `stamp`; one that no joint can be at is a fault.

        `arrived`: nobody says when they were captured, `stamp` is when they came. What comes right after a stall may
        have waited for its end, and is not believed.
        """
        if self._queued(stamp, arrived):
            return
        if not self.feedback.measure(stamp, joints, position):
            return
        self.tracking.measured(stamp, joints, self.feedback.position[joints])
        self._believe(self._plausibility, stamp, joints, position)

    def see(self, stamp: float, joints: np.ndarray, position: np.ndarray, arrived: bool = False) -> None:
        """The same of joints that are only seen (indices among them): nobody knows where they should be, but how old
        they are and whether it can be true."""
        if self.feedback.beside is None or self._plausibility_beside is None or self._queued(stamp, arrived):
            return
        if self.feedback.beside.measure(stamp, joints, position):
            self._believe(self._plausibility_beside, stamp, joints, position)

    def _believe(self, judge: Plausibility, stamp: float, joints: np.ndarray, position: np.ndarray) -> None:
        """A fault where positions cannot be true, and what was predicted from them is not followed."""
        if problem := judge.look(stamp, joints, position):
            self._nothing_before = max(self._nothing_before, stamp)
            self.fail(f"{problem}; check the joint states, then call ~/arm to go on")

    def _queued(self, stamp: float, arrived: bool) -> bool:
        """Whether what came at `stamp` may have waited for the end of a stall."""
        return arrived and self._standing < stamp <= self._standing + QUEUED_S

    def lead(self, position: np.ndarray, steady: float) -> None:
        """Take a person's pose [J] at this steady time: from the next tick on it is followed where they lead.

        Raises `ChunkError` for one that must not be followed; it is as if nothing had been heard.
        """
        if not np.isfinite(position).all():
            raise ChunkError("a person's pose has joints that are no numbers")
        check_reach(position[None], self.limits, "wrong unit? write `scale` into the robot file's takeover")
        self.takeover.hear(self.limits.space.nearest(position, self._here), steady)
        if self.state is State.TAKEOVER and steady - self._led >= LED_S:
            self._led = steady
            self.revision += 1

    def switch(self, on: bool) -> None:
        """A person wants to lead, or hands back; only while armed, and disarming switches it off."""
        self.takeover.on = on and self.state in ARMED

    @property
    def in_charge(self) -> str:
        """Who moves the robot: person, policy or nobody."""
        return {State.TAKEOVER: "person", State.RUNNING: "policy"}.get(self.state, "nobody")

    def accept(self, chunk: ActionChunk, now: float) -> bool:
        """Take a chunk for the next tick. False: it came too late, `last_refusal` says how. `ChunkError`: it is bad."""
        if chunk.stamp > now + FUTURE_S:
            raise ChunkError(
                f"stamped {chunk.stamp - now:.2f} s in the future: do policy and controller share a clock?"
            )
        chunk = turned(chunk, self.limits, now, self._here)
        check_reach(chunk.actions, self.limits)
        older = self._newest_ns is not None and chunk.stamp_ns <= self._newest_ns
        doubted = chunk.stamp <= self._nothing_before
        if now > self._expiry(chunk) or older or doubted:
            self.counts.dropped += 1
            order = "older than the chunk before it" if older else "already over"
            if doubted and not older:
                order = "predicted from joint states that cannot be true"
            self.last_refusal = f"dropped a chunk that was {order} (observation {now - chunk.stamp:.2f} s old)"
            return False
        if chunk.stamp <= self._led_until:  # from where the robot has been led away: nothing to go back to
            self.counts.set_aside += 1
            return True
        self._pending, self._newest_ns = self._combined.add(chunk) if self._combined else chunk, chunk.stamp_ns
        return True

    def refuse(self, reason: str, now: float) -> None:
        """A chunk could not be used: hold until a good one comes."""
        self.counts.refused += 1
        self.last_refusal = reason
        self._pending = None
        if self.state is State.RUNNING:
            self._hold("refused", f"chunk refused: {reason}")

    # --- the tick

    def tick(self, now: float, steady: float | None = None) -> Command | None:
        """Advance one control period to `now`; None when nothing is to be commanded. `steady`: None takes `now`."""
        steady = now if steady is None else steady
        gap, self._before, self._ticked = steady - self._ticked, self._ticked, steady
        step = self._axis.step(now)
        if self.stalls.stalled(step, gap):
            was_set = self.stalls.was_set(step, gap)
            if was_set:
                self._clock_jumped(step, now)
            self._stalled(gap if gap > self.stalls.limit_s or step < 0 or was_set else step, now)
        elif self.stalls.jumped(step):
            self._clock_jumped(step, now)
        regular = self._axis.tick(now)
        if self.state in ARMED:
            self._update(now)
        if self.state is State.DISARMED and (self._relaxing is not None or not np.isnan(self._blocked_since)):
            self._relax(now)
        limiter, timeline, t = self.limiter, self.timeline, self._axis.t + self.smoother.ahead
        if self._restarting or (self._adrift and self._drives):
            return self._slow_down()
        if self.state is State.RUNNING:
            if not regular and timeline.chunk:  # ticks were skipped: fade what was missed, do not jump after it
                self._join(timeline.chunk)
                self.rejoined += 1
            limiter.follow(*timeline.sample(t))
        elif self.state is State.TAKEOVER:
            limiter.follow(*self.takeover.target(steady))
        elif self.state is State.STOPPED:
            limiter.brake()
        elif self._relaxing is not None:
            limiter.follow(self._relaxing, np.zeros_like(self._relaxing))
        elif limiter.moving:
            if timeline.idle:
                velocity = limiter.velocity + limiter.acceleration * (self.period / 2)  # it is half a tick old
                timeline.stop(0.0, limiter.position, velocity, limiter.acceleration)
                self._stop_ticks = 0
            self._stop_ticks += 1  # counted in ticks: irregular ones must not begin the stop anew
            stopping_s = self._stop_ticks * self.period
            if stopping_s < timeline.end:
                limiter.follow(*timeline.sample(stopping_s), counted=False)
            else:
                limiter.brake(HOLD_FRACTION)
        elif self.state in ARMED:
            limiter.brake()
        owed = self._owes_rest and (self.feedback.stamp > self._standing).all()  # else it may have been moved meanwhile
        owed = owed and (self._off_command() <= self.tracking.near).all()
        if self.state in ARMED or self.moving or self._sent_velocity.any() or owed:
            return self._send(now)
        return None

    def _send(self, now: float) -> Command:
        """The limiter's command after the jerk limits, with its differences over one period."""
        position = self._previous = self._sent.copy()
        self.smoother.push(self.limiter.position, out=self._sent)
        self.tracking.sent(now, self._sent)
        velocity = self.limits.space.way(position, self._sent) / self.period
        acceleration = (velocity - self._sent_velocity) / self.period
        self._sent_velocity[:] = velocity
        self.feedback.near[:] = self._sent
        self._measured_then[:] = self.feedback.position
        self._owes_rest = False
        self._adrift = False
        return Command(self._sent.copy(), velocity, acceleration)

    @property
    def _drives(self) -> bool:
        """Whether the last command has a speed."""
        return self.limiter.drives or bool(self._sent[self.limits.speed].any())

    def _slow_down(self) -> Command | None:
        """After a stall, while nobody knows where the joints are: what drives on with its last command is braked, and
        nothing else is commanded."""
        speed, limiter = self.limits.speed, self.limiter
        if not self._drives:
            return None
        if self._drivers.doubted.any():
            heard = self.feedback.stamp > self._standing  # of what nobody measures that is always so, and zero
            begin = self._drivers.brake_from(self._sent, self.feedback.position, heard, self._ticked)
            if begin is None:
                return None
            limiter.start(begin)
            self.smoother.start(begin)
            self._sent[:] = begin
        position = self._previous = self._sent.copy()
        limiter.brake()
        self.smoother.push(limiter.position, out=self._sent)
        velocity = (self._sent - position) / self.period
        acceleration = (velocity - self._sent_velocity) / self.period
        self._sent_velocity[:] = velocity if self._drives else 0.0
        return Command(self._sent.copy(), velocity, acceleration, alone=speed)

    def published(self, now: float, steady: float) -> None:
        """The command of the last tick has left by this steady time: from then on the robot waits for the next."""
        gap, self._ticked, self._left_at = steady - self._before, steady, now
        if gap > self.stalls.limit_s:  # it stood still in the midst of publishing
            self.counts.perhaps_late += 1
            self._stalled(gap, now)

    def too_late(self, now: float, steady: float) -> bool:
        """Whether the tick's command would follow the last one that was published as late as after a stall."""
        return self.stalls.too_late(now - self._left_at, steady - self._before)

    def withdraw(self, now: float, steady: float, joints: np.ndarray | None = None) -> None:
        """The last tick's command was too late and not published, or not for these `joints` (bool [J]; None: all): they
        still have the one before, and the robot stands there."""
        np.copyto(self._sent, self._previous, where=True if joints is None else joints)
        self._owes_rest = True
        self.counts.too_late += 1
        gap, self._ticked = steady - self._before, steady
        self._stalled(gap, now)

    def fork(self) -> Controller:
        """A copy to be ticked ahead as if nothing more arrived: it needs no joint states, and takes up no chunk."""
        limits = self.limits, self.limiter.limits
        memo: dict[int, object] = {id(shared): shared for shared in (*limits, self.timeline.chunk)}
        memo |= {id(left_out): None for left_out in (self._pending, self._combined)}
        memo |= {
            id(self.tracking): Tracking(self.limits, 0.0, self.period),
            id(self.feedback): self.feedback.never_stale(),
        }
        return copy.deepcopy(self, memo)

    def leap(self, most: int) -> np.ndarray:
        """Of a fork: what its next ticks command, float64 [n, J], at most `most`, and be behind them.

        All along the chunk, or along the stop behind it, and one period after the other, so that they need not be
        ticked one by one; none where there are no such ticks.
        """
        timeline, axis, ahead, period = self.timeline, self._axis, self.smoother.ahead, self.period
        times: np.ndarray
        if self.state is State.RUNNING and timeline.chunk is not None:
            # The tick at which the chunk is over is none of them.
            count = min(most, int((self._expiry(timeline.chunk) - axis.last - ahead) / period) - 1)
            times = axis.ahead(max(count, 0)) + ahead
        elif self.state is State.HOLDING and not timeline.idle and self.limiter.moving:
            until_disarmed = self.settings.rearm_after_s - (self._ticked - self._entered)
            count = min(most, int(timeline.end / period) - self._stop_ticks - 1, int(until_disarmed / period) - 1)
            times = (self._stop_ticks + np.arange(1, max(count, 0) + 1)) * period
            self._stop_ticks += max(count, 0)
        else:
            count = 0
        if count < 1:
            return np.empty((0, len(self.limits.names)))
        sent = self.smoother.push_all(self.limiter.follow_all(*timeline.along(times)))
        axis.skip(count)
        self._before, self._ticked = self._ticked + (count - 1) * period, self._ticked + count * period
        self._previous = sent[-2].copy() if count > 1 else self._sent.copy()
        self._sent[:] = sent[-1]
        self._sent_velocity[:] = self.limits.space.way(self._previous, self._sent) / period
        return sent

    def report(self, now: float) -> dict[str, object]:
        """State, reason and counts as the diagnostics show them."""
        chunk, clamps = self.timeline.chunk, self.limiter.clamps
        return {
            "state": self.state.value,
            "reason": self.reason,
            "fault": self.fault,
            "last_hold": self._began,  # also of one that was over before anybody looked
            "in_charge": self.in_charge,
            "person": "wanted" if self.takeover.on else "",  # the switch is on, also where nobody is heard
            "takeovers": self.counts.takeovers,
            "set_aside": self.counts.set_aside,
            "chunks": self.counts.chunks,
            "refused": self.counts.refused,
            "dropped": self.counts.dropped,
            "last_refusal": self.last_refusal,
            "stale_events": self.counts.stale_events,
            "too_late": self.counts.too_late,
            "perhaps_late": self.counts.perhaps_late,
            "clamps": clamps.total,
            "clamps_position": clamps.position,
            "clamps_velocity": clamps.velocity,
            "clamps_acceleration": clamps.acceleration,
            "clamps_gripper": clamps.gripper,
            "chunk_age_s": round(now - chunk.stamp, 3) if chunk else "",
            "chunk_step": round((now - chunk.stamp) / chunk.dt, 1) if chunk else "",
            "joined_at_step": round(self.joined_at_step, 1),
            **self.timeline.transitions.report(),
            "joint_state_age_s": round(self.feedback.age(now), 3),
        }

    def _update(self, now: float) -> None:
        kind, problem = self._problem(now)
        if kind == "blocked" and self.tracking.speed_is_away:  # at rest it seems to follow, and would push again
            self.fail(f"{problem}; call ~/arm to go on")
            return
        if self._blocked_for_long(kind):
            return
        chunk, reached = self._pending, now + self.smoother.ahead
        if kind:
            if self.state is not State.HOLDING:
                self.counts.stale_events += self.state is State.RUNNING
            self._hold(kind, problem)
        elif self.takeover.wanted(self._ticked):
            self._be_led(now)
        elif chunk is not None and reached <= self._expiry(chunk):
            self._pending = None
            self._join(chunk)
            self.joined_at_step = (now - chunk.stamp) / chunk.dt
            self.counts.chunks += 1
            self._enter(State.RUNNING, "following chunks")
        elif self.state is State.RUNNING and self.timeline.chunk and reached > self._expiry(self.timeline.chunk):
            self.counts.stale_events += 1
            age = now - self.timeline.chunk.stamp
            self._hold("chunk", f"no newer chunk: the last one is over, its observation is {age:.2f} s old")
        elif self.state is State.TAKEOVER:
            self._hold("person", "the person has handed back: waiting for a chunk of what is seen now")
        elif self.state is State.HOLDING and self._cause[0] == "unheard" and self._held_in_motion:
            self._hold("person", "the person has handed back")
            self._entered = self._ticked
        elif self.state is State.HOLDING and not self._held_in_motion:
            self._entered = self._ticked
            self._enter(State.IDLE, "armed, waiting for the first chunk")
        elif self.state is State.HOLDING and self._cause[0] not in ("chunk", "refused", "person"):
            self._hold("chunk", "no newer chunk")
        lasted, settings = self._ticked - self._entered, self.settings
        handed_back = self.state is State.HOLDING and self._cause[0] == "person"
        longest = max(settings.rearm_after_s, settings.chunk_timeout_s if handed_back else 0.0)
        if self.state is State.HOLDING and lasted > longest:
            end = self.disarm if kind == "withheld" or handed_back else self.fail  # to let go is no fault
            end(f"{self.reason}; held for more than {longest:g} s, call ~/arm to go on")
        elif self.state is State.IDLE and lasted > settings.idle_timeout_s > 0:
            self.disarm(f"no chunk within {settings.idle_timeout_s:g} s after arming: call ~/arm when the policy runs")

    def _be_led(self, now: float) -> None:
        """A person wants to lead: they do, or where nothing is heard of them nobody does."""
        if not self.takeover.active(self._ticked):
            timeout_s = self.takeover.timeout_s
            self._hold("unheard", f"a person wants to lead, but none of their poses came within {timeout_s:g} s")
            self._led_until = now
            return
        if self.state is not State.TAKEOVER:
            self.counts.takeovers += 1
            self._forget_chunks()
            self.takeover.begin(self.limiter.position, self._ticked)
            self._enter(State.TAKEOVER, "a person leads")
        self._led_until = now - self.takeover.since(self._ticked)
        if self._pending is not None and self._pending.stamp <= self._led_until:
            self._pending = None

    def _problem(self, now: float) -> tuple[str, str]:
        """What speaks against following chunks: its kind and a sentence, or two empty strings."""
        if self._restarting:
            known = self.feedback.heard_since(self._standing) and not self.feedback.not_at_rest()
            if known and not self._drives:
                self._start_where_it_is(may_be_late=True)
            else:
                return ("stall", self._cause[1] if self._cause[0] == "stall" else self._began)
        if stale := "; ".join(self.feedback.stale(now)):
            return "state", stale
        if away := self.tracking.away(now):
            return "blocked", away
        return ("withheld", self.withheld) if self.withheld else ("", "")

    def _start_where_it_is(self, may_be_late: bool) -> None:
        """Command, at rest, where the joints were measured; those that keep the last command stay there: grippers with
        an object and, where they `may_be_late`, joints that are near it."""
        stay = self._still_holds()
        if may_be_late:
            stay |= (self._off_command() <= self.tracking.near) & ~self.goes_alone
        self._start(np.where(stay, self._sent, self.feedback.position))

    def _start(self, position: np.ndarray) -> None:
        """Command this position [J], at rest, and no speed."""
        position = np.where(self.limits.speed, 0.0, position)
        self.limiter.start(position)
        self.smoother.start(position)
        self.tracking.restart()
        self._sent[:], self._sent_velocity[:] = position, 0.0
        self._restarting, self._relaxing, self._blocked_since, self._adrift = False, None, np.nan, False
        self._drivers.forget()
        self.revision += 1

    def _off_command(self) -> np.ndarray:
        """How far the robot was measured from the last command, [J]."""
        space = self.limits.space
        return np.where(self.limits.measured, space.sizes(space.way(self._sent, self.feedback.position)), 0.0)

    def _still_holds(self) -> np.ndarray:
        """Grippers that are where their last command left them: they keep it, and with it the force on an object."""
        moved = np.abs(self.feedback.position - self._measured_then)  # NaN where nothing was ever sent
        return self.limits.gripper & (moved <= HELD_FRACTION * (self.limits.upper - self.limits.lower))

    def _blocked_for_long(self, kind: str) -> bool:
        """Whether the robot was kept from its command for too long, which disarms and leads the command back."""
        if kind != "blocked":
            self._blocked_since = np.nan
        elif np.isnan(self._blocked_since):
            self._blocked_since = self._ticked
        elif 0 < self.settings.relax_after_s <= self._ticked - self._blocked_since:
            self.fail(f"{self._cause[1]}; its command went back to where it is, call ~/arm to go on")
            return True
        return False

    def _relax(self, now: float) -> None:
        """Lead the command of a blocked robot back to where the robot is: it must not press for ever."""
        if self._relaxing is not None:
            space = self.limits.space
            left = space.sizes(space.way(self.limiter.position, self._relaxing))
            if not self.limiter.moving and (left <= 1e-9).all():
                self._relaxing = None
            return
        if self.settings.relax_after_s <= 0 or not self.tracking.is_away:
            self._blocked_since = np.nan
        elif self._ticked - self._blocked_since >= self.settings.relax_after_s and not self.moving:
            self._blocked_since = np.nan
            if not self.feedback.stale(now):
                limits = self.limits
                goal = np.clip(self.feedback.position, limits.lower, limits.upper)
                goal = np.where(limits.speed, 0.0, goal)
                self._relaxing = np.where(limits.gripper, self.limiter.position, goal)
                self.revision += 1

    def _join(self, chunk: ActionChunk) -> None:
        """Follow `chunk` from the last command, as if sent one period ago: so a join at every tick makes headway."""
        limiter, before = self.limiter, self._axis.t + self.smoother.ahead - self.period
        self.timeline.origin = self._axis.origin
        self.timeline.push(chunk, before, limiter.position, limiter.velocity, limiter.acceleration)

    def _hold(self, kind: str, reason: str) -> None:
        """Decelerate to a hold, or go on holding for another reason."""
        began = self.state is not State.HOLDING
        if began:
            self._held_in_motion = self.state in IN_MOTION
            self._entered, self._began = self._ticked, reason
            self.timeline.clear()
        elif kind == self._cause[0] and (kind != "stall" or reason == self._cause[1]):
            return  # its text would differ in an age only
        self._cause = kind, reason
        self._enter(State.HOLDING, reason if began else f"{reason} (the hold began with: {self._began})")

    def _stalled(self, gap: float, now: float) -> None:
        """No tick came for a while: the robot stands at the last command, or has been moved. Look before going on."""
        self._axis.restart(now)
        self._forget_chunks()
        self._forget_places()
        self.feedback.forget_motion()
        self.limiter.start(self._sent)
        self.smoother.start(self._sent)
        self._owes_rest |= bool(self._sent_velocity[~self.limits.speed].any())
        self._sent_velocity[:] = 0.0
        self._adrift = True
        self._drivers.stalled(gap, self._ticked)
        self.revision += 1
        if self.goes_alone.any():  # the robot went on along its plan: the last command says nothing about where it is
            self.tracking.restart()
        self._standing = now
        if self.state in ARMED:
            self._restarting = True
            already = self.state is State.HOLDING
            self.counts.stale_events += self.state is State.RUNNING
            rate = f"{1.0 / self.period:g} commands a second"
            told = f"simulated time goes in steps of {gap:.2f} s, too coarse for {rate}: publish /clock more often"
            self._hold("stall", told if self.stalls.too_coarse else f"the controller stood still for {gap:.2f} s")
            if not already:
                self._entered = self._ticked - gap  # it began when the ticks ended

    def _clock_jumped(self, step: float, now: float) -> None:
        first = np.isinf(step)
        self._axis.restart(now)
        if first:
            return
        self._forget_chunks()
        if step < 0:
            self.feedback.clear()
            self._forget_places()
            self._nothing_before = self._standing = self._led_until = -np.inf
        if self.state in ARMED:
            way = f"went back by {-step:.3f} s" if step < 0 else f"leapt ahead by {step:.3f} s"
            self._hold("clock", f"the clock {way}")

    def _forget_chunks(self) -> None:
        self.timeline.clear()
        if self._combined:
            self._combined.clear()
        self._pending = None
        self._newest_ns = None

    def _forget_places(self) -> None:
        """What is measured next may be anywhere."""
        self._plausibility.clear()
        if self._plausibility_beside is not None:
            self._plausibility_beside.clear()

    def _expiry(self, chunk: ActionChunk) -> float:
        """Time after which `chunk` must not be followed any more."""
        return min(chunk.end, chunk.stamp + self.settings.chunk_timeout_s)

    def _enter(self, state: State, reason: str) -> None:
        if state is not self.state or state is State.RUNNING:
            self.revision += 1
        if state not in ARMED:
            self.takeover.on = False
        if state is State.DISARMED:
            self._restarting = False
            if self.state in ARMED and np.isnan(self._blocked_since) and self.tracking.is_away:
                self._blocked_since = self._ticked
        elif state is State.STOPPED:
            self._restarting, self._blocked_since = False, np.nan
        self.state, self.reason = state, reason


def _plausibility(limits: JointLimits) -> Plausibility:
    """Who judges what is measured of these joints."""
    fastest = np.where(limits.speed, np.inf, limits.velocity)  # a base that bumps into something stops at once
    return Plausibility(limits.names, limits.lower, limits.upper, fastest, limits.space)
