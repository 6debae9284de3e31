"""A policy and the controller's core at the simulated arm, in simulated time and without ROS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from pi0_ros.checkpoints.spec import PolicySpec
from pi0_ros.control.chunk import ActionChunk, ChunkError
from pi0_ros.control.controller import Controller
from pi0_ros.control.limits import limits_of
from pi0_ros.control.plan import plan_behind
from pi0_ros.control.sent import SentLog
from pi0_ros.control.states import ARMED, Command, Settings, State
from pi0_ros.inference.pace import Pace
from pi0_ros.inference.prefix import ActionPrefix, Continuation, RtcSettings
from pi0_ros.inference.slowing import Slowing
from pi0_ros.observation.streams import Observation
from pi0_ros.sim.world import TICK

ARM_AFTER_S = 0.3
ROUNDING_S = 1e-6  # of times far from zero: no control period more for that
BY_ITSELF = Pace(auto=True)

Arrival = Callable[[ActionChunk, ActionPrefix | None, SentLog, float], None]


class Infers(Protocol):
    """A policy, or what gathers the questions of several drivers for one."""

    spec: PolicySpec

    def infer(self, observation: Observation, prefix: ActionPrefix | None = None) -> ActionChunk:
        """The chunk for an observation."""


def slowing_for(policy: Infers) -> Slowing:
    """What slows this policy down where its chunks are late."""
    return Slowing(lambda: policy.spec.settings.rtc_trained_max_delay)


class PolicyDriver:
    """Turns pictures and joint states into commands, as policy node and controller do together.

    `latency` gives the seconds from each observation to its chunk, `rate` is in chunks per second (0: as the robot file
    says). All times are seconds; `start` must be fresh for every scene, as the policy's noise depends on it. A
    `slowing` that is handed from scene to scene knows the delays of those before, as a policy node does.
    """

    def __init__(
        self,
        policy: Infers,
        rtc: RtcSettings,
        settings: Settings,
        latency: Callable[[], float],
        rate: float = 0.0,
        pace: Pace = BY_ITSELF,
        slowing: Slowing | None = None,
    ) -> None:
        robot = policy.spec.robot
        slowing = slowing or slowing_for(policy)
        self.policy, self.latency, self.rate = policy, latency, rate or robot.policy_rate_hz
        self.controller = Controller(limits_of(robot), 2 * TICK, np.full(len(robot.joints), 0.15), settings)
        self.sent = SentLog(len(robot.joints))
        self.images: dict[str, np.ndarray] = {}
        self.on_chunk: Arrival = lambda chunk, prefix, sent, now: None  # is told of each chunk as it arrives
        self._everything = np.arange(len(robot.joints))
        self._cameras = len(robot.cameras)
        self._continuation = Continuation(rtc, robot.gripper_mask, robot.velocity, None, pace, slowing)
        self._waiting: tuple[float, ActionChunk, ActionPrefix | None] | None = None
        self._next_inference, self._begun, self._armed = -np.inf, 0.0, False
        self._planned_for = -1  # the controller's revision

    def begin(self, now: float, wait_s: float = 0.0) -> None:
        """A scene begins at `now`: infer after `wait_s`, arm a little later."""
        self._next_inference, self._begun = now + wait_s, now

    def looks_before(self, until: float) -> bool:
        """Whether an inference may begin before `until`: else nobody sees a picture that is replaced then."""
        free = self._next_inference if self._waiting is None else max(self._next_inference, self._waiting[0])
        return free < until + TICK

    def step(self, now: float, state: np.ndarray, text: str) -> Command | None:
        """One control period: the measured `state` [J] and the instruction; None while not armed."""
        controller, now_ns = self.controller, round(now * 1e9)
        controller.measure(now, self._everything, state)
        due = self._waiting is None and now >= self._next_inference - ROUNDING_S  # one inference at a time
        if due and len(self.images) == self._cameras:
            prefix = self._continuation.prefix(now_ns)
            seen = Observation(now_ns, dict(self.images), state, text, {})
            self._waiting = now + self.latency(), self._continuation.executed(self.policy.infer(seen, prefix)), prefix
            self._next_inference = now + 1.0 / self.rate
        if self._waiting is not None and now >= self._waiting[0] - ROUNDING_S:
            (_, chunk, prefix), self._waiting = self._waiting, None
            chunk = self._continuation.begun(chunk, now_ns)
            self.on_chunk(chunk, prefix, self.sent, now)
            self._continuation.published(chunk, now_ns)
            try:
                controller.accept(chunk, now)
            except ChunkError as error:
                controller.refuse(str(error), now)
        if not self._armed:
            self._armed = now > self._begun + ARM_AFTER_S and not controller.arm(now)
        command = controller.tick(now)
        if command is not None:
            self.sent.push(now, command.position)
            self._continuation.sent(now_ns, command.position)
        if controller.revision != self._planned_for:
            self._planned_for = controller.revision
            self._continuation.planned(now_ns, plan_behind(controller.fork(), command, now) if command else None)
            self._continuation.state(controller.state in ARMED, controller.state is State.RUNNING)
        return command
