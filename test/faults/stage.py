"""The processes of the fault suite, the robot among them, and what its rows may do with them.

Six kinds of stage, each with a real controller and the witness:

    bare    a source of chunks; the robot is this process
    chain   the real policy node, asking a real server through `liar.py`; the robot has a camera
    pair    the same policy node, with two servers in order of preference
    clock   simulated time: this process publishes `/clock`, joint states and chunks by it
    sim     the simulator is the robot
    mobile  as bare; beside its arm the robot has a base, told speeds, and a hand, told poses (`parts.py`)

All speak through sockets: a process stopped by a signal would leave the others blocked in shared memory.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from parts import PARTS_YAML, Parts
from parts import TOPICS as PART_TOPICS
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Bool
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint
from watcher import KINDS, records

from pi0_ros.control.chunk import ActionChunk
from pi0_ros.launching.launches import ros_arguments
from pi0_ros.launching.processes import ProcessGroup
from pi0_ros.nodes.messages import LATCHED, LATEST, chunk_to_message, seconds_to_stamp
from pi0_ros.robot import Robot, load_robot, robot_from_yaml, robot_to_yaml

HERE = Path(__file__).resolve().parent
STATE_HZ, CAMERA_HZ, CLOCK_HZ, CHUNK_HZ, PERSON_HZ = 50.0, 20.0, 100.0, 5.0, 50.0
SIZE = 64  # px of a picture
MOST_LOST = 1000  # messages at once; a number further on is of another sender
KINDS_OF_STAGE = ("bare", "chain", "pair", "clock", "sim", "mobile")
ROBOT_YAML = """
name: fault_arm
control_rate_hz: {rate}
policy_rate_hz: 5
dataset_fps: 20
prompt: swing
joints:
  - {{name: yaw, unit: rad, kind: revolute, action: absolute,
      limits: {{position: [-2, 2], velocity: 2.0, acceleration: 16.0}}}}
  - {{name: elbow, unit: rad, kind: revolute, action: absolute,
      limits: {{position: [-1, 1], velocity: 1.5, acceleration: 12.0}}}}
  - {{name: gripper, unit: normalized, kind: gripper, action: absolute,
      limits: {{position: [0, 1], velocity: 5.0, acceleration: 50.0}}}}{parts[joints]}
cameras:
  - {{name: base, topic: /arm/image, type: sensor_msgs/msg/Image, slot: base_0_rgb, max_age_s: 0.6, frozen_s: 0.8}}
state:
  - {{topic: /arm/joint_states, type: sensor_msgs/msg/JointState, max_age_s: 0.25{own}}}{parts[state]}
commands:
  - {{name: arm, topic: /arm/command, points: {points}, type: trajectory_msgs/msg/JointTrajectory{own}}}
{parts[commands]}
action: {{source: command, max_age_s: 0.25}}
{takeover}
"""
TAKEOVER = "takeover: {topics: [{topic: /arm/teleop, type: trajectory_msgs/msg/JointTrajectory}]}"
NO_PARTS = {"joints": "", "state": "", "commands": ""}


class SimulatedClock:
    """The time of a simulator: goes on at `speed`, and is published as the rows want."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._steady, self._shown, self.moved = time.monotonic(), 100.0, 0.0
        self.speed = 1.0
        self.passed: list[tuple[float, float]] = [(self._steady, 0.0)]  # steady s, s that the simulated robot lived

    def now(self) -> float:
        """Simulated time, s."""
        with self._lock:
            steady = time.monotonic()
            step = (steady - self._steady) * self.speed
            self._steady, self._shown, self.moved = steady, self._shown + step, self.moved + step
            self.passed.append((steady, self.moved))
            return self._shown

    def jump(self, by_s: float) -> None:
        """Go on `by_s` later, or earlier, as a simulator that was reset does."""
        self.now()
        with self._lock:
            self._shown += by_s

    def lived(self, steady: np.ndarray) -> np.ndarray:
        """What of the robot's own time had passed at these times [n] of the steady clock, s."""
        with self._lock:
            known = np.array(self.passed)
        return np.interp(steady, known[:, 0], known[:, 1])


