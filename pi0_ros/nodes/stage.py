"""The demo's director: lays out a scene, gives the prompt, arms the controller and keeps the score."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import Executor
from rclpy.node import Node
from std_msgs.msg import String
from std_srvs.srv import SetBool
from trajectory_msgs.msg import JointTrajectory

from pi0_ros.base.errors import Pi0Error
from pi0_ros.control.states import State
from pi0_ros.launching.processes import ProcessGroup
from pi0_ros.nodes.messages import LATCHED, LATEST, diagnostic_values, status_name
from pi0_ros.nodes.sim_client import SimClient, call, spin_until
from pi0_ros.sim.task import named_colour, prompt
from pi0_ros.sim.world import CUBES

START_LIMIT_S = 120.0
SETTLE_S = 0.5  # between disarming and the next scene: the arm comes to rest
STAY_S = 0.6  # the cube must stay in the tray
ARM_LIMIT_S = 10.0


@dataclass(frozen=True)
class Episode:
    """One scored scene; `seconds` of simulated time from arming to success or to the limit."""

    seed: int
    colour: str
    success: bool
    lifted: str  # colour of the first cube that left the table, "" for none
    seconds: float

    @property
    def right_cube(self) -> bool:
        """The named cube was lifted first."""
        return self.lifted == self.colour

    def line(self) -> str:
        """One line for people."""
        verdict = (
            "success" if self.success else "failed: " + (f"lifted {self.lifted}" if self.lifted else "none lifted")
        )
        return f"seed {self.seed:<6d} {self.colour:<6s} {self.seconds:5.1f} s  {verdict}"


class Stage:
    """Runs scenes; `policy` and `controller` are the newest values of their diagnostics.

    `attended`: somebody watches, who may press the emergency stop: then it waits for their reset.
    """

    def __init__(self, executor: Executor, group: ProcessGroup, attended: bool = False) -> None:
        self.executor, self.group, self._attended = executor, group, attended
        self.node = Node("demo")
        executor.add_node(self.node)
        self.sim = SimClient(self.node, executor)
        self.policy: Mapping[str, str] = {}
        self.controller: Mapping[str, str] = {}
        self.chunks = 0
        self._names = {name: status_name(self.node, name) for name in ("policy", "controller")}
        self._prompt = self.node.create_publisher(String, "policy/prompt", LATCHED)
        self._arm = self.node.create_client(SetBool, "controller/arm")
        self._takeover = self.node.create_client(SetBool, "controller/takeover")
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 50)
        self.node.create_subscription(JointTrajectory, "pi0/chunk", self._on_chunk, LATEST)

    def close(self) -> None:
        """Leave the graph."""
        self.node.destroy_node()

    def wait_until_ready(self) -> None:
        """Return when chunks flow; raises TimeoutError with the last words of the processes otherwise."""
        if not self.spin(lambda: self.chunks > 0 and bool(self.sim.status) and bool(self.controller), START_LIMIT_S):
            tails = "\n".join(f"--- {name}\n{self.group.tail(name)}" for name in self.group.names())
            raise TimeoutError(f"no action chunks within {START_LIMIT_S:.0f} s; last words:\n{tails}")

    def play(self, seed: int, text: str | None, limit_s: float, instructions: int = 1) -> list[Episode]:
        """Lay out the scene of `seed`, give the prompt (None: random), arm, watch until success or `limit_s`.

        With more `instructions` another cube is named as soon as one is in the tray or its time is over.
        """
        rng = np.random.default_rng([seed, 11])
        colour, wording = str(CUBES[rng.integers(3)]), int(rng.integers(3))
        others = [str(name) for name in rng.permutation([name for name in CUBES if name != colour])]
        texts = [text] if text else [prompt(name, wording) for name in (colour, *others)[:instructions]]
        self.sim.reset(seed)
        asked: set[str] = set()
        episodes = []
        for number, words in enumerate(texts):
            last = number + 1 == len(texts)
            episodes.append(self._instruct(seed, words, limit_s, asked, first=number == 0, last=last))
        self.disarm()
        return episodes

    def instruct(self, text: str) -> None:
        """Give the policy an instruction; it has taken it up on return."""
        self._prompt.publish(String(data=text))
        self.spin(lambda: self.policy.get("prompt") == text, 10.0)

    def arm(self) -> None:
        """Arm, once a chunk of this scene has come; `Pi0Error` where the controller refuses."""
        seen = self.chunks
        self.spin(lambda: self.chunks > seen + 1, 10.0)  # the first may still stem from the scene before
        self._arm_controller()

    def disarm(self) -> None:
        """Disarm, and let the arm come to rest."""
        call(self.executor, self._arm, SetBool.Request(data=False))
        self.wait(SETTLE_S)

    def lead(self, on: bool) -> None:
        """Turn a person's switch; `Pi0Error` where the controller refuses."""
        answer = call(self.executor, self._takeover, SetBool.Request(data=on))
        if not answer.success:
            raise Pi0Error(f"the controller refuses the takeover: {answer.message}")

    def _instruct(self, seed: int, text: str, limit_s: float, asked: set[str], first: bool, last: bool) -> Episode:
        """Give one instruction and watch what becomes of it; `asked` collects what may lie in the tray."""
        colour = named_colour(text) or ""
        asked.add(colour)
        self.instruct(text)
        if first:
            self.arm()
        start = self.sim.seconds
        self.spin(lambda: self._done(colour, asked) or self.sim.seconds > start + limit_s, 4 * limit_s)
        seconds = self.sim.seconds - start
        if last:
            self.wait(STAY_S)
        lifted = [name for name in self.sim.status["lifted"] if name not in asked or name == colour]
        return Episode(seed, colour, self._done(colour, asked), "".join(lifted[:1]), seconds)

    def _done(self, colour: str, asked: set[str]) -> bool:
        """The named cube lies in the tray, and none that nobody asked for."""
        return colour in self.sim.in_tray and set(self.sim.in_tray) <= asked

    def _arm_controller(self) -> None:
        """Arm, after the reset where somebody who watches presses the emergency stop before or meanwhile."""
        answer = SetBool.Response()

        def over() -> bool:
            nonlocal answer
            answer = call(self.executor, self._arm, SetBool.Request(data=True))
            return bool(answer.success) or self._waits()

        while not answer.success:
            self._wait_for_reset()
            self.spin(over, ARM_LIMIT_S)
            if not answer.success and not self._waits():
                raise Pi0Error(f"the controller refused to arm: {answer.message}")

    def _wait_for_reset(self) -> None:
        """After an emergency stop the next scene begins when somebody has reset the controller."""
        if self._waits():
            print("emergency stop: press Reset in the view and the demo goes on (Ctrl-C ends it)", flush=True)
            self.spin(lambda: not self._waits(), math.inf)

    def _waits(self) -> bool:
        """Whether somebody who watches has stopped the controller, as far as its diagnostics have come."""
        return self._attended and self.controller.get("state") == State.STOPPED.value

    def wait(self, seconds: float) -> None:
        """Let wall seconds pass."""
        self.spin(lambda: False, seconds)

    def spin(self, condition: Callable[[], bool], limit_s: float) -> bool:
        """Whether `condition` held within `limit_s` wall seconds; Pi0Error where a process has ended."""

        def done() -> bool:
            for ended in self.group.poll():
                raise Pi0Error(str(ended), details=self.group.tail(ended.name))
            return condition()

        return spin_until(self.executor, done, limit_s)

    def _on_chunk(self, message: JointTrajectory) -> None:
        self.chunks += 1

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == self._names["policy"]:
                self.policy = diagnostic_values(status)
            elif status.name == self._names["controller"]:
                self.controller = diagnostic_values(status)


