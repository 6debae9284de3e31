"""However a running robot's software ends, its last command is at rest and nothing lives on: see docs/safety.md.

Over real processes: `pi0 up`, and ROS's own launch where that is importable. This process is the robot and the policy:
it sends joint states and chunks of a swinging motion, and hears every command. `PI0_ENDINGS=5` tries each ending so
many times.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from conftest import wait_until

rclpy = pytest.importorskip("rclpy")
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from trajectory_msgs.msg import JointTrajectory  # noqa: E402

from pi0_ros.control.chunk import ActionChunk  # noqa: E402
from pi0_ros.nodes.messages import LATEST, chunk_to_message, seconds_to_stamp  # noqa: E402
from pi0_ros.robot import load_robot  # noqa: E402

pytestmark = [pytest.mark.dds, pytest.mark.skipif(sys.platform != "linux", reason="stops processes by signals")]
ROOT = Path(__file__).resolve().parents[2]
ROBOT = load_robot("demo_arm")
TIMES = int(os.environ.get("PI0_ENDINGS", "1"))
MIDDLE = (ROBOT.lower + ROBOT.upper) / 2
WORDS = ["robot:=demo_arm", "backend:=zmq", "server:=tcp://127.0.0.1:9", "monitor:=false"]
NODES = ("controller", "policy")

ROS_LAUNCH = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

file, *words = sys.argv[1:]
service = LaunchService(argv=words)
arguments = [word.split(":=", 1) for word in words]
service.include_launch_description(LaunchDescription([
    IncludeLaunchDescription(PythonLaunchDescriptionSource(file), launch_arguments=arguments)]))
sys.exit(service.run())
"""


class Body(Node):
    """The robot, which goes where it is sent, and the policy that swings it."""

    def __init__(self, context: rclpy.Context) -> None:
        super().__init__("body", context=context)
        self.commands: list[JointTrajectory] = []  # on the robot's own topic
        self._position = dict(zip(ROBOT.joint_names, MIDDLE))
        self._states = self.create_publisher(JointState, ROBOT.state[0].topic, 10)
        self._chunks = self.create_publisher(JointTrajectory, "pi0/chunk", LATEST)
        self.create_subscription(JointTrajectory, ROBOT.commands[0].topic, self._on_command, 200)
        self.create_timer(0.02, self._feel)
        self.create_timer(0.2, self._plan)

    def moving(self) -> bool:
        return len(self.commands) > 25 and any(np.abs(m.points[0].velocities).max() > 0.05 for m in self.commands[-3:])

    def last_velocity(self) -> float:
        return float(np.abs(self.commands[-1].points[0].velocities).max())

    def _feel(self) -> None:
        state = JointState(name=list(self._position), position=list(self._position.values()))
        state.header.stamp = seconds_to_stamp(time.time())
        self._states.publish(state)

    def _plan(self) -> None:
        stamp = time.time() - 0.05
        actions = np.tile(MIDDLE, (40, 1))
        actions[:, 0] += 0.5 * np.sin(2.0 * (stamp + 0.05 * np.arange(40)))
        self._chunks.publish(chunk_to_message(ActionChunk(stamp, 0.05, actions, ROBOT.joint_names)))

    def _on_command(self, message: JointTrajectory) -> None:
        self.commands.append(message)
        self._position |= dict(zip(message.joint_names, message.points[0].positions))


@pytest.fixture
def body(ros_context: rclpy.Context) -> Iterator[Body]:
    node, executor = Body(ros_context), SingleThreadedExecutor(context=ros_context)
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    yield node
    executor.shutdown()
    thread.join(5.0)
    node.destroy_node()