class Body(Node):
    """The robot: sends joint states and pictures, goes where it is told, and is what the rows make of it."""

    def __init__(self, robot: Robot, context: rclpy.Context, kind: str) -> None:
        super().__init__("body", context=context)
        self.robot, self.names = robot, robot.joint_names[:3] if kind == "mobile" else robot.joint_names
        self.position = np.array([0.1, 0.1, 0.0])
        self.clock_of_simulation = SimulatedClock() if kind == "clock" else None
        self._plan: tuple[float, np.ndarray, np.ndarray] | None = None  # begun (monotonic), times, positions
        self._random, self._picture = np.random.default_rng(0), b""
        self.parts: Parts | None = None
        self.mend()
        self.parts = Parts(self) if kind == "mobile" else None
        self.chunks = None if kind == "sim" else self.create_publisher(JointTrajectory, "pi0/chunk", LATEST)
        self.button = self.create_publisher(Bool, "pi0/estop", LATCHED)
        self.asked = {name: self.create_client(Trigger, f"/controller/{name}") for name in ("estop", "reset")}
        self.asked |= {name: self.create_client(SetBool, f"/controller/{name}") for name in ("arm", "takeover")}
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []
        if kind == "sim":
            return
        self.states = self.create_publisher(JointState, robot.state[0].topic, 10)
        self.create_subscription(JointTrajectory, robot.commands[0].topic, self._on_command, LATEST)
        self._every(1.0 / STATE_HZ, self._feel)
        self._teleop = self.create_publisher(JointTrajectory, "/arm/teleop", 10)
        self._every(1.0 / PERSON_HZ, self._lead)
        if kind in ("chain", "pair"):
            self.images = self.create_publisher(Image, robot.cameras[0].topic, 2)
            self._every(1.0 / CAMERA_HZ, self._look)
        if self.clock_of_simulation is not None:
            self.clocks = self.create_publisher(Clock, "/clock", QoSProfile(depth=10))
            self._every(1.0 / CLOCK_HZ, self._tell_time)
            self._every(1.0 / CHUNK_HZ, self._swing)

    def close(self) -> None:
        """End its threads."""
        self._closing.set()
        for thread in self._threads:
            thread.join(5.0)

    def _every(self, period: float, act: Callable[[], None]) -> None:
        """A thread of its own: rclpy's timers burst after a pause, and a robot does not."""

        def run() -> None:
            while not self._closing.wait(period):
                act()

        self._threads.append(threading.Thread(target=run, daemon=True))
        self._threads[-1].start()

    def now(self) -> float:
        """The robot's clock, s."""
        return time.time() if self.clock_of_simulation is None else self.clock_of_simulation.now()

    def mend(self) -> None:
        """The robot's own faults are over."""
        self.follows, self.speaks, self.looks, self.frozen, self.tells = True, True, True, False, True
        if self.parts is not None:
            self.parts.mend()
        self.person: Callable[[], np.ndarray] | None = None  # where a person who could lead is, [J]
        self.lie: Callable[[JointState], JointState] = lambda state: state
        self.lie_of_camera: Callable[[Image], Image] = lambda image: image
        self.lie_of_clock: Callable[[float], list[Clock]] = lambda now: [clock_message(now)]
        if self.clock_of_simulation is not None:
            self.clock_of_simulation.speed = 1.0

    def call(self, name: str, data: bool = True) -> bool:
        """Call one of the controller's services; False for a refusal and for no answer within 3 s."""
        client = self.asked[name]
        if not client.wait_for_service(timeout_sec=3.0):
            return False
        answer = client.call_async(SetBool.Request(data=data) if name in ("arm", "takeover") else Trigger.Request())
        end = time.monotonic() + 3.0
        while not answer.done() and time.monotonic() < end:
            time.sleep(0.005)
        return bool(answer.done() and answer.result().success)

    def chunk(self, actions: np.ndarray, age_s: float = 0.05) -> JointTrajectory:
        """A chunk [H, J] at 20 Hz of an observation so old; of an arm's joints alone: the others as they are."""
        if self.parts is not None and actions.shape[1] == len(self.names):
            actions = np.hstack([actions, np.tile(self.parts.numbers(self.robot), (len(actions), 1))])
        names = self.robot.joint_names
        return chunk_to_message(ActionChunk(round((self.now() - age_s) * 1e9), 50_000_000, actions, names))

    def _lead(self) -> None:
        if self.person is not None:
            point = JointTrajectoryPoint(positions=self.person().tolist())
            self._teleop.publish(JointTrajectory(joint_names=list(self.names), points=[point]))

    def _swing(self) -> None:
        if self.chunks is not None and self.tells:
            swing = 0.6 * np.sin(2.0 * (self.now() - 0.1 + 0.05 * np.arange(32)))
            self.chunks.publish(self.chunk(np.stack([swing, 0.5 * swing, swing > 0], axis=1), 0.1))

    def _tell_time(self) -> None:
        now = self.now()
        for message in self.lie_of_clock(now) if self.tells else ():
            self.clocks.publish(message)

    def _look(self) -> None:
        if not self.frozen or not self._picture:
            self._picture = self._random.integers(0, 256, SIZE * SIZE * 3, np.uint8).tobytes()
        if self.looks:
            image = Image(height=SIZE, width=SIZE, step=3 * SIZE, encoding="rgb8")
            image.header.stamp = seconds_to_stamp(self.now())
            image.data.frombytes(self._picture)
            self.images.publish(self.lie_of_camera(image))

    def _on_command(self, message: JointTrajectory) -> None:
        found = [dict(zip(message.joint_names, point.positions)) for point in message.points]
        path = np.array([[point[name] for name in self.names] for point in found])
        ends = [p.time_from_start.sec + p.time_from_start.nanosec * 1e-9 for p in message.points]
        self._plan = time.monotonic(), np.array([0.0, *ends]), np.vstack([self.position, path])

    def stay(self) -> None:
        """Forget what it was told."""
        self._plan = None

    def _feel(self) -> None:
        plan = self._plan
        if plan is not None and self.follows:
            began, ends, path = plan
            passed = time.monotonic() - began
            goal = np.array([np.interp(passed, ends, column) for column in path.T])
            most = 2.0 * self.robot.velocity[: len(goal)] / STATE_HZ  # no motor is faster, whatever it is told
            self.position = self.position + np.clip(goal - self.position, -most, most)
        if self.speaks:
            state = JointState(name=list(self.names), position=self.position.tolist())
            state.header.stamp = seconds_to_stamp(self.now())
            self.states.publish(self.lie(state))
        if self.parts is not None:
            self.parts.feel()


