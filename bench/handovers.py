"""A person takes over from the demo's policy and hands back, at random moments, over real processes: is it smooth, and
does the recording say of every frame who led?

    python bench/handovers.py --takeovers 50 --out runs/handovers

Simulator, policy, controller and recorder are processes of their own, as in `pi0 demo`; the person is a leader arm
that is somewhere else and moves. Every command on `pi0/command` is judged by the robot file's limits, and every frame
of `pi0 convert --corrections` by when the switch was turned, which the converter does not know.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "test" / "helpers")]

from judge import Verdict, judge  # noqa: E402

from pi0_ros.conversion.convert import convert  # noqa: E402
from pi0_ros.conversion.options import Options  # noqa: E402
from pi0_ros.datasets.dataset import Dataset  # noqa: E402
from pi0_ros.launching import launches  # noqa: E402
from pi0_ros.launching.processes import ProcessGroup, private_domain, ros_environment  # noqa: E402
from pi0_ros.nodes.messages import LATCHED, stamp_to_seconds  # noqa: E402
from pi0_ros.nodes.sim_messages import command_message  # noqa: E402
from pi0_ros.robot import Robot, load_robot  # noqa: E402

HZ = 50.0
PATIENCE_S = 60.0
UNSURE_S = 0.06  # one frame: of commands and words that cross on their way to the recorder
BREAK_S = 1.0  # so long around an interruption nobody is sure
AWAY = np.array([0.6, 0.3, 0.3, 0.4, 0.5, 0.0])  # rad: where the leader arm is at most, from where the robot was
DRIFT = np.array([0.2, 0.1, 0.1, 0.1, 0.2, 0.0])
PROMPTS = tuple(f"put the {colour} cube in the tray" for colour in ("red", "green", "blue"))
PER_RECORDING = 10


@dataclass(frozen=True)
class Moment:
    """When a person's switch was turned, ROS time in s: asked and answered, on and off."""

    on: tuple[float, float]
    off: tuple[float, float]


