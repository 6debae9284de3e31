"""How late does a control tick wake up while the machine is busy and the model infers?

    python bench/tick.py --seconds 120 --plot docs/images/tick.png
    sudo env PATH=$PATH python bench/tick.py        # where the user may not use SCHED_FIFO

In one run: the controller process with real-time scheduling, the controller process without, and a plain rclpy timer
with a subscription and a publisher, all at the same rate and fed with the same joint states; beside them `--burners`
processes that never rest and one that infers with the shipped policy in a loop. The controllers are armed and
publish. Each process counts its own wake-up errors and tells them on /diagnostics; start-up does not count.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from pi0_ros.control.chunk import ActionChunk
from pi0_ros.control.pacing import BUCKETS, Histogram, Pacer, lower_edge
from pi0_ros.launching.launches import ros_arguments
from pi0_ros.launching.processes import ProcessGroup, private_domain, ros_environment
from pi0_ros.nodes.messages import LATEST, chunk_to_message, diagnostic_array, diagnostic_status, diagnostic_values
from pi0_ros.robot import Robot, load_robot, robot_to_yaml

FIFO, NORMAL, TIMER = "controller, SCHED_FIFO", "controller, normal", "rclpy timer, normal"
ARMED = {"auto_arm": True, "waive": "publishers", "rearm_after_s": 86400.0, "chunk_timeout_s": 60.0}  # two of one robot
CHECKPOINT = Path(__file__).resolve().parents[1] / "pi0_ros" / "sim" / "checkpoint"
JOINT_STATES_HZ, CHUNK_HZ = 100.0, 5.0


class Timer(Node):
    """A control loop as most nodes have it: an rclpy timer that publishes, beside a subscription."""

    def __init__(self, robot: Robot) -> None:
        super().__init__("rclpy_timer")
        self.pacer = Pacer(1.0 / robot.control_rate_hz)
        point = JointTrajectoryPoint(positions=[0.0] * len(robot.joints), velocities=[0.0] * len(robot.joints))
        self._message = JointTrajectory(joint_names=list(robot.joint_names), points=[point])
        self._commands = self.create_publisher(JointTrajectory, "timer/command", 1)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_subscription(JointState, robot.state[0].topic, lambda message: None, 5)
        self._timer = self.create_timer(self.pacer.period, self._tick)
        self.create_timer(0.5, self._report)

    def _tick(self) -> None:
        now = time.monotonic()
        if not self.pacer.ticks:  # the timer's own grid of deadlines
            self.pacer.start(now + self._timer.time_until_next_call() * 1e-9 - 2 * self.pacer.period)
        self.pacer.wake(now)
        self._message.header.stamp = self.get_clock().now().to_msg()
        self._commands.publish(self._message)

    def _report(self) -> None:
        status = diagnostic_status("timer", DiagnosticStatus.OK, "", self.pacer.report(), TIMER)
        self._diagnostics.publish(diagnostic_array(self.get_clock().now().to_msg(), [status]))


class Body(Node):
    """The robot that the controllers need, and ears for what all of them count."""

    def __init__(self, robot: Robot) -> None:
        super().__init__("body")
        self.reports: dict[str, dict[str, str]] = {}
        middle = (robot.lower + robot.upper) / 2
        self._state = JointState(name=list(robot.joint_names), position=middle.tolist())
        self._stands = np.tile(middle, (round(2.0 * CHUNK_HZ), 1))  # [H, J]: what the controllers follow
        self._states = self.create_publisher(JointState, robot.state[0].topic, 5)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 20)
        self._chunks = self.create_publisher(JointTrajectory, "pi0/chunk", LATEST)
        self.create_timer(1.0 / JOINT_STATES_HZ, self._feel)
        self.create_timer(1.0 / CHUNK_HZ, self._predict)

    def _feel(self) -> None:
        self._state.header.stamp = self.get_clock().now().to_msg()
        self._states.publish(self._state)

    def _predict(self) -> None:
        chunk = ActionChunk(time.time_ns(), round(1e9 / CHUNK_HZ), self._stands, tuple(self._state.name))
        self._chunks.publish(chunk_to_message(chunk))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.reports[status.hardware_id] = diagnostic_values(status)


def spin_timer(robot_file: str) -> None:
    """The process of the rclpy timer."""
    rclpy.init()
    rclpy.spin(Timer(load_robot(robot_file)))


def infer() -> None:
    """The process that infers in a loop, and prints how often at its end."""
    from pi0_ros.inference.options import PolicyOptions
    from pi0_ros.observation.streams import Observation
    from pi0_ros.policy.policy import load_policy

    policy = load_policy(PolicyOptions(checkpoint=str(CHECKPOINT), device="cpu", torch_threads=1))
    robot, size = policy.metadata.robot, policy.metadata.image_size
    images = {camera.name: np.zeros((size, size, 3), np.uint8) for camera in robot.cameras}
    stop: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: stop.append(number))
    start, count = time.monotonic(), 0
    while not stop:
        policy.infer(Observation(count, images, (robot.lower + robot.upper) / 2, robot.prompt, {}))
        count += 1
        if count == 1:
            print("inferring", flush=True)
    print(f"{count / (time.monotonic() - start):.1f} chunks per second", flush=True)


def burn() -> None:
    """A process that never rests."""
    while True:
        pass


def since(before: dict[str, str], after: dict[str, str]) -> tuple[Histogram, int]:
    """What happened between two reports: wake-up errors, and deadlines that were skipped."""
    older, newer = (Histogram.from_text(report["tick_histogram"], 0.0) for report in (before, after))
    histogram = Histogram()
    histogram.counts = [new - old for new, old in zip(newer.counts, older.counts, strict=True)]
    histogram.total = sum(histogram.counts)
    highest = max((bucket for bucket, count in enumerate(histogram.counts) if count), default=0)
    histogram.greatest = lower_edge(highest + 1)
    return histogram, int(after["late_ticks"]) - int(before["late_ticks"])


def measure(args: argparse.Namespace) -> dict[str, tuple[Histogram, int]]:
    """Start everything, wait `args.seconds`, and stop it."""
    os.environ.update(ros_environment(localhost=True, domain_id=private_domain()))
    folder = Path(tempfile.mkdtemp(prefix="pi0_tick_"))
    body: Body | None = None

    def controller(group: ProcessGroup, name: str, **parameters: object) -> None:
        file = folder / f"{name.split()[-1]}.yaml"
        robot = load_robot("demo_arm")
        state = tuple(replace(item, max_age_s=5.0) for item in robot.state)  # late joint states are no matter here
        file.write_text(robot_to_yaml(replace(robot, name=name, control_rate_hz=args.rate, state=state)))
        node = ros_arguments({"robot": str(file), **ARMED, **parameters}, name=file.stem.lower())
        group.start(name, [sys.executable, "-m", "pi0_ros.nodes.controller_node", *node])

    with ProcessGroup(log_dir=folder) as group:
        controller(group, FIFO, **{"realtime.priority": args.priority, "realtime.lock_memory": True})
        controller(group, NORMAL)
        group.start(TIMER, [sys.executable, __file__, "--process", f"timer:{folder / 'normal.yaml'}"])
        group.start("inference", [sys.executable, __file__, "--process", "infer:"])
        for i in range(args.burners):
            group.start(f"burner {i}", [sys.executable, __file__, "--process", "burn:"])
        rclpy.init()
        body, executor = Body(load_robot("demo_arm")), SingleThreadedExecutor()
        executor.add_node(body)

        def spin(seconds: float) -> None:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                executor.spin_once(timeout_sec=0.1)

        def ready() -> bool:
            running = all(body.reports.get(name, {}).get("state") == "RUNNING" for name in (FIFO, NORMAL))
            return running and TIMER in body.reports and "inferring" in group.output("inference")

        deadline = time.monotonic() + 120.0
        while not ready():
            spin(0.5)
            if time.monotonic() > deadline or group.poll():
                raise RuntimeError("\n".join(f"{name}: {group.tail(name)}" for name in group.names()))
        spin(2.0)
        before = dict(body.reports)
        spin(args.seconds)
        after = dict(body.reports)
        group.signal("inference", signal.SIGINT)
        spin(2.0)
        print(group.output("inference").splitlines()[-1])
        for line in group.output(FIFO).splitlines():
            if "refused" in line:
                print(line)
        executor.shutdown()
        body.destroy_node()
        rclpy.try_shutdown()
    return {name: since(before[name], after[name]) for name in (FIFO, NORMAL, TIMER)}


def table(results: dict[str, tuple[Histogram, int]]) -> str:
    """One line per loop."""
    lines = [f"{'wake-up error, ms':<24s}{'ticks':>8s}{'p50':>9s}{'p99':>9s}{'p99.9':>9s}{'max':>9s}{'skipped':>9s}"]
    for name, (late, skipped) in results.items():
        quantiles = "".join(f"{late.quantile(fraction) * 1e3:9.3f}" for fraction in (0.5, 0.99, 0.999, 1.0))
        lines.append(f"{name:<24s}{late.total:8d}{quantiles}{skipped:9d}")
    return "\n".join(lines)


def plot(results: dict[str, tuple[Histogram, int]], args: argparse.Namespace) -> None:
    """The fraction of ticks that woke up later than a time, on logarithmic axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    edges = [lower_edge(bucket) * 1e3 for bucket in range(BUCKETS)]
    for name, (late, _) in results.items():
        later, fractions = late.total, []
        for count in late.counts:
            fractions.append(later / max(1, late.total))
            later -= count
        axes.step(edges, fractions, where="post", label=f"{name}: p99.9 {late.quantile(0.999) * 1e3:.2f} ms")
    axes.set(xscale="log", yscale="log", xlabel="wake-up error, ms", ylabel="fraction of ticks that are later")
    axes.axhline(1e-3, color="0.7", linewidth=0.8)
    title = (
        f"{args.rate:g} Hz for {args.seconds:g} s beside {args.burners} burners and inference, {os.cpu_count()} cores"
    )
    axes.set_title(title)
    axes.legend()
    args.plot.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.plot, dpi=120)


def main() -> None:
    """Parse the command line; print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=100.0, help="control rate, Hz (default %(default)g)")
    parser.add_argument("--burners", type=int, default=4)
    parser.add_argument("--priority", type=int, default=80, help="realtime.priority (default %(default)d)")
    parser.add_argument("--plot", type=Path, help="PNG")
    parser.add_argument("--json", type=Path, help="counts of all buckets")
    parser.add_argument("--process", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    kind, _, robot_file = args.process.partition(":")
    if kind:
        {"timer": lambda: spin_timer(robot_file), "infer": infer, "burn": burn}[kind]()
        return
    results = measure(args)
    print(table(results))
    if args.plot:
        plot(results, args)
    if args.json:
        args.json.write_text(json.dumps({name: [late.counts, skipped] for name, (late, skipped) in results.items()}))


if __name__ == "__main__":
    main()
