"""What the next chunk must continue: what was really sent, what will be sent while the model thinks, and the plan.

A chunk's action i belongs to the time `stamp + i * dt`. Of a new chunk's actions the first d will have been executed by
the old one before the new one takes over: those up to now are read from `pi0/command`, the others, and behind them the
plan that the old chunk still holds, from the chunk published last. What nobody knows is NaN, never zero. numpy only:
the robot's side of a remote policy does the same.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import dataclass

import numpy as np

from pi0_ros.base.choices import RTC_SCHEDULES
from pi0_ros.base.errors import InputError
from pi0_ros.control.chunk import ActionChunk
from pi0_ros.control.sent import SentLog
from pi0_ros.control.splines import chunk_spline
from pi0_ros.inference.metadata import Metadata

MODES = ("auto", "off", "exact", "lerobot", "trained")
QUEUE = 10  # delays remembered (as in the paper, arXiv 2506.07339)
GAP_NS = 250_000_000  # without a command for longer, nobody follows the chunks
FADE_S = 0.2  # what the commands are beside the plan is taken to fade like this: blend_s of the controller as shipped


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
    dt: float  # s between two actions
    delay: int  # actions that will have been executed when the new chunk takes over
    settings: RtcSettings


class DelayEstimate:
    """The longest of the last delays from an observation to the first command that followed its chunk, ns."""

    def __init__(self, length: int = QUEUE) -> None:
        self._delays: deque[int] = deque(maxlen=length)
        self._warm = False

    def add(self, delay: int) -> None:
        """Remember a delay. The very first (loading, connecting) counts only until there is another."""
        if not self._warm and self._delays:
            self._delays.clear()
            self._warm = True
        self._delays.append(delay)

    def correct(self, delay: int) -> None:
        """The last delay was this long."""
        self._delays[-1] = delay

    @property
    def longest(self) -> int | None:
        """None before the first."""
        return max(self._delays, default=None)


class Continuation:
    """Watches commands and chunks, and says what the next chunk must continue.

    Commands come in one thread, chunks and questions in another. All times are nanoseconds of the chunks' clock.
    """

    def __init__(self, settings: RtcSettings, gripper: np.ndarray) -> None:
        self.settings = settings
        self.delays = DelayEstimate()
        self._gripper = np.asarray(gripper, bool)  # [J]: these switch, and are never between two values
        self._log = SentLog(len(self._gripper))  # its times are s
        self._oldest_ns = self._newest_ns = 0  # of the commands in it
        self._chunk: ActionChunk | None = None
        self._published_ns = 0
        self._taken_over = True
        self._follows = True
        self._given: ActionPrefix | None = None  # to the inference under way
        self._report: dict[str, object] = {}
        self._lock = threading.Lock()

    def sent(self, t_ns: int, position: np.ndarray, follows: bool = True) -> None:
        """`position` [J] was sent to the robot for this time; `follows`: from a chunk, not from a hold."""
        with self._lock:
            self._follows = follows
            if self._log.span is not None and t_ns - self._newest_ns > GAP_NS:
                self._log.clear()
            if self._log.span is None or t_ns <= self._newest_ns:
                self._oldest_ns = t_ns
            self._newest_ns = t_ns
            self._log.push(t_ns * 1e-9, position)
            if not self._taken_over and t_ns >= self._published_ns and self._chunk is not None:
                self._taken_over = True
                self.delays.correct(t_ns - self._chunk.stamp_ns)

    def published(self, chunk: ActionChunk, now_ns: int) -> None:
        """`chunk` goes out now. Until a command follows it, this is the best guess of when it takes over."""
        with self._lock:
            self._chunk, self._published_ns = chunk, now_ns
            self._taken_over = not chunk.stamp_ns < now_ns < chunk.end_ns  # one that comes too late is never executed
            if not self._taken_over:
                self.delays.add(now_ns - chunk.stamp_ns)
            self._report = self._compared(chunk, self._given)

    def report(self) -> dict[str, object]:
        """Of the last chunk: its mode, how many actions were known and how many of them executed meanwhile, and how far
        it is from those, the arm joint that differs most, in its unit; for the diagnostics."""
        with self._lock:
            return {"rtc_mode": self.settings.mode, **self._report}

    def prefix(self, stamp_ns: int) -> ActionPrefix | None:
        """What the chunk of an observation of this time must continue; None where no chunk is being executed."""
        given = self._prefix(stamp_ns)
        with self._lock:
            self._given = given
        return given

    def _prefix(self, stamp_ns: int) -> ActionPrefix | None:
        with self._lock:
            chunk, published_ns, delay_ns = self._chunk, self._published_ns, self.delays.longest
            oldest_ns, newest_ns = self._oldest_ns, self._newest_ns
            if chunk is None or self._log.span is None or delay_ns is None or stamp_ns < chunk.stamp_ns:
                return None
            if abs(stamp_ns - newest_ns) > GAP_NS:
                return None
            times_ns = stamp_ns + chunk.dt_ns * np.arange(len(chunk.actions))
            sent, last = self._log.at(times_ns * 1e-9), self._log.at(np.array([newest_ns * 1e-9]))
            # Not so a chunk of before arming, nor one that a hold has dropped.
            followed = published_ns >= oldest_ns and (self._follows or published_ns > newest_ns)
        steps = -(-delay_ns // chunk.dt_ns)
        planned = self._expected(chunk, times_ns, newest_ns, last) if followed else np.full_like(sent, np.nan)
        executed = (np.arange(len(times_ns)) < steps)[:, None]
        planned = np.where(executed & np.isnan(planned), sent, planned)  # behind its end a chunk stands still
        past = (times_ns <= newest_ns)[:, None]
        actions = np.where(past, np.where((times_ns >= oldest_ns)[:, None], sent, np.nan), planned)
        known = np.flatnonzero(np.isfinite(actions).all(1))
        return ActionPrefix(actions[: known[-1] + 1], chunk.dt, steps, self.settings) if len(known) else None

    def _compared(self, chunk: ActionChunk, given: ActionPrefix | None) -> dict[str, object]:
        known = given.actions[: len(chunk.actions)] if given is not None else chunk.actions[:0]
        executed = min(len(known), given.delay) if given is not None else 0
        differences = np.abs(chunk.actions[:executed] - known[:executed])[:, ~self._gripper]
        difference = float(np.nanmax(differences)) if np.isfinite(differences).any() else math.nan
        return {"rtc_known": len(known), "rtc_executed": executed, "rtc_difference": difference}

    def _expected(self, chunk: ActionChunk, times_ns: np.ndarray, now_ns: int, position: np.ndarray) -> np.ndarray:
        """Where `chunk` leads from a command at `position` [1, J] sent for this time: float64 [n, J].

        As the controller does it: between its actions, grippers held, and the offset to it faded. NaN behind its end.
        """
        plan, since_ns = chunk_spline(chunk, "cubic", self._gripper, chunk.stamp), times_ns - chunk.stamp_ns
        offset = np.where(self._gripper, 0.0, position - plan.positions(np.array([(now_ns - chunk.stamp_ns) * 1e-9])))
        left = 1.0 - np.clip((times_ns - now_ns) * 1e-9 / FADE_S, 0.0, 1.0)[:, None]
        expected = plan.positions((since_ns + 1) * 1e-9) + offset * left**2 * (3.0 - 2.0 * left)
        return np.where((times_ns <= chunk.end_ns)[:, None], expected, np.nan)