def children(pid: int) -> dict[int, str]:
    """Living processes below `pid` and their command lines, all generations."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if fields[0] != "Z":
                parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, waiting = {}, list(parents.get(pid, []))
    while waiting:
        child = waiting.pop()
        with contextlib.suppress(OSError):
            found[child] = Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ")
        waiting += parents.get(child, [])
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@dataclass
class Launched:
    """A launcher in a terminal of its own, as a person has it."""

    process: subprocess.Popen[bytes]
    master: int
    printed: bytearray = field(default_factory=bytearray)
    nodes: dict[int, str] = field(default_factory=dict)

    def read(self) -> None:
        with contextlib.suppress(OSError):
            while data := os.read(self.master, 65536):
                self.printed += data

    def node(self, name: str) -> int:
        return next(pid for pid, line in self.nodes.items() if f"nodes.start {name}" in line)

    def close_terminal(self) -> None:
        os.close(self.master)


def launch(kind: str, folder: Path, words: list[str], file: str = "policy") -> Launched:
    environment = dict(os.environ)
    if kind == "pi0 up":
        argv = [sys.executable, "-m", "pi0_ros.cli", "up", file, *words]
    else:
        scripts = folder / "prefix" / "lib" / "pi0_ros"
        index = folder / "prefix" / "share" / "ament_index" / "resource_index" / "packages"
        scripts.mkdir(parents=True)
        index.mkdir(parents=True)
        (index / "pi0_ros").touch()
        for name in ("controller", "policy", "sim", "recorder", "monitor", "viewer"):
            script = scripts / f"{name}_node"
            script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pi0_ros.nodes.start {name} "$@"\n')
            script.chmod(0o755)
        environment["AMENT_PREFIX_PATH"] = f"{folder / 'prefix'}:{environment.get('AMENT_PREFIX_PATH', '')}"
        argv = [sys.executable, "-c", ROS_LAUNCH, str(ROOT / "launch" / f"{file}.launch.py"), *words]
    master, slave = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", "--", *argv], stdin=slave, stdout=slave, stderr=slave, env=environment, cwd=folder
    )
    os.close(slave)
    launched = Launched(process, master)
    threading.Thread(target=launched.read, daemon=True).start()
    return launched


Ending = Callable[[Launched], None]


def to_launcher(*numbers: signal.Signals) -> Ending:
    def end(launched: Launched) -> None:
        for number in numbers:
            with contextlib.suppress(ProcessLookupError):
                launched.process.send_signal(number)
            time.sleep(0.3)

    return end


def to_group(number: signal.Signals) -> Ending:
    return lambda launched: os.killpg(launched.process.pid, number)


def to_node(name: str, number: signal.Signals) -> Ending:
    return lambda launched: os.kill(launched.node(name), number)


S = signal
ENDINGS: dict[str, Ending] = {
    "Ctrl-C": lambda launched: os.write(launched.master, b"\x03") and None,
    "Ctrl-C thrice": lambda launched: (
        [(os.write(launched.master, b"\x03"), time.sleep(0.3)) for _ in range(3)] and None
    ),
    "SIGINT to the launcher": to_launcher(S.SIGINT),
    "SIGTERM to the launcher": to_launcher(S.SIGTERM),
    "SIGTERM thrice to the launcher": to_launcher(S.SIGTERM, S.SIGTERM, S.SIGTERM),
    "SIGHUP to the launcher": to_launcher(S.SIGHUP),
    "SIGQUIT to the launcher": to_launcher(S.SIGQUIT),
    "SIGKILL to the launcher": to_launcher(S.SIGKILL),
    "SIGTERM to the group": to_group(S.SIGTERM),
    "SIGHUP to the group": to_group(S.SIGHUP),
    "SIGQUIT to the group": to_group(S.SIGQUIT),
    "closed terminal": lambda launched: launched.close_terminal(),
    "SIGINT to the controller": to_node("controller", S.SIGINT),
    "SIGTERM to the controller": to_node("controller", S.SIGTERM),
    "SIGHUP to the controller": to_node("controller", S.SIGHUP),
    "SIGQUIT to the controller": to_node("controller", S.SIGQUIT),
}
SHORT = ("Ctrl-C thrice", "SIGTERM to the launcher", "SIGKILL to the launcher", "SIGHUP to the controller")
LAUNCHERS = ["pi0 up", "ros2 launch"]


def needs(kind: str) -> None:
    if kind == "ros2 launch" and importlib.util.find_spec("launch_ros") is None:
        pytest.skip("launch_ros is not importable")


def running_robot(kind: str, folder: Path, body: Body) -> Launched:
    launched = launch(kind, folder, [*WORDS, "auto_arm:=true"])
    told = lambda: launched.printed.decode(errors="replace")[-3000:]  # noqa: E731
    wait_until(lambda: body.moving() or launched.process.poll() is not None, 60.0, told)
    assert launched.process.poll() is None, told()
    launched.nodes = children(launched.process.pid)
    assert all(any(f"nodes.start {name}" in line for line in launched.nodes.values()) for name in NODES), launched.nodes
    wait_until(body.moving, 20.0)
    return launched


def nothing_lives_on(launched: Launched) -> None:
    pids = [launched.process.pid, *launched.nodes]
    wait_until(
        lambda: launched.process.poll() is not None and not any(map(alive, pids)),
        25.0,
        lambda: f"{ {pid: launched.nodes.get(pid, 'launcher') for pid in pids if alive(pid)} } live on",
    )


def _marked(name: str) -> object:
    return name if name in SHORT else pytest.param(name, marks=pytest.mark.slow)


@pytest.mark.parametrize("attempt", range(TIMES))
@pytest.mark.parametrize("kind", LAUNCHERS)
@pytest.mark.parametrize("ending", [_marked(name) for name in ENDINGS])
def test_the_last_command_is_at_rest(ending: str, kind: str, attempt: int, body: Body, tmp_path: Path) -> None:
    needs(kind)
    launched = running_robot(kind, tmp_path, body)
    try:
        ENDINGS[ending](launched)
        nothing_lives_on(launched)
        time.sleep(0.3)  # what is under way arrives
        assert body.last_velocity() == 0.0
        if "to the controller" in ending:
            assert launched.process.returncode == 1
        elif ending.startswith(("Ctrl-C", "SIGINT")):
            late = kind == "ros2 launch" and "thrice" in ending  # the third may come when launch no longer listens
            assert launched.process.returncode in ((0, -signal.SIGINT) if late else (0,))
    finally:
        _clear(launched)


@pytest.mark.parametrize("attempt", range(TIMES))
@pytest.mark.parametrize("kind", LAUNCHERS)
def test_a_killed_controller_ends_everything_with_status_1(kind: str, attempt: int, body: Body, tmp_path: Path) -> None:
    """As the kernel does when memory runs out. Nobody can brake any more: the robot's own watchdog must."""
    needs(kind)
    launched = running_robot(kind, tmp_path, body)
    try:
        os.kill(launched.node("controller"), signal.SIGKILL)
        nothing_lives_on(launched)
        assert launched.process.returncode == 1
    finally:
        _clear(launched)


