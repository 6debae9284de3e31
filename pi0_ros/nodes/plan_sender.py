"""Says what will be sent, on `pi0/plan`, and sends it to the command groups that take it whole, whenever it changes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from pi0_ros.control.controller import ARMED, Command, Controller
from pi0_ros.control.plan import (
    Plan,
    begun,
    brake_along,
    delay_to_join,
    later,
    motion_along,
    plan_behind,
    standing,
    still_to_come,
)
from pi0_ros.nodes.command_output import CommandOutput

SOON_OVER_S = 0.2  # a plan that ends within this time by itself needs no stop
STANDS_FRACTION = 0.01  # of its velocity limit: slower, a joint stands
LATE_S, TRIES = 0.01, 5  # made later than this after its beginning, a plan is made again: the robot has gone on
AWAY_S = 0.5  # a plan that cannot be reached sooner belongs to a controller that stood still while the robot went on
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
        self._planned_for = 0  # the controller's revision
        self._corrected_for, self._said_at = 0, -np.inf  # its rejoins; when the plan was last asked for, s
        self._changed = self._again = False  # the motion has, for groups that take plans; a plan is wanted still
        self._going: tuple[Plan, float] | None = None  # what the robot executes, from where it was, and since when
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
            began_at = self._began_at
            amid = sent is not None and not np.array_equal(sent[0].position, controller.sent)
            if amid and not self._closing.is_set():
                self._again = True  # a tick is under way: when it is over
                return
            changed, self._changed = self._changed or revision != self._planned_for, False
            ahead = controller.fork() if sent is not None else None
        if sent is None or ahead is None:
            self._stop_going()  # nothing is commanded: whatever moves the robot on, no plan of ours shall
            output.say_state(state)
            output.say_plan(None, self._now())
            return
        command, at = sent
        plan = plan_behind(ahead, command, at, lambda: controller.revision != revision)
        if plan is None:
            return
        if output.wants_plans and changed:
            self._send(plan, at, began_at if began_at is not None else command.position)
        output.say_state(state)
        output.say_plan(plan, at)

    def _send(self, plan: Plan, at: float, began_at: np.ndarray) -> None:
        """Hand over `plan`, which began at `at` (s), to the groups that take plans.

        The robot is on the plan before; without one it rests where the commands began, but for a gripper, which may
        keep a command that no plan has brought it.
        """
        controller, limits = self._controller, self._controller.limits
        if self._told is not None:
            began_at = np.where(limits.gripper, self._told, began_at)
        for _ in range(TRIES):
            now, away = self._now(), False
            rest = still_to_come(plan, now - at)
            going = later(self._going[0], now - self._going[1]) if self._going is not None else None
            position, velocity = motion_along(going or standing(began_at))
            delay = delay_to_join(rest, going or standing(began_at), limits)
            away = going is not None and delay > AWAY_S
            rest = brake_along(going, limits) if going and away else replace(rest, times=rest.times + delay)
            if self._now() - now <= LATE_S:
                break
        if away:
            with self._lock:
                controller.fail("the robot went on while the controller stood still: call ~/arm to start again")
        self._going = begun(rest, position, velocity), now
        self._output.publish_plan(rest)

    def _stop_going(self) -> None:
        """End a motion that the robot is still on although no command comes any more."""
        if self._going is None:
            return
        now, limits = self._now(), self._controller.limits
        going = later(self._going[0], now - self._going[1])
        position, velocity = motion_along(going)
        if (np.abs(velocity) > STANDS_FRACTION * limits.velocity).any() and going.times[-1] > SOON_OVER_S:
            stop = brake_along(going, limits)
            self._going = begun(stop, position, velocity), now
            self._output.publish_plan(stop)
        elif self._controller.state not in ARMED:
            self._going, self._told = None, position

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wanted.wait()
            self._wanted.clear()
            if not self._closing.is_set():
                self.publish()
