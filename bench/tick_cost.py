"""What one tick of the controller costs, in microseconds: following chunks, at any control rate.

    python bench/tick_cost.py --rate 1000 --joints 7
    ROS_DOMAIN_ID=60 python bench/tick_cost.py --rate 1000 --node    # the whole node's tick, messages included

CPU time of the thread: what other processes take is not counted, but for their traces in the caches. `plan` is what
looking ahead costs whenever the motion changes, in a thread beside the ticks: first what it holds the controller's lock
for, then the rest.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from pi0_ros.control.chunk import ActionChunk
from pi0_ros.control.controller import Controller
from pi0_ros.control.limits import JointLimits
from pi0_ros.control.plan import rest_of_plan
from pi0_ros.control.states import Settings, State


def costs(rate: float, joints: int, seconds: float, settings: Settings, jerk: float) -> np.ndarray:
    """CPU seconds that each tick took, float64 [ticks]; a chunk of 50 actions every 0.1 s, joint states at 500 Hz."""
    names, ones, period = tuple(f"joint_{j}" for j in range(joints)), np.ones(joints), 1.0 / rate
    gripper = np.arange(joints) == joints - 1
    limits = JointLimits(names, -3 * ones, 3 * ones, 2 * ones, 10 * ones, gripper, jerk * ones)
    controller = Controller(limits, period, 0.5 * ones, settings)
    everything, found, t, measured = np.arange(joints), [], 1.7e9, np.zeros(joints)
    for tick in range(round((seconds + 0.5) * rate)):
        t += period
        if tick == round(0.4 * rate):
            assert not controller.arm(t)
        if tick > 0.4 * rate and tick % round(0.1 * rate) == 0:
            controller.accept(chunk(t, names), t)
        if tick % max(1, round(rate / 500)) == 0:
            controller.measure(t, everything, measured)
        start = time.thread_time()
        command = controller.tick(t)
        found.append(time.thread_time() - start)
        measured = measured if command is None else command.position
    return np.array(found[round(0.6 * rate) :])


def chunk(t: float, names: tuple[str, ...]) -> ActionChunk:
    """50 actions of all joints, observed 0.05 s before `t` (s)."""
    actions = 0.3 * np.sin(2 * (t % 1000.0 - 0.05 + 0.02 * np.arange(50)))[:, None] * np.ones(len(names))
    return ActionChunk(round((t - 0.05) * 1e9), 20_000_000, actions, names)


def plan_costs(rate: float, joints: int, times: int = 30) -> tuple[float, float]:
    """CPU seconds of a fork and of looking ahead along a chunk of 1 s: medians."""
    names, ones, period, t = tuple(f"joint_{j}" for j in range(joints)), np.ones(joints), 1.0 / rate, 1.7e9
    limits = JointLimits(names, -3 * ones, 3 * ones, 2 * ones, 10 * ones, np.arange(joints) == joints - 1)
    controller = Controller(limits, period, 10.0 * ones, Settings())
    command, forks, looks = None, [], []
    for tick in range(round(0.8 * rate)):
        t += period
        controller.measure(t, np.arange(joints), np.zeros(joints) if command is None else command.position)
        if tick == round(0.4 * rate):
            assert not controller.arm(t)
            controller.accept(chunk(t, names), t)
        command = controller.tick(t)
    assert command is not None
    for _ in range(times):
        start = time.thread_time()
        ahead = controller.fork()
        forks.append(time.thread_time() - start)
        rest_of_plan(ahead, command.position, t)
        looks.append(time.thread_time() - start - forks[-1])
    return float(np.median(forks)), float(np.median(looks))


def node_costs(rate: float, seconds: float) -> np.ndarray:
    """CPU seconds that each tick of a controller node took while it followed chunks, float64 [ticks]."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.node import Node
    from sensor_msgs.msg import JointState
    from trajectory_msgs.msg import JointTrajectory

    from pi0_ros.nodes.controller_node import ControllerNode
    from pi0_ros.nodes.messages import LATEST, chunk_to_message
    from pi0_ros.robot import load_robot, robot_to_yaml

    robot = load_robot("demo_arm")
    robot = replace(robot, control_rate_hz=rate, state=tuple(replace(s, max_age_s=5.0) for s in robot.state))
    found: list[float] = []

    class Timed(ControllerNode):
        def _tick(self, now: float) -> bool:
            start = time.thread_time()
            sent = super()._tick(now)
            found.append(time.thread_time() - start)
            return sent

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "robot.yaml").write_text(robot_to_yaml(robot))
        rclpy.init(args=["--ros-args", "-p", f"robot:={folder}/robot.yaml", "-p", "tracking_s:=0.0"])
        node, body = Timed(), Node("body")
    chunks, states = body.create_publisher(JointTrajectory, "pi0/chunk", LATEST), []
    for topic in robot.state:
        states.append((body.create_publisher(JointState, topic.topic, 5), list(topic.message_names), len(topic.joints)))

    def speak() -> None:
        stamp = body.get_clock().now().to_msg()
        for publisher, names, joints in states:
            message = JointState(name=names, position=[0.0] * joints)
            message.header.stamp = stamp
            publisher.publish(message)

    body.create_timer(0.02, speak)
    body.create_timer(0.2, lambda: chunks.publish(chunk_to_message(chunk(time.time(), robot.joint_names))))
    executor, follows = SingleThreadedExecutor(), 0
    for one in (node, body):
        executor.add_node(one)
    end = time.monotonic() + 60.0
    while time.monotonic() < end:
        executor.spin_once(timeout_sec=0.1)
        if node.controller.state is State.RUNNING and not follows:
            follows, end = len(found), time.monotonic() + seconds
        elif node.controller.state is State.DISARMED:
            node._arm()
            follows = 0
    node.close()
    rclpy.shutdown()
    if not follows:
        raise SystemExit(f"the controller did not follow: {node.controller.reason}")
    return np.array(found[follows:])


def main() -> None:
    """Print one line per setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=1000.0, help="Hz")
    parser.add_argument("--joints", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--node", action="store_true", help="of demo_arm's controller node, over ROS")
    args = parser.parse_args()
    if args.node:
        p50, p99 = np.percentile(node_costs(args.rate, args.seconds), (50, 99)) * 1e6
        print(f"controller node at {args.rate:g} Hz: us per tick  p50 {p50:6.1f}   p99 {p99:6.1f}")
        return
    cases = {
        "cubic, blend": (Settings(), np.inf),
        "quintic, blend": (Settings(interpolation="quintic"), np.inf),
        "cubic, ensemble": (Settings(transition="ensemble"), np.inf),
        "cubic, rtc, jerk limits": (Settings(transition="rtc"), 500.0),
    }
    print(f"{args.joints} joints at {args.rate:g} Hz: us per tick")
    for name, (settings, jerk) in cases.items():
        rounds = [costs(args.rate, args.joints, args.seconds, settings, jerk) * 1e6 for _ in range(args.rounds)]
        p50, p99 = np.min([np.percentile(one, (50, 99)) for one in rounds], axis=0)
        print(f"  {name:26s} p50 {p50:6.1f}   p99 {p99:6.1f}   of the period {p50 * args.rate * 1e-4:4.1f} %")
    fork, look = plan_costs(args.rate, args.joints)
    print(f"  plan, whenever the motion changes: {fork * 1e6:.0f} us with the lock, {look * 1e3:.1f} ms without")


if __name__ == "__main__":
    main()
