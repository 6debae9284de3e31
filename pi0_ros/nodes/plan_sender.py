"""Says what will be sent, on `pi0/plan`, and sends it to the command groups that take it whole, whenever it changes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from pi0_ros.control.controller import Controller
from pi0_ros.control.plan import (
    Plan,
    begun,
    begun_elsewhere,
    brake_along,
    delay_to_join,
    later,
    motion_along,
    plan_behind,
    standing,
    still_to_come,
    stood_still,
)
from pi0_ros.control.states import ARMED, Command
from pi0_ros.nodes.command_output import CommandOutput

SOON_OVER_S = 0.2  # a plan that ends within this time by itself needs no stop
STANDS_FRACTION = 0.01  # of its velocity limit: slower, a joint stands
LATE_S, TRIES = 0.01, 5  # made later than this after its beginning, a plan is made again: the robot has gone on
AWAY_S = 0.5  # a plan that cannot be reached sooner belongs to a controller that stood still while the robot went on
HEARS_S = (
    0.1  # after a silence the joints are waited for so long: whoever moved them meanwhile, no stop leads them back
)
CORRECTED_S = 0.2  # where ticks are skipped again and again, what that changes is said this often at most


class Planner:
    """Looks ahead in a thread of its own, from `start` on.

    That takes longer than a tick may, and than the emergency stop may wait.

    `lock` is the one around `controller`; `now` tells ROS time in s.
    """

    def __init__(
        self, controller: Controller, lock: threading.Lock, output: CommandOutput, now: Callable[[], float]
    ) -> None:
        self._controller, self._lock, self._output, self._now = controller, lock, output, now
        self._sent: tuple[Command, float] | None = None  # the last command and its time
        self._told: np.ndarray | None = None  # [J] where the last plan led, once nothing is commanded any more
        self._began_at: np.ndarray | None = None  # [J] where the commands began after a silence, and the robot rests
        self._anew = False  # they have, and no plan has been sent since
        self._silent_since = -np.inf  # s
        self._listens = (
            False  # whether a stop is owed to what the robot is still on, as soon as its joints are heard of
        )
        self._planned_for = 0  # the controller's revision
        self._corrected_for, self._said_at = 0, -np.inf  # its rejoins; when the plan was last asked for, s
        self._changed = self._again = False  # the motion has, for groups that take plans; a plan is wanted still
        self._going: tuple[Plan, float] | None = None  # what the robot executes, from where it was, and since when
        self._fingers = np.zeros(0)  # [J] where it may have been instead when that began: of grippers nobody knows
        self._wanted, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="plans", daemon=True)

    def start(self) -> None:
        """Begin to look ahead."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """False once the thread has ended, by `stop` or by an exception."""
        return self._thread.is_alive()

    def ticked(self, command: Command | None, now: float) -> None:
        """After every tick at `now` (s), within the lock: ask for a plan where the motion has changed."""
        controller, stands = self._controller, command is None and self._sent is not None
        if command is not None and self._sent is None:
            self._began_at = command.position - command.velocity * controller.period
            self._anew = True
        if stands:
            self._silent_since = now
        self._sent = (command, now) if command is not None else None
        corrected = controller.rejoined != self._corrected_for and not 0 <= now - self._said_at < CORRECTED_S
        changed = stands or controller.revision != self._planned_for
        self._changed = self._changed or changed
        if changed or corrected or self._again:
            self._again = False
            self._planned_for, self._corrected_for, self._said_at = controller.revision, controller.rejoined, now
            self._wanted.set()

    def stop(self) -> None:
        """End the thread; none of its plans goes out any more on return."""
        self._closing.set()
        self._wanted.set()
        self._thread.join()

    def publish(self) -> None:
        """Say and send the motion that is left now. A plan for a motion that has changed meanwhile is not sent."""
        controller, output = self._controller, self._output
        with self._lock:
            sent, revision, state = self._sent, controller.revision, controller.state.value
            began_at, anew = self._began_at, self._anew
            amid = sent is not None and not np.array_equal(sent[0].position, controller.sent)
            if amid and not self._closing.is_set():
                self._again = True  # a tick is under way: when it is over
                return
            changed, self._changed = self._changed or revision != self._planned_for, False
            ahead = controller.fork() if sent is not None else None
            rests, measured = not controller.feedback.not_at_rest(), controller.feedback.position.copy()
        if sent is None or ahead is None:
            if not self._listens:
                output.say_state(state)
                output.say_plan(None, self._now())
            self._listens = self._again = not self._stop_going()  # whatever moves the robot on, no plan of ours shall
            return
        self._listens = False
        command, at = sent
        plan = plan_behind(ahead, command, at, lambda: controller.revision != revision)
        if plan is None:
            return
        if output.wants_plans and changed:
            self._anew = False
            if anew and rests:
                self._leave_going()
            self._send(plan, at, began_at if began_at is not None else command.position, measured)
        output.say_state(state)
        output.say_plan(plan, at)

    def _send(self, plan: Plan, at: float, began_at: np.ndarray, measured: np.ndarray) -> None:
        """Hand over `plan`, which began at `at` (s), to the groups that take plans.

        The robot is on the plan before; without one it rests where the commands began. A gripper may keep a command
        that no plan has brought it, or be where it was `measured`: the way to the plan is short enough from either.
        """
        controller, limits = self._controller, self._controller.limits
        if self._told is not None:
            began_at = np.where(limits.gripper, self._told, began_at)
        for _ in range(TRIES):
            now, away = self._now(), False
            rest = still_to_come(plan, now - at)
            going = later(self._going[0], now - self._going[1]) if self._going is not None else None
            if going is not None:
                starts = [going, begun_elsewhere(going, self._fingers)]
            else:
                starts = [standing(began_at), standing(np.where(limits.gripper, measured, began_at))]
            delay = max(delay_to_join(rest, start, limits) for start in starts)
            (position, velocity), (fingers, _) = map(motion_along, starts)
            away = going is not None and delay > AWAY_S
            rest = brake_along(going, limits) if going and away else replace(rest, times=rest.times + delay)
            if self._now() - now <= LATE_S:
                break
        if away:
            with self._lock:
                controller.fail("the robot went on while the controller stood still: call ~/arm to start again")
        self._going, self._fingers = (begun(rest, position, velocity), now), fingers
        self._output.publish_plan(rest)

    def _leave_going(self) -> None:
        """Commands have begun anew, and the robot was measured at rest: it is on no plan of ours any more."""
        if self._going is not None:
            plan, since = self._going
            self._going, self._told = None, motion_along(later(plan, self._now() - since))[0]

    def _stop_going(self) -> bool:
        """End a motion that the robot is still on although no command comes any more; False: to be asked again soon.

        Joints that have been measured elsewhere than their plan has led them stand where they are.
        """
        if self._going is None:
            return True
        now, controller = self._now(), self._controller
        going = later(self._going[0], now - self._going[1])
        position, velocity = motion_along(going)
        if (np.abs(velocity) > STANDS_FRACTION * controller.limits.velocity).any() and going.times[-1] > SOON_OVER_S:
            with self._lock:
                stamp, measured = controller.feedback.stamp.copy(), controller.feedback.position.copy()
            if (stamp >= self._silent_since).all():
                elsewhere = self._elsewhere(stamp, measured)
                going = stood_still(going, elsewhere, measured)
                position, velocity = np.where(elsewhere, measured, position), np.where(elsewhere, 0.0, velocity)
            elif 0.0 <= now - self._silent_since < HEARS_S:
                return False
            stop = brake_along(going, controller.limits)
            self._going, self._fingers = (begun(stop, position, velocity), now), position
            self._output.publish_plan(stop)
        elif controller.state not in ARMED:
            self._going, self._told = None, position
        return True

    def _elsewhere(self, stamp: np.ndarray, measured: np.ndarray) -> np.ndarray:
        """Which joints were not, at their measurement's time, where the plan that they are on leads; bool [J]."""
        assert self._going is not None
        plan, since = self._going
        there = np.array([np.interp(t - since, plan.times, column) for t, column in zip(stamp, plan.positions.T)])
        away = np.abs(measured - there) > self._controller.tracking.near
        return away & ~self._controller.limits.gripper  # fingers on an object never arrive

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wanted.wait()
            self._wanted.clear()
            if not self._closing.is_set():
                self.publish()