@pytest.mark.parametrize("attempt", range(TIMES))
@pytest.mark.parametrize("kind", LAUNCHERS)
def test_a_killed_policy_leaves_a_controller_that_holds(kind: str, attempt: int, body: Body, tmp_path: Path) -> None:
    needs(kind)
    launched = running_robot(kind, tmp_path, body)
    try:
        os.kill(launched.node("policy"), signal.SIGKILL)
        time.sleep(1.0)
        assert alive(launched.node("controller")) and launched.process.poll() is None
        launched.process.send_signal(signal.SIGINT)
        nothing_lives_on(launched)
        time.sleep(0.3)
        assert body.last_velocity() == 0.0
        assert launched.process.returncode == 0
    finally:
        _clear(launched)


@pytest.mark.parametrize("kind", LAUNCHERS)
@pytest.mark.parametrize(
    ("file", "words", "message"),
    [
        ("policy", ["robot:=demoarm", "backend:=zmq"], "no robot is called 'demoarm'"),
        ("policy", ["robot:=demo_arm", "checkpoint:=/nowhere"], "there is no such checkpoint"),
        ("policy", ["robot:=demo_arm"], "no checkpoint is given"),
        ("policy", ["robot:=demo_arm", "backend:=zmq", "transition:=soft"], "transition:=soft: this argument takes"),
        ("policy", ["robot:=demo_arm", "backend:=zmq", "seam:=blend"], "is called 'transition' now"),
        ("policy", ["robot:=demo_arm", "backend:=zmq", "log_level:=loud"], "log_level:=loud: this argument takes"),
        ("policy", ["robot:=demo_arm", "backend:=zmq", "chekpoint:=x"], "did you mean 'checkpoint'"),
        ("policy", ["robot:=demo_arm", "backend:=zmq", "params_file:=/nowhere.yaml"], "no such parameter file"),
        ("policy", ["robot:=demo_arm", "backend:=zmq", "namespace:=a-b"], "namespace:=a-b: write letters"),
        ("demo", ["robot:=ur5e"], "robot:=ur5e: this argument takes one of demo_arm"),
        ("demo", ["seed:=-1"], "seed:=-1: this argument takes a whole number from 0"),
    ],
)
def test_what_cannot_start_starts_nothing(
    kind: str, file: str, words: list[str], message: str, ros_domain: int, tmp_path: Path
) -> None:
    needs(kind)
    if file == "demo":
        pytest.importorskip("mujoco")
    launched = launch(kind, tmp_path, [*words, "view:=false"], file)
    try:
        wait_until(lambda: launched.process.poll() is not None, 60.0)
        time.sleep(0.2)
        printed = launched.printed.decode(errors="replace")
        assert launched.process.returncode == (2 if kind == "pi0 up" else 1), printed
        assert printed.count(message) == 1, printed
        assert "started" not in printed and "Traceback" not in printed, printed
    finally:
        _clear(launched)


def _clear(launched: Launched) -> None:
    """Whatever a failed test left."""
    for pid in (launched.process.pid, *launched.nodes):
        if alive(pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    launched.process.wait(10.0)
    with contextlib.suppress(OSError):
        os.close(launched.master)
