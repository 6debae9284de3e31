"""Rows of the fault table around the machine: `/clock`, the disk, other participants, the simulator."""

from __future__ import annotations

import resource
import signal
import time
from collections.abc import Callable

from rosgraph_msgs.msg import Clock
from rows import Inject, rows_of
from stage import Stage, clock_message
from std_srvs.srv import Trigger

# --- simulated time


def shown(lie: Callable[[float], list[Clock]], seconds: float, *words: str) -> Inject:
    """`/clock` tells something else for a while; the simulator itself goes on."""

    def row(stage: Stage, trial: int) -> tuple[str, ...]:
        stage.body.lie_of_clock = lie
        time.sleep(seconds)
        return words

    return row


def jump(by_s: float, word: str) -> Inject:
    """The simulator itself goes on at another time, as after a reset."""

    def row(stage: Stage, trial: int) -> str:
        clock = stage.body.clock_of_simulation
        assert clock is not None
        clock.jump(by_s)
        return word

    return row


def backs(by_s: float, times: int) -> Inject:
    def row(stage: Stage, trial: int) -> str:
        clock = stage.body.clock_of_simulation
        assert clock is not None
        for _ in range(times):
            clock.jump(-by_s)
            time.sleep(0.15)
        return "clock went back"

    return row


def speed(times: float, seconds: float) -> Inject:
    def row(stage: Stage, trial: int) -> str:
        clock = stage.body.clock_of_simulation
        assert clock is not None
        clock.now()
        clock.speed = times
        time.sleep(seconds)
        clock.now()
        return ""

    return row


def paused(stage: Stage, trial: int) -> str:
    """The whole simulator stands still: nothing is told, nothing moves."""
    stage.body.tells = stage.body.speaks = False
    clock = stage.body.clock_of_simulation
    assert clock is not None
    clock.now()
    clock.speed = 0.0
    time.sleep(2.0)
    clock.now()
    return ""


def silent_clock(stage: Stage, trial: int) -> str:
    """Only `/clock` stops; joint states and chunks go on."""
    stage.body.lie_of_clock = lambda now: []
    time.sleep(2.0)
    return "stood still"


def _raw(sec: int, nanosec: int = 0) -> Callable[[float], list[Clock]]:
    message = Clock()
    message.clock.sec, message.clock.nanosec = sec, nanosec
    return lambda now: [message]


