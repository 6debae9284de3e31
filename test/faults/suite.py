"""Injects every fault of docs/safety.md over real processes and prints, as Markdown, what a witness saw.

    python test/faults/suite.py --times 20 --out faults.md
    python test/faults/suite.py --times 2 --rows stall,chunks --rate 250 --transition rtc

Processes: the controller, a source of chunks, the witness (`watcher.py`). This one is the robot: it goes where it is
told, unless the row says otherwise, and injects. What is judged is `judge.py`, from the robot file alone.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "helpers"), str(HERE.parents[1])]

import rclpy  # noqa: E402
from judge import Verdict, judge  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from std_msgs.msg import Bool  # noqa: E402
from std_srvs.srv import SetBool, Trigger  # noqa: E402
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint  # noqa: E402

from pi0_ros.base.middleware import without_shared_memory  # noqa: E402
from pi0_ros.control.chunk import ActionChunk  # noqa: E402
from pi0_ros.launching.launches import ros_arguments  # noqa: E402
from pi0_ros.launching.processes import ProcessGroup, ros_environment  # noqa: E402
from pi0_ros.nodes.messages import LATCHED, LATEST, chunk_to_message, seconds_to_stamp  # noqa: E402
from pi0_ros.robot import Robot, robot_from_yaml, robot_to_yaml  # noqa: E402

STATE_HZ = 100.0
ROBOT_YAML = """
name: fault_arm
control_rate_hz: {rate}
policy_rate_hz: 5
dataset_fps: 20
joints:
  - {{name: yaw, unit: rad, kind: revolute, action: absolute,
      limits: {{position: [-2, 2], velocity: 2.0, acceleration: 16.0}}}}
  - {{name: elbow, unit: rad, kind: revolute, action: absolute,
      limits: {{position: [-1, 1], velocity: 1.5, acceleration: 12.0}}}}
  - {{name: gripper, unit: normalized, kind: gripper, action: absolute,
      limits: {{position: [0, 1], velocity: 5.0, acceleration: 50.0}}}}
cameras:
  - {{name: base, topic: /arm/image, type: sensor_msgs/msg/Image, slot: base_0_rgb, max_age_s: 1.0}}
state:
  - {{topic: /arm/joint_states, type: sensor_msgs/msg/JointState, max_age_s: 0.25}}
commands:
  - {{name: arm, topic: /arm/command, type: trajectory_msgs/msg/JointTrajectory, points: {points}}}
action: {{source: command, max_age_s: 0.25}}
"""


class Body(Node):
    """The robot: sends joint states, goes where it is told, and is what the rows make of it."""

    def __init__(self, robot: Robot, context: rclpy.Context) -> None:
        super().__init__("body", context=context)
        self.robot, self.names = robot, robot.joint_names
        self.position = np.array([0.1, 0.1, 0.0])
        self._plan: tuple[float, np.ndarray, np.ndarray] | None = None  # begun (monotonic), times, positions
        self.mend()
        self.states = self.create_publisher(JointState, "/arm/joint_states", 10)
        self.chunks = self.create_publisher(JointTrajectory, "pi0/chunk", LATEST)
        self.button = self.create_publisher(Bool, "pi0/estop", LATCHED)
        self.create_subscription(JointTrajectory, "/arm/command", self._on_command, 50)
        self.asked = {name: self.create_client(Trigger, f"/controller/{name}") for name in ("estop", "reset")}
        self.asked["arm"] = self.create_client(SetBool, "/controller/arm")
        self.create_timer(1.0 / STATE_HZ, self._feel)

    def mend(self) -> None:
        """The robot's own faults are over."""
        self.follows, self.speaks = True, True
        self.lie: Callable[[JointState], JointState] = lambda state: state

    def call(self, name: str, data: bool = True) -> bool:
        """Call one of the controller's services; False for a refusal and for no answer within 3 s."""
        client = self.asked[name]
        if not client.wait_for_service(timeout_sec=3.0):
            return False
        answer = client.call_async(SetBool.Request(data=data) if name == "arm" else Trigger.Request())
        end = time.monotonic() + 3.0
        while not answer.done() and time.monotonic() < end:
            time.sleep(0.005)
        return bool(answer.done() and answer.result().success)

    def _on_command(self, message: JointTrajectory) -> None:
        found = [dict(zip(message.joint_names, point.positions)) for point in message.points]
        path = np.array([[point[name] for name in self.names] for point in found])
        ends = [p.time_from_start.sec + p.time_from_start.nanosec * 1e-9 for p in message.points]
        here = self.position.copy()
        self._plan = time.monotonic(), np.array([0.0, *ends]), np.vstack([here, path])

    def _feel(self) -> None:
        if self._plan is not None and self.follows:
            began, ends, path = self._plan
            passed = time.monotonic() - began
            goal = np.array([np.interp(passed, ends, column) for column in path.T])
            most = 2.0 * self.robot.velocity / STATE_HZ  # no motor is faster, whatever it is told
            self.position = self.position + np.clip(goal - self.position, -most, most)
        if self.speaks:
            state = JointState(name=list(self.names), position=self.position.tolist())
            state.header.stamp = seconds_to_stamp(time.time())
            state = self.lie(state)
            self.states.publish(state)