def clock_message(seconds: float) -> Clock:
    """`/clock` at this time."""
    return Clock(clock=seconds_to_stamp(seconds))


@dataclass
class Wire:
    """What the witness wrote, read as it grows."""

    path: Path
    kept: list[tuple[str, float, int, bytes]] = field(default_factory=list)  # kind, steady s, lost before it, message
    texts: list[tuple[float, str, str, str]] = field(default_factory=list)  # steady s, node, state, text
    newest: dict[str, float] = field(default_factory=dict)  # kind -> steady s of its newest message
    perhaps_late: int = 0  # commands that may have left late, as the controllers themselves say
    _late: int = 0  # of them, of the present controller
    _last_hold: str = ""
    _read: int = 0
    _numbers: dict[str, int] = field(default_factory=dict)  # kind -> of its newest message

    def pump(self) -> None:
        """Read what is new."""
        with self.path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        begins = 0
        for kind, at, number, message, end in records(data):
            begins = end
            lost = number - self._numbers.get(kind, number) - 1 if number else 0
            self._numbers[kind], self.newest[kind] = number, at
            if kind == "status":
                for status in deserialize_message(message, DiagnosticArray).status:
                    values = {pair.key: pair.value for pair in status.values}
                    node = status.name.rpartition(": ")[2]
                    text = status.message
                    if node == "controller" and values.get("last_hold") not in (None, "", self._last_hold):
                        self._last_hold = values["last_hold"]  # one that was over before a status could show it, too
                        text = f"{text}; last hold: {self._last_hold}"
                    self.texts.append((at, node, values.get("state", ""), text))
                    if node == "controller" and "perhaps_late" in values:
                        late = int(values["perhaps_late"])
                        self.perhaps_late += late - self._late if late >= self._late else late
                        self._late = late
            else:
                self.kept.append((kind, at, lost if 0 < lost < MOST_LOST else 0, message))
        self._read += begins

    def take(self, until: float) -> list[tuple[str, float, int, object]]:
        """Everything up to this steady time that was not taken before, deserialised: as `kept`."""
        self.pump()
        taken = [(k, at, lost, deserialize_message(data, KINDS[k])) for k, at, lost, data in self.kept if at <= until]
        self.kept = [item for item in self.kept if item[1] > until]
        return taken


