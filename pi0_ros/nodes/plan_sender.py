"""Sends the rest of the motion to the command groups that take it whole, whenever it changes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from pi0_ros.control.controller import Command, Controller, State
from pi0_ros.control.plan import Plan, brake_along, delay_to_join, rest_of_plan, still_to_come
from pi0_ros.nodes.command_output import CommandOutput

AWAY_S = 0.5  # a plan that cannot be reached sooner belongs to a controller that stood still while the robot went on


class Planner:
    """Looks ahead in a thread of its own: that takes longer than a tick may, and than the emergency stop may wait.

    `lock` is the one around `controller`; `now` tells ROS time in s.
    """

    def __init__(
        self, controller: Controller, lock: threading.Lock, output: CommandOutput, now: Callable[[], float]
    ) -> None:
        self._controller, self._lock, self._output, self._now = controller, lock, output, now
        self._sent: tuple[Command, float] | None = None  # the last command and its time
        self._planned_for: tuple[int, State] | None = None  # chunks followed, and state
        self._going: tuple[Plan, float] | None = None  # what the robot executes, and since when
        self._wanted, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="plans", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """False once the thread has ended, by `stop` or by an exception."""
        return self._thread.is_alive()

    def ticked(self, command: Command | None, now: float) -> None:
        """After every tick at `now` (s), within the lock: ask for a plan where the motion has changed."""
        self._sent = (command, now) if command is not None else None
        wanted = (self._controller.counts.chunks, self._controller.state) if command is not None else None
        if wanted != self._planned_for:
            self._planned_for = wanted
            self._wanted.set()

    def stop(self) -> None:
        """End the thread; none of its plans goes out any more on return."""
        self._closing.set()
        self._wanted.set()
        self._thread.join()

    def publish(self) -> None:
        """Send the motion that is left now. A plan for a state that has changed meanwhile is not sent."""
        controller = self._controller
        with self._lock:
            if self._sent is None:  # disarmed and at rest: whatever moves the robot now, no plan of ours does
                self._going = None
                return
            (command, sent), state, ahead = self._sent, controller.state, controller.fork()
        plan = rest_of_plan(ahead, command.position, sent, lambda: controller.state is not state)
        if plan is None:
            return
        now = self._now()
        plan = still_to_come(plan, now - sent)
        if self._going is not None:
            going = replace(self._going[0], times=self._going[0].times - (now - self._going[1]))
            delay = delay_to_join(plan, going, controller.limits)
            if delay > AWAY_S:
                plan = brake_along(going, controller.limits)
                with self._lock:
                    controller.disarm("the robot went on while the controller stood still: call ~/arm to start again")
            else:
                plan = replace(plan, times=plan.times + delay)
        self._going = plan, now
        self._output.publish_plan(plan)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wanted.wait()
            self._wanted.clear()
            if not self._closing.is_set():
                self.publish()
