"""Two simulated arms in one ROS domain, under `left` and `right`: driven, recorded, one of them stopped.

    python tools/two_arms.py --seconds 600

Starts `pi0 up demo` and `pi0 up record` twice, gives both arms instructions and new scenes, stops the left one after
half of the time, and says what it saw of each: status 1 where anything of one reached the other.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from pi0_ros.bags.reader import Bag
from pi0_ros.launching.processes import ProcessGroup, private_domain, ros_environment
from pi0_ros.nodes.messages import diagnostic_values
from pi0_ros.nodes.recorder_client import RecorderClient
from pi0_ros.robot import load_robot

SIDES = ("left", "right")
ROBOT = load_robot("demo_arm")
SHARED = {"/diagnostics", "/rosout", "/parameter_events", "/clock", "/tf", "/tf_static"}
EVERY_S = 20.0  # a new scene and instruction
# A machine that cannot run two policies in time shall not disarm the arms: this is no test of speed.
PATIENT = "controller:\n  ros__parameters: {rearm_after_s: 3600.0, chunk_timeout_s: 600.0, tracking_s: 0.0}\n"
STILL = 0.01  # rad in half a minute; one that was stopped while something blocked it creeps along that for a while


class Side(Node):
    """Ears and hands for one arm."""

    def __init__(self, context: rclpy.Context, side: str) -> None:
        super().__init__("spectator", namespace=side, context=context)
        self.side = side
        self.commands = 0
        self.positions: list[tuple[float, np.ndarray]] = []
        self.status: dict[str, dict[str, str]] = {}
        self.hardware: dict[str, str] = {}
        self.reasons: set[str] = set()
        place = lambda topic: topic.removeprefix("/")  # noqa: E731
        self.create_subscription(JointTrajectory, place(ROBOT.commands[0].topic), self._on_command, 50)
        self.create_subscription(JointState, place(ROBOT.state[0].topic), self._on_state, 50)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 50)
        self.prompts = [self.create_publisher(String, f"{node}/prompt", 1) for node in ("policy", "recorder")]
        self.scene = self.create_client(Trigger, "sim/new_scene")
        self.arm = self.create_client(SetBool, "controller/arm")
        self.estop = self.create_client(Trigger, "controller/estop")
        self.recorder = RecorderClient(self, "recorder")

    def controller(self) -> dict[str, str]:
        """The newest values of this side's controller."""
        return self.status.get(f"pi0_ros: {self.side}/controller", {})

    def moved(self, since: float) -> float:
        """How far the arm's joints have gone since then (monotonic s), rad."""
        seen = np.array([position for at, position in self.positions if at >= since])
        return float(np.ptp(seen, axis=0)[:5].max()) if len(seen) else float("nan")

    def _on_command(self, message: JointTrajectory) -> None:
        self.commands += 1

    def _on_state(self, message: JointState) -> None:
        self.positions.append((time.monotonic(), np.array(message.position)))
        del self.positions[:-3000]

    def _on_diagnostics(self, array: DiagnosticArray) -> None:
        for status in array.status:
            self.status[status.name] = diagnostic_values(status)
            self.hardware[status.name] = status.hardware_id
        if reason := self.controller().get("reason"):
            self.reasons.add(f"{self.controller().get('state')}: {reason[:70]}")


