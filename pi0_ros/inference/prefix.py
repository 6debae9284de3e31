"""What the next chunk must continue: what was really sent, and what the controller says it will send.

A chunk's action i belongs to the time `stamp_ns + i * dt_ns`. Of a new chunk's actions the first d will have been
executed by the old one before the new one takes over: those up to now are read from `pi0/command`, the others, and
behind them what the old chunk still holds, from the controller's plan on `pi0/plan`. What nobody knows is NaN, never
zero. numpy only: the robot's side of a remote policy does the same.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import dataclass, replace

import numpy as np

from pi0_ros.base.choices import RTC_SCHEDULES
from pi0_ros.base.errors import InputError
from pi0_ros.control.chunk import ActionChunk
from pi0_ros.control.plan import Plan, position_along
from pi0_ros.control.sent import SentLog
from pi0_ros.inference.metadata import Metadata
from pi0_ros.inference.pace import Pace
from pi0_ros.inference.slowing import QUEUE, Slowing
from pi0_ros.robot.space import Space

MODES = ("auto", "off", "exact", "lerobot", "trained")
GAP_NS = 250_000_000  # without a command for longer, nobody follows the chunks
APART_S = 0.05  # a plan that is further from the commands than a joint goes in this time is not what is sent
WAKE_NS = 5_000_000  # a tick that is woken this late may take up a chunk that went out after its time
NEWS_S = 0.2  # how long to wait for the plan of a chunk that has just gone out
STILL = 0.02  # of a joint's velocity limit: slower is at rest
REST_S = 0.1  # a command that has not moved for so long is at rest
UNHEARD = 3  # prefixes in a row without a plan that are worth a word


@dataclass(frozen=True)
class RtcSettings:
    """How a chunk is made to continue the one before."""

    mode: str = "auto"  # one of MODES; exact and lerobot guide any checkpoint, trained needs one trained for it;
    # auto: trained where it is, else exact
    schedule: str = "exp"  # of the weights between the executed actions and the end of the mask
    max_guidance_weight: float = 5.0  # limit of the pull; kinetix 5, LeRobot 10
    mask_end: int = 0  # actions from here on are free; 0: as far as the previous chunk reaches (the paper's H - s)

    def __post_init__(self) -> None:
        for key, choices in (("mode", MODES), ("schedule", RTC_SCHEDULES)):
            if getattr(self, key) not in choices:
                raise InputError(f"rtc.{key} is {getattr(self, key)!r}, expected one of {', '.join(choices)}")
        if not self.max_guidance_weight > 0:
            raise InputError(f"rtc.max_guidance_weight is {self.max_guidance_weight}, expected more than 0")
        if not 0 <= self.mask_end <= 1000:
            raise InputError(f"rtc.mask_end is {self.mask_end}, expected 0 .. 1000 actions")


def check_trained(settings: RtcSettings, metadata: Metadata) -> None:
    """ValueError when the mode is `trained` and the policy is not."""
    if settings.mode == "trained" and metadata.rtc_trained_max_delay == 0:
        raise InputError(
            f"rtc.mode is trained, but checkpoint '{metadata.checkpoint}' was not trained to continue a prefix "
            "(`rtc_max_delay` of its training config): use auto or exact"
        )


@dataclass(frozen=True)
class ActionPrefix:
    """What is known of a new chunk's actions before it is made."""

    actions: np.ndarray  # float64 [n, J], absolute, robot units: action i of the new chunk; NaN rows are unknown
    dt: float  # s between two actions, as the model counts: at the speed of its data
    delay: int  # actions that will have been executed when the new chunk takes over
    settings: RtcSettings


