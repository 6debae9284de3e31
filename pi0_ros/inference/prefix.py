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
GAP_S = 0.25  # without a command for longer, nobody follows the chunks
EDGE = 1e-4  # of a step: stamps are rounded
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
    """The longest of the last delays from an observation to the first command that followed its chunk, s."""

    def __init__(self, length: int = QUEUE) -> None:
        self._delays: deque[float] = deque(maxlen=length)
        self._warm = False

    def add(self, delay: float) -> None:
        """Remember a delay. The very first (loading, connecting) counts only until there is another."""
        if not self._warm and self._delays:
            self._delays.clear()
            self._warm = True
        self._delays.append(delay)

    def correct(self, delay: float) -> None:
        """The last delay was this long."""
        self._delays[-1] = delay

    @property
    def longest(self) -> float | None:
        """None before the first."""
        return max(self._delays, default=None)


class Continuation:
    """Watches commands and chunks, and says what the next chunk must continue.

    Commands come in one thread, chunks and questions in another. All times are seconds of the chunks' clock.
    """

    def __init__(self, settings: RtcSettings, gripper: np.ndarray) -> None:
        self.settings = settings
        self.delays = DelayEstimate()
        self._gripper = np.asarray(gripper, bool)  # [J]: these switch, and are never between two values
        self._log = SentLog(len(self._gripper))
        self._chunk: ActionChunk | None = None
        self._published = -math.inf
        self._taken_over = True
        self._follows = True
        self._given: ActionPrefix | None = None  # to the inference under way
        self._report: dict[str, object] = {}
        self._lock = threading.Lock()

    def sent(self, t: float, position: np.ndarray, follows: bool = True) -> None:
        """`position` [J] was sent to the robot for the time `t`; `follows`: from a chunk, not from a hold."""
        with self._lock:
            self._follows = follows
            span = self._log.span
            if span is not None and t - span[1] > GAP_S:
                self._log.clear()
            self._log.push(t, position)
            if not self._taken_over and t >= self._published and self._chunk is not None:
                self._taken_over = True
                self.delays.correct(t - self._chunk.stamp)

    def published(self, chunk: ActionChunk, now: float) -> None:
        """`chunk` goes out at `now`. Until a command follows it, this is the best guess of when it takes over."""
        with self._lock:
            self._chunk, self._published = chunk, now
            self._taken_over = not chunk.stamp < now < chunk.end  # one that comes too late is never executed
            if not self._taken_over:
                self.delays.add(now - chunk.stamp)
            self._report = self._compared(chunk, self._given)

    def report(self) -> dict[str, object]:
        """Of the last chunk: its mode, how many actions were known and how many of them executed meanwhile, and how far
        it is from those, the arm joint that differs most, in its unit; for the diagnostics."""
        with self._lock:
            return {"rtc_mode": self.settings.mode, **self._report}

    def prefix(self, stamp: float) -> ActionPrefix | None:
        """What the chunk of an observation at `stamp` must continue; None where no chunk is being executed."""
        given = self._prefix(stamp)
        with self._lock:
            self._given = given
        return given

    def _prefix(self, stamp: float) -> ActionPrefix | None:
        with self._lock:
            chunk, published, span, delay = self._chunk, self._published, self._log.span, self.delays.longest
            if chunk is None or span is None or delay is None or not 0 <= stamp - chunk.stamp < 1e6:
                return None
            if abs(stamp - span[1]) > GAP_S:
                return None
            times = stamp + chunk.dt * np.arange(len(chunk.actions))
            sent, last = self._log.at(times), (span[1], self._log.at(np.array([span[1]])))
            # Not so a chunk of before arming, nor one that a hold has dropped.
            followed = published >= span[0] and (self._follows or published > span[1])
        steps = math.ceil(delay / chunk.dt - EDGE)
        planned = self._expected(chunk, times, *last) if followed else np.full_like(sent, np.nan)
        executed = (np.arange(len(times)) < steps)[:, None]
        planned = np.where(executed & np.isnan(planned), sent, planned)  # behind its end a chunk stands still
        past = (times <= span[1])[:, None]
        actions = np.where(past, np.where((times >= span[0])[:, None], sent, np.nan), planned)
        known = np.flatnonzero(np.isfinite(actions).all(1))
        return ActionPrefix(actions[: known[-1] + 1], chunk.dt, steps, self.settings) if len(known) else None

    def _compared(self, chunk: ActionChunk, given: ActionPrefix | None) -> dict[str, object]:
        known = given.actions[: len(chunk.actions)] if given is not None else chunk.actions[:0]
        executed = min(len(known), given.delay) if given is not None else 0
        differences = np.abs(chunk.actions[:executed] - known[:executed])[:, ~self._gripper]
        difference = float(np.nanmax(differences)) if np.isfinite(differences).any() else math.nan
        return {"rtc_known": len(known), "rtc_executed": executed, "rtc_difference": difference}

    def _expected(self, chunk: ActionChunk, times: np.ndarray, now: float, position: np.ndarray) -> np.ndarray:
        """Where `chunk` leads from a command at `position` [1, J] sent for `now`: float64 [n, J] at `times`.

        As the controller does it: between its actions, grippers held, and the offset to it faded. NaN behind its end.
        """
        plan = chunk_spline(chunk, "cubic", self._gripper, chunk.stamp)
        since, edge = times - chunk.stamp, EDGE * chunk.dt
        offset = np.where(self._gripper, 0.0, position - plan.positions(np.array([now - chunk.stamp])))
        left = 1.0 - np.clip((times - now) / FADE_S, 0.0, 1.0)[:, None]
        expected = plan.positions(since + edge) + offset * left**2 * (3.0 - 2.0 * left)
        return np.where((since <= chunk.end - chunk.stamp + edge)[:, None], expected, np.nan)