class Run:
    """The processes and both sides; `problems` collects what must not be."""

    def __init__(self, group: ProcessGroup, context: rclpy.Context, folder: Path) -> None:
        self.group, self.folder = group, folder
        self.problems: list[str] = []
        self.executor = SingleThreadedExecutor(context=context)
        self.sides = {side: Side(context, side) for side in SIDES}
        for node in self.sides.values():
            self.executor.add_node(node)

    def expect(self, true: bool, what: str) -> None:
        """Say what was seen, and remember it where it must not be."""
        print(f"{'ok  ' if true else 'FAIL'} {what}", flush=True)
        if not true:
            self.problems.append(what)

    def until(self, condition: Callable[[], object], limit_s: float, what: str) -> None:
        """Spin until it is true; RuntimeError naming `what` otherwise, or when a process ends."""
        end = time.monotonic() + limit_s
        while not condition():
            self.executor.spin_once(timeout_sec=0.05)
            if time.monotonic() > end:
                seen = {side: node.controller() for side, node in self.sides.items()}
                raise RuntimeError(f"not within {limit_s:.0f} s: {what}; controllers: {seen}")
            for ended in self.group.poll():
                raise RuntimeError(f"{ended}:\n{self.group.tail(ended.name, 30)}")

    def spin(self, seconds: float) -> None:
        """Let time pass."""
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() > end, seconds + 10, "time passing")

    def ask(self, client: rclpy.client.Client, request: object, what: str) -> object:
        """Call a service."""
        self.until(client.service_is_ready, 60.0, what)
        future = client.call_async(request)
        self.until(future.done, 60.0, what)
        return future.result()

    def record(self, action: str) -> None:
        """Let both recorders do something at once."""
        for node in self.sides.values():
            self.until(lambda node=node: node.recorder.act(action), 60.0, f"{node.side}/recorder")  # type: ignore[misc]
        for node in self.sides.values():
            self.until(node.recorder.answered, 120.0, f"{node.side}/recorder answering {action}")
            answer = node.recorder.answer()
            self.expect(bool(answer and answer[1]), f"{node.side}: recorder {action}: {answer and answer[2][:80]!r}")

    def drive(self, seconds: float, sides: tuple[str, ...]) -> None:
        """New scenes and instructions, an other one for each side."""
        colours, end, turn = ("red", "green", "blue"), time.monotonic() + seconds, 0
        while (left := end - time.monotonic()) > 0:
            for number, side in enumerate(sides):
                node = self.sides[side]
                text = f"put the {colours[(turn + number) % 3]} cube in the tray"
                self.ask(node.scene, Trigger.Request(), f"{side}/sim/new_scene")
                for publisher in node.prompts:
                    publisher.publish(String(data=text))
                name = f"pi0_ros: {side}/policy"
                heard = lambda node=node, name=name, text=text: node.status.get(name, {}).get("prompt") == text  # noqa: E731
                self.until(heard, 60.0, f"{side}/policy taking its prompt")
                if node.controller().get("state") == "DISARMED":  # a busy machine let a hold last too long
                    self.ask(node.arm, SetBool.Request(data=True), f"{side}/controller/arm")
            turn += 1
            self.spin(min(EVERY_S, max(0.0, left)))

    def play(self, seconds: float) -> None:
        """The whole run."""
        left, right = self.sides["left"], self.sides["right"]
        chunks = lambda: all(int(node.controller().get("chunks", 0)) > 0 for node in self.sides.values())  # noqa: E731
        self.until(chunks, 300.0, "both controllers following chunks")
        self.record("start")
        self.drive(seconds / 2, SIDES)
        texts = [node.status[f"pi0_ros: {node.side}/policy"]["prompt"] for node in self.sides.values()]
        self.expect(texts[0] != texts[1], f"each has its own instruction: {texts}")
        for node in self.sides.values():
            self.expect(node.commands > 0 and node.moved(time.monotonic() - 30) > 0.05, f"{node.side} is driven")
        self.ask(left.estop, Trigger.Request(), "left/controller/estop")
        self.until(lambda: left.controller().get("state") == "STOPPED", 20.0, "left STOPPED")
        self.spin(3.0)
        since, sent, others = time.monotonic(), left.commands, right.commands
        self.drive(seconds / 2, ("right",))
        moved = left.moved(max(since, time.monotonic() - 30.0))
        self.expect(left.commands == sent, f"left: no command after its stop ({left.commands - sent})")
        self.expect(moved < STILL, f"left: the arm stays where it is (moved {moved:.5f} rad)")
        self.expect(right.commands > others and right.moved(since) > 0.05, f"right: went on, {right.commands - others}")
        told = [reason for reason in right.reasons if "emergency" in reason or "STOPPED" in reason]
        self.expect(not told, f"right: nobody told it to stop ({sorted(right.reasons)})")
        self.expect(left.controller()["state"] == "STOPPED", "left is still STOPPED")
        self._names(right)
        self.record("success")

    def _names(self, node: Side) -> None:
        topics = {name for name, _ in node.get_topic_names_and_types()}
        loose = sorted(t for t in topics - SHARED if not t.startswith(("/left/", "/right/")))
        self.expect(not loose, f"no topic outside the namespaces {loose}")
        names = sorted(name for name in node.status if name.startswith("pi0_ros: "))
        self.expect(all(name.removeprefix("pi0_ros: ").startswith(SIDES) for name in names), f"statuses: {names}")
        wrong = {n: h for n, h in node.hardware.items() if n.startswith("pi0_ros: ") and h.split("/")[0] not in n}
        self.expect(not wrong, f"hardware ids belong to their side {wrong}")

    def bags(self) -> None:
        """The recordings, as any reader of rosbag2 sees them."""
        from rosbags.highlevel import AnyReader

        for side in SIDES:
            for path in sorted((self.folder / side).glob("episode_*")):
                with Bag(path) as ours, AnyReader([path]) as theirs:
                    counts = {c.topic: c.msgcount for c in theirs.connections}
                    complete = all(counts.get(topic, 0) > 0 for topic in ROBOT.topics)
                    self.expect(complete and set(counts) >= set(ours.info.topics), f"{side}/{path.name}: {counts}")


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--folder", type=Path, help="for bags and logs (default: a new temporary one)")
    args = parser.parse_args()
    folder = args.folder or Path(tempfile.mkdtemp(prefix="two_arms_"))
    environment = ros_environment(localhost=True, domain_id=private_domain())
    os.environ.update(environment)
    context = rclpy.Context()
    folder.mkdir(parents=True, exist_ok=True)
    patient = folder / "patient.yaml"
    patient.write_text(PATIENT, encoding="utf-8")
    with ProcessGroup(folder / "logs", grace_s=15.0) as group:
        for side in SIDES:
            up = [sys.executable, "-m", "pi0_ros.cli", "up"]
            quiet = [f"namespace:={side}", "view:=false"]
            demo = ["demo", *quiet, "monitor:=false", f"params_file:={patient}"]
            group.start(f"{side}_demo", [*up, *demo], env=environment)
            record = ["record", "robot:=demo_arm", f"out_dir:={folder / side}", *quiet]
            group.start(f"{side}_record", [*up, *record], env=environment)
        rclpy.init(context=context, args=[])
        run = Run(group, context, folder)
        try:
            run.play(args.seconds)
        finally:
            run.executor.shutdown()
            for node in run.sides.values():
                node.destroy_node()
            rclpy.try_shutdown(context=context)
    run.bags()
    print(f"{len(run.problems)} problems; bags and logs in {folder}")
    return 1 if run.problems else 0


if __name__ == "__main__":
    sys.exit(main())