class Continuation:
    """Watches commands, plans and chunks, and says what the next chunk must continue.

    Commands, plans and states come in one thread, chunks and questions in another. All times are nanoseconds of the
    chunks' clock.
    """

    def __init__(
        self,
        settings: RtcSettings,
        gripper: np.ndarray,
        velocity: np.ndarray,
        space: Space | None = None,
        pace: Pace | None = None,
        slowing: Slowing | None = None,
    ) -> None:
        """`gripper`: bool [J]; `velocity`: limits, float64 [J]; `space`: of the joints, None: lines. `pace` may be
        changed at any time; `slowing` chooses its speed where it is `auto`, and remembers the delays."""
        self.settings, self.pace = settings, pace or Pace()
        self.slowing = slowing or Slowing()
        self._pace = self.pace  # of the inference under way
        self._model_dt_ns = 0  # of the model's chunks; 0: as the last one's
        self.delays = self.slowing.delays
        self._gripper = np.asarray(gripper, bool)  # [J]: these switch, and are never between two values
        self._space = space or Space.lines(len(self._gripper))
        self._apart = np.where(self._gripper, np.inf, APART_S * np.asarray(velocity))  # float64 [J]
        self._log = SentLog(len(self._gripper), space=self._space)  # its times are s
        self._oldest_ns = self._newest_ns = 0  # of the commands in it
        self._chunk: ActionChunk | None = None
        self._published_ns = 0
        self._ends: deque[tuple[int, int]] = deque(maxlen=QUEUE)  # of the last chunks: when they went out, and end
        self._taken_over = True
        self._plan: Plan | None = None
        self._begins_ns: int | None = None  # of the plan; None: none was heard yet
        self._follows, self._armed = True, False  # as the controller's state says
        self._rests = False  # nothing was being executed when the inference under way began
        self._led = False  # by a person, whose way is not known ahead
        self._unheard = 0  # prefixes in a row that lacked a plan
        self._problem = ""
        self._given: ActionPrefix | None = None  # to the inference under way
        self._report: dict[str, object] = {}
        self._lock = threading.Lock()
        self._news = threading.Condition(self._lock)

    def sent(self, t_ns: int, position: np.ndarray) -> None:
        """`position` [J] was sent to the robot for this time."""
        with self._lock:
            if self._log.span is not None and t_ns - self._newest_ns > GAP_NS:
                self._log.clear()
            if self._log.span is None or t_ns <= self._newest_ns:
                self._oldest_ns = t_ns
            self._newest_ns = t_ns
            self._log.push(t_ns * 1e-9, position)
            if not self._taken_over and t_ns >= self._published_ns and self._chunk is not None:
                self._taken_over = True
                self.delays.correct(t_ns - self._chunk.stamp_ns)

    def planned(self, begins_ns: int, plan: Plan | None) -> None:
        """The controller says what it will send from `begins_ns` on; None: nothing."""
        with self._news:
            self._plan, self._begins_ns = plan, begins_ns
            self._news.notify_all()

    def state(self, armed: bool, follows: bool, led: bool = False) -> None:
        """The controller takes up chunks, and its plan follows one; or a person leads: then chunks begin anew."""
        with self._news:
            self._armed, self._follows, self._led = armed and not led, follows, led
            self._news.notify_all()

    def executed(self, chunk: ActionChunk) -> ActionChunk:
        """The chunk of the inference under way, as the model made it -> as it is executed: at the pace."""
        with self._lock:
            self._model_dt_ns = chunk.dt_ns
            return self._pace.executed(chunk)

    def begun(self, chunk: ActionChunk, now_ns: int) -> ActionChunk:
        """The chunk, as it goes out now. Where nothing has been executed since its observation it begins now.

        A robot that rests until its first chunk comes has done nothing of what that says of the time before: to catch
        up would be a leap into the middle, and the next chunk would have to continue it.
        """
        with self._lock:
            late = max(0, -(-(now_ns - chunk.stamp_ns) // chunk.dt_ns))
            if not self._rests or self._follows or not 0 < late < len(chunk.actions):
                return chunk
            waits = np.repeat(chunk.actions[:1], late, axis=0)
            return replace(chunk, actions=np.concatenate([waits, chunk.actions[:-late]]))

    def _at_rest(self, stamp_ns: int) -> bool:
        """Whether the controller follows nothing and commands no motion. One of which nothing is heard may do both."""
        if self._follows or self._led:
            return False
        if self._log.span is None or stamp_ns - self._newest_ns > GAP_NS:
            return True
        before, newest = self._log.at((self._newest_ns - np.array([round(REST_S * 1e9), 0])) * 1e-9)
        return bool(
            (self._space.sizes(self._space.way(before, newest)) <= self._apart * (REST_S / APART_S) * STILL).all()
        )

    def published(self, chunk: ActionChunk, now_ns: int) -> None:
        """`chunk` goes out now. Until a command follows it, this is the best guess of when it takes over."""
        with self._lock:
            self._chunk, self._published_ns = chunk, now_ns
            self._ends.append((now_ns, chunk.end_ns))
            self._taken_over = not chunk.stamp_ns < now_ns < chunk.end_ns  # one that comes too late is never executed
            if not self._taken_over:
                self.delays.add(now_ns - chunk.stamp_ns)
            self._report = self._compared(chunk, self._given)

    def wait_for_plan(self, timeout_s: float = NEWS_S) -> None:
        """Until the controller has said what it makes of the last chunk; at once where it takes up none."""
        if self.settings.mode == "off":
            return
        with self._news:
            self._news.wait_for(lambda: not self._armed or self._taken_up(), timeout_s)

    def _taken_up(self) -> bool:
        return self._begins_ns is None or self._begins_ns + WAKE_NS >= self._published_ns

    @property
    def problem(self) -> str:
        """Why chunks do not continue each other although the controller commands; empty where they do."""
        with self._lock:
            return self._problem if self._unheard >= UNHEARD else ""

    @property
    def slowed(self) -> str:
        """Why chunks are executed slower than recorded although nobody asked for it; empty where they are not."""
        with self._lock:
            return self.slowing.reason if self.pace.auto and self._pace.speed < 1.0 else ""

    def report(self) -> dict[str, object]:
        """Of the last chunk: its mode, how many actions were known and how many of them executed meanwhile, and how far
        it is from those, the arm joint that differs most, in its unit; for the diagnostics."""
        problem, slowed = self.problem, self.slowed
        with self._lock:
            pace = {"execution_speed": self._pace.speed, "execution_slowed": slowed}
            return pace | {"rtc_mode": self.settings.mode, "rtc_problem": problem, **self._report}

    def prefix(self, stamp_ns: int) -> ActionPrefix | None:
        """What the chunk of an observation of this time must continue; None where nothing is being executed."""
        with self._lock:
            self._pace = self._chosen()
            self._rests = self._at_rest(stamp_ns)
            self._given = self._prefix(stamp_ns) if self.settings.mode != "off" else None
            return self._given

    def _chosen(self) -> Pace:
        """The pace of the inference that begins; slowed down only where actions are given as it was trained for."""
        if not self.pace.auto:
            return self.pace
        given = self.settings.mode in ("auto", "trained")
        return replace(self.pace, speed=self.slowing.choose(self._model_dt_ns) if given else 1.0)

    def _prefix(self, stamp_ns: int) -> ActionPrefix | None:
        chunk, delay_ns, newest_ns = self._chunk, self.delays.longest, self._newest_ns
        if self._led or chunk is None or self._log.span is None or delay_ns is None or stamp_ns < chunk.stamp_ns:
            return None
        if abs(stamp_ns - newest_ns) > GAP_NS:
            return None
        self._problem = self._trouble()
        self._unheard = self._unheard + 1 if self._problem else 0
        if self._problem or self._plan is None:
            return None
        model_dt_ns = self._model_dt_ns or chunk.dt_ns
        dt_ns = round(model_dt_ns / self._pace.speed)
        times_ns = stamp_ns + dt_ns * np.arange(len(chunk.actions))
        steps = -(-delay_ns // dt_ns)
        planned = self._planned_at(times_ns)
        plan_ns = (self._begins_ns or 0) + WAKE_NS
        ends_ns = next((end for published, end in reversed(self._ends) if published <= plan_ns), chunk.end_ns)
        executed = np.arange(len(times_ns)) < steps
        planned[~executed & (times_ns > ends_ns)] = np.nan  # behind its end a chunk wants nothing
        if not self._follows:
            planned[~executed] = np.nan
        past, recorded = (times_ns <= newest_ns)[:, None], (times_ns >= self._oldest_ns)[:, None]
        actions = np.where(past, np.where(recorded, self._log.at(times_ns * 1e-9), np.nan), planned)
        known = np.flatnonzero(np.isfinite(actions).all(1))
        if not len(known):
            return None
        return ActionPrefix(self._pace.unscaled(actions[: known[-1] + 1]), model_dt_ns * 1e-9, steps, self.settings)

    def _trouble(self) -> str:
        """Why there is no telling what will be sent; empty where there is."""
        if self._begins_ns is None:
            return "no plan is heard on pi0/plan: is the controller of this release?"
        if self._plan is None:  # nothing will be sent
            return ""
        newest = np.array([max(self._newest_ns, self._begins_ns)])  # a plan may come before the command it begins with
        apart = self._space.sizes(self._space.way(self._log.at(newest * 1e-9)[0], self._planned_at(newest)[0]))
        if not (apart <= self._apart).all():
            return "the plan on pi0/plan is not what is sent on pi0/command: it is old, or another controller's"
        return ""

    def _planned_at(self, times_ns: np.ndarray) -> np.ndarray:
        assert self._plan is not None and self._begins_ns is not None
        since_ns = np.maximum(times_ns - self._begins_ns, 0)
        return position_along(self._plan, since_ns * 1e-9, self._gripper, self._space)

    def _compared(self, chunk: ActionChunk, given: ActionPrefix | None) -> dict[str, object]:
        known = chunk.actions[:0] if given is None else self._pace.scaled(given.actions)[: len(chunk.actions)]
        executed = min(len(known), given.delay) if given is not None else 0
        apart = self._space.short_way(chunk.actions[:executed], known[:executed])
        differences = np.abs(apart)[:, ~self._gripper]
        difference = float(np.nanmax(differences)) if np.isfinite(differences).any() else math.nan
        return {"rtc_known": len(known), "rtc_executed": executed, "rtc_difference": difference}