class Leader(Node):
    """The person, and ears for the controller. Served by a thread of its own."""

    def __init__(self, robot: Robot, context: rclpy.Context, random: np.random.Generator) -> None:
        super().__init__("leader", context=context)
        self.robot, self.random = robot, random
        self.in_charge = ""
        self.breaks: list[float] = []  # s, when a person's lead was interrupted: by a stall of a busy machine
        self.moments: list[Moment] = []
        self.sent: list[tuple[float, np.ndarray]] = []  # (s, [J])
        self.measured: list[tuple[float, np.ndarray]] = []
        self._centre: np.ndarray | None = None
        self._leading = False  # the switch is on
        self._poses = self.create_publisher(JointTrajectory, robot.takeover.topics[0].topic, 10)
        self._switch = self.create_client(SetBool, "controller/takeover")
        self._arm = self.create_client(SetBool, "controller/arm")
        self.record = {name: self.create_client(Trigger, f"recorder/{name}") for name in ("start", "success")}
        self._prompt = self.create_publisher(String, "policy/prompt", LATCHED)
        self.create_subscription(JointTrajectory, "pi0/command", self._on_command, QoSProfile(depth=500))
        self.create_subscription(JointState, robot.state[0].topic, self._on_state, QoSProfile(depth=500))
        self.create_subscription(String, "pi0/in_charge", self._on_in_charge, LATCHED)
        self.create_timer(1.0 / HZ, self._speak)

    def now(self) -> float:
        """ROS time, s."""
        return float(self.get_clock().now().nanoseconds) * 1e-9

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until `condition` holds; TimeoutError names `what`."""
        end = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"not within {PATIENCE_S:g} s: {what}")
            time.sleep(0.005)

    def call(self, client: Any, request: Any) -> Any:
        """The answer of a service."""
        self.until(client.service_is_ready, client.srv_name)
        future = client.call_async(request)
        self.until(future.done, client.srv_name)
        return future.result()

    def arm(self) -> None:
        """Arm, as soon as nothing speaks against it."""
        self.until(lambda: self.call(self._arm, SetBool.Request(data=True)).success, "armed")

    def lead(self, seconds: float) -> None:
        """Take over for so long, from a leader arm that is elsewhere and moves, and hand back."""
        self._prompt.publish(String(data=str(self.random.choice(PROMPTS))))
        away = self.random.uniform(-1.0, 1.0, len(self.robot.joints)) * AWAY
        self._centre = np.clip(self.sent[-1][1] + away, self.robot.lower + 0.2, self.robot.upper - 0.2)
        time.sleep(3 / HZ)  # it speaks already, as leader arms do
        on = self._turn(True)
        self.until(lambda: self.in_charge == "person", "a person in charge")
        time.sleep(seconds)
        self.moments.append(Moment(on, self._turn(False)))
        self._centre = None
        self.until(lambda: self.in_charge == "policy", "the policy in charge again")

    def _turn(self, on: bool) -> tuple[float, float]:
        asked, self._leading = self.now(), False
        answer = self.call(self._switch, SetBool.Request(data=on))
        if not answer.success:
            raise RuntimeError(answer.message)
        self._leading = on
        return asked, self.now()

    def _speak(self) -> None:
        if self._centre is not None:
            pose = self._centre + DRIFT[: len(self._centre)] * np.sin(2.0 * time.monotonic())
            self._poses.publish(command_message(pose, 0))

    def _on_command(self, message: JointTrajectory) -> None:
        self.sent.append((stamp_to_seconds(message.header.stamp), np.array(message.points[0].positions)))

    def _on_state(self, message: JointState) -> None:
        found = dict(zip(message.name, message.position, strict=True))
        place = np.array([found[name] for name in self.robot.joint_names])
        self.measured.append((stamp_to_seconds(message.header.stamp), place))

    def _on_in_charge(self, message: String) -> None:
        if self._leading and self.in_charge == "person" != message.data:
            self.breaks.append(self.now())
        self.in_charge = message.data


def hand_over(leader: Leader, takeovers: int, shortest_s: float = 0.5) -> None:
    """So many takeovers at random moments, recorded a few to an episode."""
    for number in range(takeovers):
        if number % PER_RECORDING == 0:
            started = leader.call(leader.record["start"], Trigger.Request())
            if not started.success:
                raise RuntimeError(started.message)
        time.sleep(leader.random.uniform(0.1, 1.5))
        leader.lead(leader.random.uniform(shortest_s, 2.0))
        if number % PER_RECORDING == PER_RECORDING - 1 or number == takeovers - 1:
            time.sleep(0.5)
            leader.call(leader.record["success"], Trigger.Request())


def judged(leader: Leader) -> Verdict:
    """All commands, by the limits."""
    times, commands = np.array([t for t, _ in leader.sent]), np.array([position for _, position in leader.sent])
    seen_at, seen = np.array([t for t, _ in leader.measured]), np.array([place for _, place in leader.measured])
    return judge(leader.robot, times, commands, (seen_at, seen))


def authors(
    bags: Path,
    out: Path,
    robot: Robot,
    moments: Sequence[Moment],
    unsure_s: float = UNSURE_S,
    breaks: Sequence[float] = (),
) -> dict[str, int]:
    """Convert the corrections, each with half a second before it; count frames by the author, right or wrong."""
    report = convert([bags], out, robot, Options(corrections=True, before_s=0.5, min_length_s=0.2))
    cut = [episode for bag in report.bags for episode in bag.episodes]
    found = {"episodes": len(cut), "person": 0, "policy": 0, "wrong": 0, "unsure": 0}
    for episode, data in zip(cut, Dataset(out).episodes, strict=True):
        assert data.takeover is not None
        for frame, led in enumerate(data.takeover.tolist()):
            t = episode.start_ns * 1e-9 + frame / data.fps
            surely = any(m.on[1] + unsure_s < t < m.off[0] for m in moments)
            perhaps = any(m.on[0] < t < m.off[1] + unsure_s for m in moments)
            perhaps = perhaps or any(abs(t - at) < BREAK_S for at in breaks)
            surely = surely and not any(abs(t - at) < BREAK_S for at in breaks)
            right = ("person" if led else "policy") if led == surely else "wrong"
            found["unsure" if perhaps and not surely else right] += 1
    return found


def main() -> int:
    """Run it; 0 when no limit was broken and no frame has a wrong author."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--takeovers", type=int, default=50, help="each is two handovers (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="new folder: bags, dataset, logs")
    args = parser.parse_args()
    args.out.mkdir(parents=True)
    environment = ros_environment(localhost=True, domain_id=private_domain())
    environment.setdefault("OMP_NUM_THREADS", "1")
    os.environ.update(environment)
    robot, bags = load_robot("demo_arm"), args.out / "bags"
    with ProcessGroup(args.out / "logs") as group:
        given = {"auto_arm": "false", "view": "false", "monitor": "false"}
        for command in launches.resolve(launches.find("demo"), given):
            group.start(command.name, command.argv(), env=environment)
        recorder = launches.ros_arguments({"robot": "demo_arm", "out_dir": str(bags)}, "recorder")
        group.start("recorder", [sys.executable, "-m", "pi0_ros.nodes.recorder_node", *recorder], env=environment)
        context = rclpy.Context()
        rclpy.init(args=[], context=context)
        leader = Leader(robot, context, np.random.default_rng(args.seed))
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(leader)
        threading.Thread(target=executor.spin, daemon=True).start()
        try:
            leader.arm()
            leader.until(lambda: leader.in_charge == "policy", "the policy in charge")
            hand_over(leader, args.takeovers)
            verdict = judged(leader)
        finally:
            executor.shutdown()
            rclpy.try_shutdown(context=context)
    found = authors(bags, args.out / "dataset", robot, leader.moments, breaks=leader.breaks)
    speed, acceleration = verdict.speed, verdict.acceleration
    print(f"{2 * len(leader.moments)} handovers, {verdict.messages} commands")
    print(f"largest velocity {speed:.4f} of its limit, largest step of velocity {acceleration:.4f} of its limit")
    print(f"frames by {found['episodes']} takeovers: {found}")
    print("\n".join(verdict.breaches[:10]))
    return int(bool(verdict.breaches) or found["wrong"] > 0 or found["episodes"] < len(leader.moments))


if __name__ == "__main__":
    sys.exit(main())