@dataclass
class Outcome:
    """What one kind of fault led to."""

    trials: int = 0
    verdict: Verdict = field(default_factory=Verdict)
    rest_s: list[float] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    wrong: list[str] = field(default_factory=list)


class Stage:
    """The processes, and what rows may do with them."""

    def __init__(self, folder: Path, rate: float, points: str, transition: str) -> None:
        self.folder, self.transition = folder, transition
        self.robot = robot_from_yaml(ROBOT_YAML.format(rate=rate, points=points), "fault_arm.yaml")
        self.points = points
        self.file = folder / "robot.yaml"
        self.file.write_text(robot_to_yaml(self.robot), encoding="utf-8")
        self.processes = ProcessGroup(log_dir=folder / "processes")
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=int(os.environ["ROS_DOMAIN_ID"]))
        self.body, self._executor = Body(self.robot, self.context), SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.body)
        self._spinner = threading.Thread(target=self._executor.spin, daemon=True)
        self._spinner.start()
        self.record = folder / "wire.jsonl"
        names = ",".join(self.robot.joint_names)
        arguments = [str(self.record), "/arm/command", names, "/arm/joint_states"]
        self.record.touch()
        self._start("watcher", HERE / "watcher.py", *arguments)
        self.start_controller()
        self.start_chunks()

    def close(self) -> None:
        """End everything."""
        for name in self.processes.names():
            if self.processes.is_running(name):
                self.processes.signal(name, signal.SIGCONT)
        self.processes.stop()
        self._executor.shutdown()
        self._spinner.join(5.0)
        self.body.destroy_node()
        rclpy.try_shutdown(context=self.context)

    def _start(self, name: str, script: Path, *arguments: str) -> None:
        self.processes.start(name, [sys.executable, str(script), *arguments])

    def start_controller(self, name: str = "controller", **parameters: object) -> None:
        """Start a controller process."""
        settings = {"robot": str(self.file), "transition": self.transition, **parameters}
        command = [sys.executable, "-m", "pi0_ros.nodes.controller_node", *ros_arguments(settings)]
        self.processes.start(name, command)

    def start_chunks(self) -> None:
        """Start the source of chunks."""
        names = ",".join(self.robot.joint_names)
        self._start("chunks", HERE.parent / "helpers" / "chunk_source.py", names, "0.6")

    def lines(self) -> Iterator[dict]:
        """What the witness wrote, so far."""
        for line in self.record.read_text(encoding="utf-8").splitlines():
            if line.endswith("}"):
                yield json.loads(line)

    def status(self) -> dict:
        """The controller's newest status."""
        found: dict = {}
        with self.record.open("rb") as file:
            file.seek(max(0, self.record.stat().st_size - 60_000))
            for line in file.read().decode(errors="replace").splitlines()[1:]:
                if '"status"' in line and line.endswith("}"):
                    found = json.loads(line)
        return found

    def state(self) -> str:
        """The controller's state, by its newest status."""
        return str(self.status().get("state", ""))

    def wait(self, condition: Callable[[], object], timeout_s: float) -> bool:
        """Whether `condition` became true in time."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if condition():
                return True
            time.sleep(0.03)
        return False

    def runs(self) -> bool:
        """Bring the robot to follow chunks again, as an operator would."""
        end = time.monotonic() + 60.0
        while time.monotonic() < end:
            if not self.processes.is_running("chunks"):
                self.start_chunks()
            if not self.processes.is_running("controller"):
                self.start_controller()
            state = self.state()
            if state == "RUNNING" and self.wait(lambda: self.state() != "RUNNING", 0.6) is False:
                return True
            if state == "STOPPED":
                self.body.button.publish(Bool(data=False))
                time.sleep(0.1)
                self.body.call("reset")
            if state == "DISARMED":
                self.body.call("arm")
            time.sleep(0.2)
        return False


# --- the rows: (name, how a trial goes, words that the reason must hold; "" none) -------------------------------------

Row = Callable[[Stage, int], str]  # injects and mends, the trial's number; returns what must be in the reason


def stall(seconds: float) -> Row:
    def row(stage: Stage, trial: int) -> str:
        stage.processes.signal("controller", signal.SIGSTOP)
        time.sleep(seconds)
        stage.processes.signal("controller", signal.SIGCONT)
        time.sleep(0.8)
        return "stood still"

    return row


def moved_meanwhile(stage: Stage, trial: int) -> str:
    stage.processes.signal("controller", signal.SIGSTOP)
    stage.body.follows = False
    for _ in range(40):
        stage.body.position = stage.body.position - [0.02 * np.sign(stage.body.position[0]), 0.0, 0.0]
        time.sleep(0.02)
    stage.processes.signal("controller", signal.SIGCONT)
    time.sleep(0.5)
    stage.body._plan = None
    stage.body.mend()
    time.sleep(0.8)
    return "stood still"


def chunks_killed(stage: Stage, trial: int) -> str:
    stage.processes.signal("chunks", signal.SIGKILL)
    time.sleep(3.5)
    return "no newer chunk"


def chunks_stopped(stage: Stage, trial: int) -> str:
    stage.processes.signal("chunks", signal.SIGSTOP)
    time.sleep(2.4)
    stage.processes.signal("chunks", signal.SIGCONT)
    time.sleep(0.8)
    return "no newer chunk"


def states(change: Callable[[JointState, int], JointState] | None, seconds: float, words: str) -> Row:
    def row(stage: Stage, trial: int) -> str:
        count = iter(range(10**9))
        if change is None:
            stage.body.speaks = False
        else:
            stage.body.lie = lambda state: change(state, next(count))
        time.sleep(seconds)
        stage.body.mend()
        time.sleep(0.8)
        return words

    return row


def shifted(by: float) -> Callable[[JointState, int], JointState]:
    def change(state: JointState, count: int) -> JointState:
        state.position[0] += by
        return state

    return change


def not_a_number(state: JointState, count: int) -> JointState:
    state.position[1] = float("nan")
    return state


def swapped(state: JointState, count: int) -> JointState:
    state.name[0], state.name[1] = state.name[1], state.name[0]
    return state


def missing(state: JointState, count: int) -> JointState:
    return JointState(header=state.header, name=list(state.name)[1:], position=list(state.position)[1:])


def huge_state(state: JointState, count: int) -> JointState:
    names = [*state.name, *(f"other_{i}" for i in range(3000))]
    return JointState(header=state.header, name=names, position=[*state.position, *([0.0] * 3000)])


def future(state: JointState, count: int) -> JointState:
    state.header.stamp = seconds_to_stamp(time.time() + 3.0)
    return state


def old(state: JointState, count: int) -> JointState:
    state.header.stamp = seconds_to_stamp(time.time() - 3.0)
    return state


def backwards(state: JointState, count: int) -> JointState:
    state.name, state.position = list(reversed(state.name)), list(reversed(state.position))
    return state


def wrong_chunk(make: Callable[[JointTrajectory], JointTrajectory]) -> Row:
    def row(stage: Stage, trial: int) -> str:
        steps = np.tile(stage.body.position, (24, 1))
        message = chunk_to_message(ActionChunk(time.time() - 0.05, 0.05, steps, stage.body.names))
        for _ in range(3):
            stage.body.chunks.publish(make(message))
            time.sleep(0.05)
        time.sleep(0.7)
        return ""

    return row


def _with(**changes: object) -> Callable[[JointTrajectory], JointTrajectory]:
    def make(message: JointTrajectory) -> JointTrajectory:
        for name, value in changes.items():
            setattr(message, name, value)
        return message

    return make


def _points(change: Callable[[int, JointTrajectoryPoint], None]) -> Callable[[JointTrajectory], JointTrajectory]:
    def make(message: JointTrajectory) -> JointTrajectory:
        for i, point in enumerate(message.points):
            change(i, point)
        return message

    return make


def _value(joint: int, value: Callable[[int], float]) -> Callable[[JointTrajectory], JointTrajectory]:
    def change(i: int, point: JointTrajectoryPoint) -> None:
        point.positions[joint] = value(i)

    return _points(change)


def _time(seconds: Callable[[int], float]) -> Callable[[JointTrajectory], JointTrajectory]:
    def change(i: int, point: JointTrajectoryPoint) -> None:
        ns = int(seconds(i) * 1e9)
        point.time_from_start.sec, point.time_from_start.nanosec = ns // 10**9, ns % 10**9

    return _points(change)


def _stamp(ahead_s: float) -> Callable[[JointTrajectory], JointTrajectory]:
    def make(message: JointTrajectory) -> JointTrajectory:
        message.header.stamp = seconds_to_stamp(time.time() + ahead_s)
        return message

    return make


def _empty(i: int, point: JointTrajectoryPoint) -> None:
    point.positions = []


def _wide(i: int, point: JointTrajectoryPoint) -> None:
    point.positions = [*point.positions, 0.0]


def _ragged(i: int, point: JointTrajectoryPoint) -> None:
    point.positions = list(point.positions)[: 1 + i % 3]


def _garbage_frame(message: JointTrajectory) -> JointTrajectory:
    message.header.frame_id = "x" * 900_000
    return message


NAMES3 = ["yaw", "elbow", "gripper"]
WRONG_CHUNKS: dict[str, Callable[[JointTrajectory], JointTrajectory]] = {
    "NaN": _value(1, lambda i: float("nan")),
    "infinity": _value(0, lambda i: float("inf")),
    "one NaN at the end": _value(0, lambda i: float("nan") if i == 23 else 0.0),
    "1e300": _value(0, lambda i: 1e300),
    "-1e6": _value(1, lambda i: -1e6),
    "degrees": _value(0, lambda i: 57.3),
    "wild within the limits": _value(0, lambda i: 1.9 * (-1) ** i),
    "one step of 3 rad": _value(0, lambda i: 1.5 if i > 3 else -1.5),
    "gripper chatter": _value(2, lambda i: float(i % 2)),
    "no names": _with(joint_names=[]),
    "unknown name": _with(joint_names=["yaw", "knee", "gripper"]),
    "a name twice": _with(joint_names=["yaw", "yaw", "gripper"]),
    "a name too many": _with(joint_names=[*NAMES3, "knee"]),
    "a name missing": _with(joint_names=NAMES3[:2]),
    "30 000 names": _with(joint_names=[f"joint_{i}" for i in range(30_000)]),
    "no points": _with(points=[]),
    "one point": lambda message: _with(points=message.points[:1])(message),
    "10^5 points": _with(points=[JointTrajectoryPoint()] * 100_000),
    "empty points": _points(_empty),
    "a position too many": _points(_wide),
    "ragged points": _points(_ragged),
    "times all zero": _time(lambda i: 0.0),
    "times backwards": _time(lambda i: 0.05 * (23 - i)),
    "uneven times": _time(lambda i: 0.05 * i + (0.04 if i % 2 else 0.0)),
    "dt of 1 us": _time(lambda i: 1e-6 * i),
    "dt of 1000 s": _time(lambda i: 1000.0 * i),
    "stamp in the future": _stamp(30.0),
    "stamp of an hour ago": _stamp(-3600.0),
    "no stamp": lambda message: _with(header=type(message.header)())(message),
    "a frame of 900 kB": _garbage_frame,
    "empty message": lambda message: JointTrajectory(),
}


def chunk_flood(stage: Stage, trial: int) -> str:
    end = time.monotonic() + 2.0
    while time.monotonic() < end:
        steps = np.tile(stage.body.position, (24, 1)) + np.random.default_rng().uniform(-0.02, 0.02, (24, 3))
        stage.body.chunks.publish(chunk_to_message(ActionChunk(time.time() - 0.01, 0.05, steps, stage.body.names)))
        time.sleep(0.002)
    time.sleep(0.5)
    return ""


def flood_and_stop(stage: Stage, trial: int) -> str:
    huge = JointTrajectory(joint_names=[f"joint_{i}" for i in range(30_000)])
    for _ in range(20):
        stage.body.chunks.publish(huge)
    if not stage.body.call("estop"):
        raise AssertionError("the emergency stop was not answered")
    time.sleep(0.8)
    return "emergency stop"


def estop_service(stage: Stage, trial: int) -> str:
    if not stage.body.call("estop"):
        raise AssertionError("the emergency stop was not answered")
    time.sleep(0.8)
    return "emergency stop by ~/estop"


def estop_topic(stage: Stage, trial: int) -> str:
    stage.body.button.publish(Bool(data=True))
    time.sleep(0.8)
    return "emergency stop by /pi0/estop"


def rival(stage: Stage, trial: int) -> str:
    other = stage.body.create_publisher(JointTrajectory, "/arm/command", 1)
    time.sleep(1.5)
    stage.body.destroy_publisher(other)
    time.sleep(0.5)
    return "another publisher"


def second_policy(stage: Stage, trial: int) -> str:
    other = stage.body.create_publisher(JointTrajectory, "pi0/chunk", LATEST)
    time.sleep(1.5)
    stage.body.destroy_publisher(other)
    time.sleep(0.5)
    return "a policy has appeared"


def second_controller(stage: Stage, trial: int) -> str:
    stage.start_controller("second")
    stage.wait(lambda: stage.state() != "RUNNING", 20.0)
    time.sleep(1.0)
    stage.processes.stop("second")
    time.sleep(1.0)
    return "another"


def blocked(stage: Stage, trial: int) -> str:
    stage.body.follows = False
    time.sleep(3.5)
    stage.body._plan = None
    stage.body.mend()
    time.sleep(0.5)
    return "from its command"


def disarm(stage: Stage, trial: int) -> str:
    stage.body.call("arm", False)
    time.sleep(1.0)
    return "disarmed by ~/arm"


def ended(number: signal.Signals) -> Row:
    def row(stage: Stage, trial: int) -> str:
        stage.processes.signal("controller", number)
        stage.wait(lambda: not stage.processes.is_running("controller"), 8.0)
        time.sleep(0.3)
        return ""

    return row


ROWS: dict[str, Row] = {
    **{f"controller stopped for {s:g} s": stall(s) for s in (0.1, 0.3, 0.9, 3.0)},
    "the robot moved by 0.8 rad while the controller was stopped": moved_meanwhile,
    "policy killed": chunks_killed,
    "policy stopped for 2.4 s": chunks_stopped,
    "joint states silent": states(None, 1.0, "joint state of"),
    "joint states: +1 rad at once": states(shifted(1.0), 0.3, "said to have moved"),
    "joint states: 1e6": states(shifted(1e6), 0.3, "far outside its limits"),
    "joint states: NaN": states(not_a_number, 1.0, "joint state of"),
    "joint states: two names swapped": states(swapped, 0.5, ""),
    "joint states: a joint missing": states(missing, 1.0, "joint state of"),
    "joint states of 3000 joints": states(huge_state, 1.0, "joint state of"),
    "joint states from the future": states(future, 1.0, "joint state of"),
    "joint states 3 s old": states(old, 1.0, "joint state of"),
    "joint states in another order": states(backwards, 1.0, ""),
    **{f"chunk: {name}": wrong_chunk(make) for name, make in WRONG_CHUNKS.items()},
    "500 chunks a second": chunk_flood,
    "emergency stop among 20 chunks of 30 000 joints": flood_and_stop,
    "emergency stop by the service": estop_service,
    "emergency stop by the topic": estop_topic,
    "another publisher of the command topic": rival,
    "another policy appears": second_policy,
    "a second controller of the same name": second_controller,
    "robot blocked": blocked,
    "disarmed in motion": disarm,
    "controller ended by SIGTERM": ended(signal.SIGTERM),
    "controller ended by SIGINT": ended(signal.SIGINT),
    "controller killed": ended(signal.SIGKILL),
}
SHORT = ("controller stopped for 0.3 s", "joint states: +1 rad at once", "chunk: wild within the limits")
ENDS_MOVING = ("controller killed",)  # after which nothing can be sent any more


def trial(stage: Stage, name: str, row: Row, number: int, outcome: Outcome) -> None:
    """One injection, from a robot that follows chunks to one that does again."""
    if not stage.runs():
        outcome.wrong.append(f"trial {number}: it did not run before: {stage.status().get('text', '')[:200]}")
        return
    began = time.time()
    try:
        words = row(stage, number)
    except AssertionError as error:
        words = ""
        outcome.wrong.append(f"trial {number}: {error}")
    stage.body.mend()
    time.sleep(0.4)
    ended_at = time.time()
    outcome.trials += 1
    weigh(stage, name, began, ended_at, words, outcome, number)


def weigh(stage: Stage, name: str, began: float, ended_at: float, words: str, outcome: Outcome, number: int) -> None:
    """Judge what went over the wire between the two times."""
    lines = [line for line in stage.lines() if began - 0.3 <= line["t"] <= ended_at]
    kind = "sent" if stage.points == "trajectory" else "command"
    commands = [(line["t"], line["p"][0]) for line in lines if line["k"] == kind and line["p"] and line["p"][0]]
    measured = [(line["t"], line["p"]) for line in lines if line["k"] == "state" and line["p"]]
    if not commands:
        outcome.wrong.append(f"trial {number}: the witness saw no command")
        return
    times, positions = np.array([t for t, _ in commands]), np.array([p for _, p in commands], float)
    seen = np.array([t for t, _ in measured]), np.array([p for _, p in measured], float)
    found = judge(stage.robot, times, positions, seen if len(measured) else None)
    total = outcome.verdict
    total.messages += found.messages
    total.speed, total.acceleration = max(total.speed, found.speed), max(total.acceleration, found.acceleration)
    total.breaches += [f"trial {number}: {breach}" for breach in found.breaches]
    moving = np.flatnonzero(np.abs(np.diff(positions, axis=0)).max(axis=1) > 1e-9)
    after = [i for i in moving if times[i + 1] > began]
    still = [i for i in range(len(times) - 1) if times[i + 1] > began and i not in set(moving.tolist())]
    if words and after and still:
        first = next((times[i + 1] for i in still), None)
        outcome.rest_s.append(max(0.0, float(first - began)))
    texts = [line["text"] for line in lines if line["k"] == "status" and line["t"] > began]
    told = next((text for text in texts if words and words in text), "")
    if words and not told:
        newest = texts[-1][:160] if texts else "nothing"
        outcome.wrong.append(f"trial {number}: no word of {words!r}; the last: {newest}")
    if told:
        outcome.reasons[told.split(";")[0][:90]] += 1


def table(outcomes: dict[str, Outcome]) -> str:
    """The outcomes as Markdown."""
    head = "| fault | trials | commands | beyond limits | worst speed, acceleration (of the limit) "
    head += "| s to rest, median (worst) | reason shown | not as promised |"
    rows = [head, "|---|---|---|---|---|---|---|---|"]
    for name, outcome in outcomes.items():
        v, rest = outcome.verdict, outcome.rest_s
        stop = f"{np.median(rest):.2f} ({max(rest):.2f})" if rest else ""
        reason = max(outcome.reasons, key=lambda text: outcome.reasons[text], default="").replace("|", "/")
        rows.append(
            f"| {name} | {outcome.trials} | {v.messages} | {len(v.breaches)} | {v.speed:.2f}, {v.acceleration:.2f} "
            f"| {stop} | {reason} | {len(outcome.wrong) or ''} |"
        )
    return "\n".join(rows)


def run(rows: dict[str, Row], times: int, rate: float, points: str, transition: str) -> dict[str, Outcome]:
    """Every row `times` times; its outcomes. Prints each as it is done."""
    outcomes: dict[str, Outcome] = {}
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder), rate, points, transition)
        try:
            for name, row in rows.items():
                outcome = outcomes[name] = Outcome()
                for number in range(times):
                    trial(stage, name, row, number, outcome)
                print(table({name: outcome}).splitlines()[-1], flush=True)
                for line in (*outcome.verdict.breaches[:5], *outcome.wrong[:5]):
                    print(f"    {line}", flush=True)
        finally:
            for name in ("controller", "second"):
                if name in stage.processes.names():
                    print(f"--- {name}\n{stage.processes.tail(name, 4)}", file=sys.stderr)
            stage.close()
    return outcomes


def main() -> int:
    """Run and print; 1 when anything was beyond the limits or not as promised."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20, help="injections of every row")
    parser.add_argument("--rows", default="", help="only rows whose name holds one of these words, by comma")
    parser.add_argument("--rate", type=float, default=50.0, help="control rate, Hz")
    parser.add_argument("--points", default="one", choices=("one", "trajectory"))
    parser.add_argument("--transition", default="blend", choices=("replace", "blend", "ensemble", "rtc"))
    parser.add_argument("--out", type=Path, help="write the table here")
    args = parser.parse_args()
    os.environ.update(ros_environment(localhost=True))
    os.environ.update(without_shared_memory(os.environ))  # rows suspend processes
    os.environ.setdefault("ROS_DOMAIN_ID", "99")
    words = [word for word in args.rows.split(",") if word]
    rows = {name: row for name, row in ROWS.items() if not words or any(word in name for word in words)}
    outcomes = run(rows, args.times, args.rate, args.points, args.transition)
    text = f"{args.rate:g} Hz, `points: {args.points}`, `transition: {args.transition}`\n\n{table(outcomes)}\n"
    if args.out:
        args.out.write_text(text, encoding="utf-8")
    bad = sum(len(outcome.verdict.breaches) + len(outcome.wrong) for outcome in outcomes.values())
    print(f"{sum(o.trials for o in outcomes.values())} injections, {bad} not as promised")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
