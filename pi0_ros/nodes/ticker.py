"""A thread that ticks on absolute deadlines of the node's clock, real or simulated."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.node import Node

from pi0_ros.control.pacing import Pacer

POLL_S = 0.1  # simulated time may stand still: look at least this often whether to stop

TOGETHER_S = 1e-4  # two clocks read within this time are read at the same moment


class Ticker:
    """Calls `tick(t)` once per `period` s, `t` being the deadline in ROS time (s), from a thread of its own.

    Real time is paced by the monotonic clock, so that setting the system's clock neither stops nor bursts the ticks;
    simulated time (`use_sim_time`) is followed step by step as `/clock` arrives.
    """

    def __init__(self, node: Node, period: float, tick: Callable[[float], object]) -> None:
        self.pacer = Pacer(period)
        self._node_clock = node.get_clock()
        self._tick = tick
        self._simulated = bool(node.get_parameter("use_sim_time").value)
        self._closing = threading.Event()
        self._clock_moved = threading.Event()
        self._jumps = self._node_clock.create_jump_callback(
            JumpThreshold(min_forward=Duration(nanoseconds=1), min_backward=Duration(nanoseconds=-1)),
            post_callback=lambda _: self._clock_moved.set(),
        )
        self._thread = threading.Thread(target=self._run, name="ticks", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """False once the thread has ended, by `stop` or by an exception in `tick`."""
        return self._thread.is_alive()

    def now(self) -> float:
        """ROS time in s."""
        return float(self._node_clock.now().nanoseconds * 1e-9)

    def stop(self) -> None:
        """End the thread; no tick is under way any more on return."""
        self._closing.set()
        self._clock_moved.set()
        self._thread.join()

    def _run(self) -> None:
        clock = self.now if self._simulated else time.monotonic
        while self._simulated and self.now() == 0.0 and not self._closing.is_set():
            self._clock_moved.wait(POLL_S)  # no /clock yet
        self.pacer.start(clock())
        while not self._closing.is_set():
            now = clock()
            if self.pacer.deadline - now > 2 * self.pacer.period:
                self.pacer.start(now)  # simulated time went back
            elif now >= self.pacer.deadline:
                self._tick(self._ros_time(self.pacer.wake(now)))
            elif self._simulated:
                self._clock_moved.wait(POLL_S)
                self._clock_moved.clear()
            else:
                time.sleep(self.pacer.deadline - now)

    def _ros_time(self, due: float) -> float:
        """The pacing clock's `due` in ROS time, s."""
        if self._simulated:
            return due
        for _ in range(3):  # read both clocks at one moment, again where something came in between
            before, now, after = time.monotonic(), self.now(), time.monotonic()
            if after - before < TOGETHER_S:
                break
        return now - (before - due)