CLOCKS: dict[str, Inject] = {
    "/clock silent for 2 s": silent_clock,
    "the simulator pauses for 2 s": paused,
    "/clock leaps ahead by 60 s": jump(60.0, "leapt ahead"),
    "/clock goes back by 5 s": jump(-5.0, ""),  # held for less than the time between two status messages
    "/clock back and forth by 3 s": shown(lambda now: [clock_message(now), clock_message(now - 3.0)], 1.0),
    "/clock zero": shown(_raw(0), 1.0),
    "/clock at its greatest (68 years)": shown(_raw(2**31 - 1, 999_999_999), 1.0, "leapt ahead"),
    "/clock negative": shown(_raw(-5), 1.0),
    "/clock of 4 billion ns": shown(_raw(100, 2**32 - 1), 1.0),
    "/clock running backwards": shown(lambda now: [clock_message(max(0.0, 200.0 - now))], 1.0),
    "/clock three times as fast": speed(3.0, 2.0),
    "/clock five times slower": speed(0.2, 3.0),
    "/clock ten times as fast": speed(10.0, 2.0),
    "/clock ten times slower": speed(0.1, 4.0),
    "/clock goes back by 0.3 s again and again": backs(0.3, 8),
    "/clock ahead and back by 1000 s while it stands": shown(
        lambda now: [clock_message(now + 1000.0 * (int(now * 3.0) % 2))], 2.0
    ),
    "/clock in steps of 0.05 s": shown(lambda now: [clock_message(now // 0.05 * 0.05)], 2.0),
    "/clock 5000 times a second": shown(lambda now: [clock_message(now + i * 1e-6) for i in range(50)], 2.0),
}


# --- the disk


def log_full(name: str) -> Inject:
    """The process may write no byte more into any file; it has much to say meanwhile."""

    def row(stage: Stage, trial: int) -> str:
        pid = stage.processes.pid(name)
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        stage.processes.signal("chunks", signal.SIGSTOP)
        stage.told("no newer chunk")
        stage.processes.signal("chunks", signal.SIGCONT)
        time.sleep(0.5)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
        assert stage.processes.is_running(name), f"the {name} ended: {stage.processes.tail(name, 5)}"
        return "no newer chunk"

    return row


def recorder_full(stage: Stage, trial: int) -> str:
    """The recorder's disk refuses a part of the episode; the robot goes on."""
    bags = stage.folder / "bags"
    stage.node("recorder", "recorder", robot=str(stage.file), out_dir=str(bags), prompt="swing", min_free_mb=1)
    try:
        asked = stage.body.create_client(Trigger, "/recorder/start")
        started = lambda: asked.service_is_ready() and _answer(stage, asked)  # noqa: E731
        assert stage.wait(started, 30.0), f"the recorder did not start: {stage.text('recorder')}"
        time.sleep(1.0)
        size = max(file.stat().st_size for file in bags.rglob("*.mcap"))
        pid = stage.processes.pid("recorder")
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size + 50_000, resource.RLIM_INFINITY))
        word = "File too large"
        told = stage.wait(lambda: word in stage.processes.output("recorder"), 60.0)
        assert told, f"no word of {word!r}: {stage.processes.tail('recorder', 5)}"
        assert stage.processes.is_running("recorder"), "the recorder ended"
        stage.body.destroy_client(asked)
    finally:
        stage.processes.stop("recorder")
    return ""


def _answer(stage: Stage, client: object) -> bool:
    future = client.call_async(Trigger.Request())  # type: ignore[attr-defined]
    return stage.wait(future.done, 5.0) and future.result().success


# --- other participants

PARTICIPANT = """
import sys, time, rclpy
from rclpy.node import Node
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory
rclpy.init()
node = Node(sys.argv[1])
kept = [node.create_subscription(kind, topic, lambda message: None, 10) for kind, topic in (
    (JointTrajectory, "/arm/command"), (JointTrajectory, "pi0/command"), (JointState, "/arm/joint_states"))]
kept.append(node.create_publisher(JointState, "/elsewhere/joint_states", 10))
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    rclpy.spin_once(node, timeout_sec=0.05)
if sys.argv[3] == "properly":
    node.destroy_node()
    rclpy.shutdown()
import os
os._exit(0)
"""


def come_and_go(how: str) -> Inject:
    def row(stage: Stage, trial: int) -> str:
        others = [stage.child(PARTICIPANT, f"other_{i}", str(0.5 + 0.3 * i), how) for i in range(3)]
        for other in others:
            other.wait(60.0)
        return ""

    return row


MANY = """
import sys, time, rclpy
from rclpy.node import Node
from trajectory_msgs.msg import JointTrajectory
end, count = time.monotonic() + float(sys.argv[1]), 0
while time.monotonic() < end:
    contexts, kept = [rclpy.Context() for _ in range(8)], []
    for context in contexts:
        rclpy.init(context=context)
        node = Node(f"many_{count}", context=context)
        kept.append((node, node.create_subscription(JointTrajectory, "/arm/command", lambda message: None, 10)))
        count += 1
    time.sleep(0.3)
    for (node, _), context in zip(kept, contexts):
        node.destroy_node()
        rclpy.try_shutdown(context=context)
"""


def many_come_and_go(stage: Stage, trial: int) -> str:
    """Eight participants at once, again and again."""
    stage.child(MANY, "6").wait(120.0)
    return ""


def listener_stopped(stage: Stage, trial: int) -> str:
    """Somebody listens to the command topic and is stopped (Ctrl-Z in a terminal)."""
    other = stage.child(PARTICIPANT, "stopped", "600", "properly")
    try:
        time.sleep(2.0)
        other.send_signal(signal.SIGSTOP)
        time.sleep(3.0)
    finally:
        other.kill()
        other.wait(10.0)
    return ""


# --- the simulator


def simulator(act: signal.Signals, seconds: float) -> Inject:
    def row(stage: Stage, trial: int) -> str:
        stage.processes.signal("sim", act)
        if act == signal.SIGKILL:
            stage.told("joint state of")
            return "joint state of"
        time.sleep(seconds)
        stage.processes.signal("sim", signal.SIGCONT)
        return "joint state of"

    return row


ROWS = [
    *rows_of("clock", CLOCKS, breaks_off=True),  # without a clock no tick comes
    *rows_of(
        "bare",
        {
            "the controller's disk full": log_full("controller"),
            "three participants come and go": come_and_go("properly"),
            "three participants come and are killed": come_and_go("killed"),
            "participants come and go, eight at once": many_come_and_go,
            "a listener of the command topic stopped": listener_stopped,
        },
    ),
    *rows_of("chain", {"the recorder's disk full": recorder_full}),
    *rows_of(
        "sim",
        {
            "simulator stopped for 0.5 s": simulator(signal.SIGSTOP, 0.5),
            "simulator stopped for 3 s": simulator(signal.SIGSTOP, 3.0),
            "simulator killed": simulator(signal.SIGKILL, 0.0),
        },
    ),
]