class Stage:
    """The processes, and what rows may do with them."""

    def __init__(
        self, folder: Path, kind: str, rate: float, points: str, transition: str, plant: str = "", priority: int = 0
    ) -> None:
        self.folder, self.kind, self.points, self.transition = folder, kind, points, transition
        self.plant, self.priority = plant, priority
        if kind == "sim":
            self.robot = load_robot("demo_arm")
        else:
            whole = {"parts": NO_PARTS, "own": "", "takeover": TAKEOVER}
            if kind == "mobile":
                whole = {"parts": PARTS_YAML, "own": ", joints: [yaw, elbow, gripper]", "takeover": ""}
            self.robot = robot_from_yaml(ROBOT_YAML.format(rate=rate, points=points, **whole), "fault_arm.yaml")
        self.file = folder / "robot.yaml"
        self.file.write_text(robot_to_yaml(self.robot), encoding="utf-8")
        os.environ["ROS_LOG_DIR"] = str(folder / "ros_log")
        self.processes = ProcessGroup(log_dir=folder / "processes")
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=int(os.environ["ROS_DOMAIN_ID"]))
        self.body = Body(self.robot, self.context, kind)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.body)
        self._spinner = threading.Thread(target=self._executor.spin, daemon=True)
        self._spinner.start()
        self.wire = Wire(folder / "wire.bin")
        self.wire.path.touch()
        self.lie_file = folder / "lie.txt"
        self.lie("")
        topics = {
            "command": self.robot.commands[0].topic,
            "sent": "pi0/command",
            "state": self.robot.state[0].topic,
            "status": "/diagnostics",
        }
        topics |= PART_TOPICS if kind == "mobile" else {}
        self.python("watcher", HERE / "watcher.py", self.wire.path, *(f"{k}={topic}" for k, topic in topics.items()))
        self.done: set[str] = set()  # what an operator had to do since this was last emptied
        self.began = time.monotonic()  # of the trial
        self.started_at = -math.inf  # when a process of this stage was last started
        self.told_s = 2.0 if plant else 20.0  # what must be said is waited for so long: machines are busy

    # --- processes

    def close(self) -> None:
        """End everything."""
        for name in self.processes.names():
            if self.processes.is_running(name):
                self.processes.signal(name, signal.SIGCONT)
        self.processes.stop()
        self.body.close()
        self._executor.shutdown()
        self._spinner.join(5.0)
        self.body.destroy_node()
        rclpy.try_shutdown(context=self.context)

    def python(self, name: str, script: Path, *arguments: object) -> None:
        """Start a script of the tests."""
        self.processes.start(name, [sys.executable, str(script), *map(str, arguments)])

    def node(self, name: str, module: str, **parameters: object) -> None:
        """Start a node of the package."""
        self.processes.start(name, [sys.executable, "-m", f"pi0_ros.nodes.{module}_node", *ros_arguments(parameters)])

    def start_controller(self, name: str = "controller") -> None:
        """Start a controller process."""
        simulated = {"use_sim_time": True} if self.kind == "clock" else {}
        realtime = {"realtime.priority": self.priority} if self.priority else {}
        settings = {"robot": str(self.file), "transition": self.transition, **simulated, **realtime}
        if self.plant:
            self.python(name, HERE / "planted.py", self.plant, *ros_arguments(settings))
        else:
            self.node(name, "controller", **settings)

    def start_chunks(self) -> None:
        """Start what makes chunks."""
        if self.kind in ("chain", "pair"):
            names = ("liar",) if self.kind == "chain" else ("server", "spare")
            server = ",".join(f"ipc://{self.folder}/{name}" for name in names)
            self.node("chunks", "policy", robot=str(self.file), backend="zmq", server=server, timeout_s=0.5)
        elif self.kind == "mobile":
            self.python("chunks", HERE / "mobile_source.py", self.file)
        elif self.kind != "clock":
            middle = (self.robot.lower + self.robot.upper) / 2 if self.kind == "sim" else np.zeros(3)
            amplitude = 0.3 if self.kind == "sim" else 0.6
            script = HERE.parent / "helpers" / "chunk_source.py"
            self.python("chunks", script, ",".join(self.robot.joint_names), amplitude, ",".join(map(str, middle)))

    def start_missing(self) -> None:
        """Start every process of this stage that does not run."""
        starts: dict[str, Callable[[], None]] = {"controller": self.start_controller}
        if self.kind == "chain":
            server, liar = f"ipc://{self.folder}/server", f"ipc://{self.folder}/liar"
            starts["server"] = lambda: self.python("server", HERE / "swinging.py", server, self.file)
            starts["liar"] = lambda: self.python("liar", HERE / "liar.py", liar, server, self.lie_file)
        if self.kind == "pair":
            for name in ("server", "spare"):
                starts[name] = partial(
                    self.python, name, HERE / "swinging.py", f"ipc://{self.folder}/{name}", self.file
                )
        if self.kind == "sim":
            starts["sim"] = lambda: self.node("sim", "sim")
        if self.kind != "clock":
            starts["chunks"] = self.start_chunks
        for name, start in starts.items():
            if not self.processes.is_running(name):
                if name in self.processes.names():
                    self.done.add(f"start the {'policy' if name == 'chunks' else name}")
                self.wire.pump()  # what one that ended has said holds no longer
                self.wire.texts = [text for text in self.wire.texts if text[1] != name]
                self.started_at = time.monotonic()
                start()

    def lie(self, name: str) -> None:
        """Make the server lie from now on; "" ends it."""
        self.lie_file.write_text(name, encoding="utf-8")

    def child(self, code: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Another participant: `code` run by Python."""
        return subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.DEVNULL)

    # --- what is known

    def state(self) -> str:
        """The controller's state, by its newest status."""
        self.wire.pump()
        return next((state for _, node, state, _ in reversed(self.wire.texts) if node == "controller"), "")

    def text(self, node: str = "controller") -> str:
        """A node's newest status in words."""
        self.wire.pump()
        return next((text for _, name, _, text in reversed(self.wire.texts) if name == node), "nothing")

    def wait(self, condition: Callable[[], object], timeout_s: float) -> bool:
        """Whether `condition` became true in time."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if condition():
                return True
            time.sleep(0.03)
        return False

    def at_speed(self) -> None:
        """Wait until the robot's first joint goes at a third of its velocity limit or more, where a fault shows."""

        def fast() -> bool:
            before = self.body.position[0], time.monotonic()
            time.sleep(0.05)
            speed = abs(self.body.position[0] - before[0]) / (time.monotonic() - before[1])
            return bool(speed > self.robot.velocity[0] / 3.0)

        self.wait(fast, self.told_s)
        self.began = time.monotonic()

    def told(self, word: str) -> bool:
        """Wait until a status since the trial began held this word; False when none came."""

        def found() -> bool:
            self.wire.pump()
            return any(word in text for at, _, _, text in self.wire.texts if at > self.began)

        return self.wait(found, self.told_s)

    def witnessed(self) -> bool:
        """Whether the witness hears the robot as it now is: without that nobody could judge where a motion begins."""
        return self.kind != "sim" or self.wire.newest.get("state", -math.inf) > self.started_at

    def runs(self, timeout_s: float = 90.0) -> bool:
        """Bring the robot to follow chunks again, as an operator would."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            self.start_missing()
            state = self.state()
            if state == "RUNNING" and self.wait(lambda: self.state() != "RUNNING", 0.6) is False:
                return True
            if state == "STOPPED":
                self.body.button.publish(Bool(data=False))
                time.sleep(0.1)
                if self.body.call("reset"):
                    self.done.add("reset")
            if state == "DISARMED" and self.witnessed() and self.body.call("arm"):
                self.done.add("arm")
            time.sleep(0.2)
        return False