def summary(episodes: list[Episode], policy: Mapping[str, str], controller: Mapping[str, str]) -> str:
    """The table at the end."""
    times = [episode.seconds for episode in episodes if episode.success]
    rows = [
        ("success", _share([episode.success for episode in episodes])),
        ("named cube lifted first", _share([episode.right_cube for episode in episodes])),
        ("time to success, median", f"{np.median(times):.1f} s" if times else "-"),
        ("chunk latency p50 / p99", _milliseconds(policy, "latency_p50_ms", "latency_p99_ms")),
        ("execution speed", policy.get("execution_slowed") or policy.get("execution_speed", "?")),
        ("controller tick late p50 / p99", _milliseconds(controller, "tick_p50_ms", "tick_p99_ms")),
        ("clamps", controller.get("clamps", "?")),
        ("stale events", f"policy {policy.get('stale_events')}, controller {controller.get('stale_events')}"),
    ]
    width = max(len(name) for name, _ in rows)
    line = "-" * (width + 28)
    return "\n".join([line, *(f"{name:<{width}s}  {value}" for name, value in rows), line])


def _milliseconds(values: Mapping[str, str], *keys: str) -> str:
    """As a person reads them: `75 / 140 ms`, `0.10 / 0.50 ms`; `-` where nothing was measured."""
    numbers = [float(values.get(key, "nan")) for key in keys]
    return " / ".join("-" if np.isnan(n) else f"{n:.0f}" if n >= 10 else f"{n:.2f}" for n in numbers) + " ms"


def _share(flags: list[bool]) -> str:
    return f"{sum(flags)} of {len(flags)} ({100 * sum(flags) / max(1, len(flags)):.0f} %)"
