"""A robot launched as people do it: a body on topics, a launcher in its own terminal, and who lives below it."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import rclpy
from chunks import chunk_of
from following import Follower
from rclpy.node import Node
from rclpy.task import Future
from sensor_msgs.msg import Image, JointState
from std_srvs.srv import SetBool
from trajectory_msgs.msg import JointTrajectory

from pi0_ros.nodes.messages import LATEST, chunk_to_message, seconds_to_stamp
from pi0_ros.robot import load_robot

ROOT = Path(__file__).resolve().parents[2]
ROBOT = load_robot("demo_arm")
MIDDLE = (ROBOT.lower + ROBOT.upper) / 2

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

    def __init__(self, context: rclpy.Context, namespace: str = "", cameras: bool = False) -> None:
        super().__init__("body", context=context, namespace=namespace)
        place = (lambda topic: topic.removeprefix("/")) if namespace else (lambda topic: topic)
        self.commands: list[JointTrajectory] = []  # on the robot's own topic
        self._joints = Follower(ROBOT.joint_names, MIDDLE, ROBOT.velocity, longest_s=0.02)
        self._states = self.create_publisher(JointState, place(ROBOT.state[0].topic), 10)
        self._chunks = self.create_publisher(JointTrajectory, "pi0/chunk", LATEST)
        self.create_subscription(JointTrajectory, place(ROBOT.commands[0].topic), self._on_command, 200)
        self._arm, self._asked = self.create_client(SetBool, "controller/arm"), Future()
        self._asked.set_result(None)
        self.create_timer(0.02, self._feel)
        self.create_timer(0.2, self._plan)
        self._cameras = [self.create_publisher(Image, place(camera.topic), 2) for camera in ROBOT.cameras]
        if cameras:
            self.create_timer(0.1, self._look)

    def moving(self) -> bool:
        return len(self.commands) > 25 and any(np.abs(m.points[0].velocities).max() > 0.05 for m in self.commands[-3:])

    def drives(self) -> bool:
        """Whether it moves with everyone there who sends chunks: this body, and the policy node that was launched.

        A controller that armed itself before the policy node came has disarmed since, or will: it is asked again.
        """
        if self.count_publishers("pi0/chunk") < 2:
            return False
        if self._asked.done() and self._arm.service_is_ready():
            self._asked = self._arm.call_async(SetBool.Request(data=True))
        return self.moving()

    def last_velocity(self) -> float:
        return float(np.abs(self.commands[-1].points[0].velocities).max())

    def _feel(self) -> None:
        position = self._joints.move()
        state = JointState(name=list(position), position=list(position.values()))
        state.header.stamp = seconds_to_stamp(time.time())
        self._states.publish(state)

    def _look(self) -> None:
        for publisher in self._cameras:
            image = Image(height=8, width=8, step=24, encoding="rgb8", data=os.urandom(192))
            image.header.stamp = seconds_to_stamp(time.time())
            publisher.publish(image)

    def _plan(self) -> None:
        stamp = time.time() - 0.05
        actions = np.tile(MIDDLE, (40, 1))
        actions[:, 0] += 0.5 * np.sin(2.0 * (stamp + 0.05 * np.arange(40)))
        self._chunks.publish(chunk_to_message(chunk_of(stamp, 0.05, actions, ROBOT.joint_names)))

    def _on_command(self, message: JointTrajectory) -> None:
        self.commands.append(message)
        self._joints.send(message.joint_names, message.points[0].positions)


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
    person = ["env", "--default-signal=INT,QUIT,HUP"]  # background jobs of a shell begin with SIGINT ignored
    process = subprocess.Popen(
        [*person, "setsid", "--ctty", "--", *argv], stdin=slave, stdout=slave, stderr=slave, env=environment, cwd=folder
    )
    os.close(slave)
    launched = Launched(process, master)
    threading.Thread(target=launched.read, daemon=True).start()
    return launched


def clear(launched: Launched) -> None:
    """Kill whatever a failed test left."""
    for pid in (launched.process.pid, *launched.nodes):
        if alive(pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    launched.process.wait(10.0)
    with contextlib.suppress(OSError):
        os.close(launched.master)
