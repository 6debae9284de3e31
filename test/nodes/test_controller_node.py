"""The controller process over real DDS, with a chunk source in a third process."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

rclpy = pytest.importorskip("rclpy")
from chunks import chunk_of  # noqa: E402
from controlled_arm import (  # noqa: E402, F401
    HOME,
    NAMES,
    PERIOD,
    VELOCITY,
    arm,
    assert_within_limits,
    robot_file,
    start,
    start_chunks,
)
from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from std_msgs.msg import Float64MultiArray, String  # noqa: E402
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint  # noqa: E402

from pi0_ros.control.pacing import steady_seconds  # noqa: E402
from pi0_ros.nodes import messages  # noqa: E402
from pi0_ros.robot import load_robot  # noqa: E402

pytestmark = pytest.mark.dds


def test_it_follows_chunks_and_stops_on_demand(arm, start, processes, robot_file, wait_until):  # noqa: F811
    pid = start()
    assert "torch" not in Path(f"/proc/{pid}/maps").read_text(), "the controller process must not load torch"
    start_chunks(processes, arm)
    time.sleep(1.0)
    assert not arm.sent and not arm.yaw, "nothing is commanded before arming"
    wait_until(lambda: arm.arm().success, 60.0, lambda: arm.status.message)
    swung = lambda: len(arm.sent) > 150 and np.ptp(arm.positions()[:, 0]) > 0.3  # noqa: E731
    wait_until(lambda: arm.state == "RUNNING" and swung(), 60.0, lambda: arm.status.message)
    np.testing.assert_allclose(arm.positions()[0], HOME, atol=0.02)
    values = arm.values()
    assert int(values["chunks"]) > 3 and values["refused"] == "0"
    assert {"clamps", "stale_events", "tick_p50_ms", "tick_p99_ms", "late_ticks", "reason"} <= values.keys()
    sent = {messages.stamp_to_ns(m.header.stamp): m.points[0] for m in list(arm.sent)}
    yaw = list(arm.yaw)[10:60]
    hand = [message for message in list(arm.hand) if messages.stamp_to_ns(message.header.stamp) in sent]
    assert len(yaw) == 50 and len(hand) > 50 and len(arm.elbow) > 50
    motion = {(point.positions[0], point.velocities[0]) for point in sent.values()}
    for message in yaw:
        assert list(message.joint_names) == ["yaw"] and messages.stamp_to_ns(message.header.stamp) == 0
        assert (message.points[0].positions[0], message.points[0].velocities[0]) in motion
    for message in hand:
        assert list(message.name) == ["finger"]
        assert message.position[0] == sent[messages.stamp_to_ns(message.header.stamp)].positions[2]
    assert {message.data[0] for message in list(arm.elbow)[20:40]} <= {point.positions[1] for point in sent.values()}

    assert arm.trigger("estop").success
    wait_until(lambda: arm.state == "STOPPED", 60.0, lambda: arm.status.message)
    assert arm.status.level == DiagnosticStatus.ERROR and "emergency stop" in arm.status.message
    wait_until(lambda: not np.any(arm.sent[-1].points[0].velocities), 60.0, "rest")
    time.sleep(1.0)  # what is under way arrives
    stopped = len(arm.sent)
    assert not np.any(arm.sent[-1].points[0].velocities)
    refused = arm.arm()
    assert not refused.success and "~/reset" in refused.message
    assert arm.trigger("reset").success and not arm.trigger("reset").success
    assert len(arm.sent) == stopped, "stopped and reset: silence"
    wait_until(lambda: arm.arm().success, 60.0)
    wait_until(lambda: arm.state == "RUNNING", 60.0)
    assert_within_limits(arm, robot_file)


def test_a_group_that_takes_plans_gets_each_one_whole(arm, start, robot_file, wait_until):  # noqa: F811
    document = yaml.safe_load(robot_file.read_text())
    document["commands"][0]["points"] = "trajectory"
    robot_file.write_text(yaml.safe_dump(document))
    start(armed=True)
    wait_until(lambda: arm.state == "IDLE" and len(arm.sent) > 30, 60.0, lambda: arm.status.message)
    sent = [0.0]

    def goes_along_a_plan() -> bool:
        if time.monotonic() - sent[-1] > 3.0:  # again, where a busy machine broke it off
            sent.append(time.monotonic())
            arm.send(time.time(), np.array([0.9, 0.0, 0.0]))
        return any(len(plan.points) > 20 for plan in arm.yaw)

    wait_until(goes_along_a_plan, 60.0, lambda: arm.status.message)
    rests = lambda: not np.any(arm.sent[-1].points[0].velocities)  # noqa: E731
    wait_until(lambda: arm.state == "HOLDING" and rests(), 60.0, lambda: arm.status.message)
    assert len(arm.yaw) < len(arm.sent) / 8, "a few plans, not one per tick"
    robot = load_robot(str(robot_file))
    for plan in arm.yaw:
        assert messages.stamp_to_ns(plan.header.stamp) == 0 and list(plan.joint_names) == ["yaw"]
        times = np.array([messages.stamp_to_ns(point.time_from_start) for point in plan.points]) * 1e-9
        path = np.array([point.positions[0] for point in plan.points])
        assert (np.diff(times) > 0).all() and times[0] > 0 and plan.points[-1].velocities[0] == 0.0
        assert (np.abs(np.diff(path)) <= robot.velocity[0] * np.diff(times) * (1 + 1e-6)).all()
    assert arm.yaw[-1].points[-1].positions[0] == pytest.approx(arm.positions()[-1, 0], abs=1e-6)

    def moving() -> bool:
        arm.send(time.time(), np.array([-0.9, 0.0, 0.0]))  # again and again: a controller that stood still forgets it
        time.sleep(0.1)
        return arm.sent[-1].points[0].velocities[0] < -0.5

    wait_until(moving, 60.0, lambda: arm.status.message)
    count = len(arm.yaw)
    assert arm.trigger("estop").success
    wait_until(lambda: len(arm.yaw) > count and rests(), 60.0)
    stop = arm.yaw[-1].points
    assert stop[-1].velocities[0] == 0.0 and stop[-1].positions[0] == pytest.approx(arm.positions()[-1, 0], abs=1e-6)


def test_a_joint_that_turns_without_end_goes_the_short_way(arm, start, robot_file, wait_until):  # noqa: F811
    """Its driver counts from -pi to pi, the chunk as well: from 2.0 to -1.7 it is 2.6 forward, across pi."""
    document = yaml.safe_load(robot_file.read_text())
    document["joints"][0] |= {"kind": "continuous", "limits": {"velocity": VELOCITY, "acceleration": 8.0}}
    robot_file.write_text(yaml.safe_dump(document))
    arm.told = lambda name, position: (position + np.pi) % (2 * np.pi) - np.pi if name == "yaw" else position
    start(armed=True, tracking_s=1.0)
    wait_until(lambda: arm.state == "IDLE" and len(arm.sent) > 30, 20.0, lambda: arm.status.message)

    def go(goal: float, reached: float) -> None:
        def there() -> bool:
            arm.send(time.time(), np.array([goal, 0.0, 0.0]))
            time.sleep(0.2)
            return abs(arm.sent[-1].points[0].positions[0] - reached) < 0.01

        wait_until(there, 40.0, lambda: f"{arm.status.message}, at {arm.sent[-1].points[0].positions}")

    go(2.0, 2.0)
    go(-1.7, 2 * np.pi - 1.7)
    assert arm.state == "RUNNING", arm.status.message
    path, told = arm.positions()[:, 0], np.array([message.points[0].positions[0] for message in list(arm.yaw)])
    assert np.abs(np.diff(path)).max() < 2 * VELOCITY * PERIOD and path.min() > 0.0
    assert told[-1] == pytest.approx(-1.7, abs=0.05) and np.abs(told).max() < np.pi + 1.0, "in the driver's count"
    assert_within_limits(arm, robot_file)


def test_a_killed_policy_ends_in_a_hold_and_needs_arming(arm, start, processes, robot_file, wait_until):  # noqa: F811
    start(auto_arm=True, rearm_after_s=2.0)
    start_chunks(processes, arm)
    moving = lambda: arm.sent and abs(arm.sent[-1].points[0].velocities[0]) > 0.4  # noqa: E731
    wait_until(moving, 60.0, lambda: arm.status.message)
    processes.signal("chunk_source", signal.SIGKILL)
    # A busy machine may let the controller stand still first: what holds now is said then, too.
    holds = lambda: arm.says("HOLDING", "no newer chunk") and arm.status.level == DiagnosticStatus.WARN  # noqa: E731
    wait_until(holds, 60.0, lambda: arm.status.message)
    wait_until(lambda: arm.says("DISARMED", "no newer chunk", "call ~/arm"), 60.0, lambda: arm.status.message)
    positions = arm.positions()
    np.testing.assert_array_equal(positions[-20:], np.tile(positions[-1], (20, 1)))
    assert not np.any(arm.sent[-1].points[0].velocities)
    assert_within_limits(arm, robot_file)
    held = len(arm.sent)
    start_chunks(processes, arm)
    time.sleep(2.0)
    assert arm.state == "DISARMED" and len(arm.sent) == held, "a policy that comes back waits for ~/arm"
    wait_until(lambda: arm.arm().success, 60.0, lambda: arm.status.message)
    wait_until(lambda: arm.state == "RUNNING" and moving(), 60.0, lambda: arm.status.message)
    assert_within_limits(arm, robot_file)


def test_bad_chunks_are_refused_with_their_reason_and_nothing_moves(arm, start, robot_file, wait_until):  # noqa: F811
    start(armed=True)
    wait_until(lambda: arm.state == "IDLE", 60.0, lambda: arm.status.message)
    goal = np.array([1.0, 0.5, 1.0])
    short = messages.chunk_to_message(chunk_of(1.0, 0.05, np.zeros((24, 2)), NAMES[:2])).points
    nan = messages.chunk_to_message(chunk_of(1.0, 0.05, np.zeros((24, 3)), NAMES)).points
    nan[5].positions = [0.0, float("nan"), 0.0]
    for why, stamp, changes in (
        ("NaN or infinity for elbow", 0.0, {"points": nan}),
        ("unknown joints: knee", 0.0, {"joint_names": ["yaw", "knee", "gripper"]}),
        ("expected 3", 0.0, {"points": short}),
        ("in the future", 30.0, {}),
        ("already over", -30.0, {}),
    ):
        arm.send(time.time() + stamp, goal, **changes)
        wait_until(lambda why=why: why in arm.status.message, 60.0, lambda: arm.status.message)
        assert arm.status.level == DiagnosticStatus.WARN
    arm.send(time.time(), np.array([90.0, 0.0, 0.0]))
    wait_until(lambda: "wrong unit" in arm.status.message, 60.0, lambda: arm.status.message)
    assert arm.state == "IDLE" and arm.values()["chunks"] == "0"
    positions = arm.positions()
    np.testing.assert_array_equal(positions, np.tile(positions[0], (len(positions), 1)))


def test_joint_states_that_are_missing_or_stale(arm, start, processes, robot_file, wait_until):  # noqa: F811
    arm.state_names = ["elbow"]
    processes.node("controller_node", robot=str(robot_file), tracking_s=0.0)
    lacks = "/arm/joint_states: no message has joint 'yaw'; they have elbow"
    wait_until(lambda: lacks in arm.status.message, 60.0, lambda: arm.status.message)
    answer = arm.arm()
    assert not answer.success and lacks in answer.message and "no joint state for yaw" in answer.message
    arm.state_names = ["elbow", "yaw"]
    start_chunks(processes, arm)
    wait_until(lambda: arm.arm().success, 60.0, lambda: arm.status.message)
    wait_until(lambda: arm.state == "RUNNING", 60.0, lambda: arm.status.message)
    arm.speaks = False
    wait_until(lambda: arm.says("joint state of", "limit 2.00 s"), 60.0, lambda: arm.status.message)
    wait_until(lambda: arm.state == "DISARMED", 60.0, lambda: arm.status.message)
    answer = arm.arm()
    assert not answer.success and "joint state of" in answer.message
    assert_within_limits(arm, robot_file)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_last_command_of_a_stopped_process_is_a_hold(arm, start, processes, robot_file, wait_until, number):  # noqa: F811
    start(auto_arm=True)
    start_chunks(processes, arm)
    moving = lambda: arm.sent and abs(arm.sent[-1].points[0].velocities[0]) > 0.4  # noqa: E731
    wait_until(moving, 60.0, lambda: arm.status.message)
    processes.signal("controller_node", number)
    wait_until(lambda: not processes.is_running("controller_node"), 60.0, "the controller's end")
    assert processes.returncode("controller_node") == 0, processes.tail("controller_node")
    wait_until(lambda: not np.any(arm.sent[-1].points[0].velocities), 60.0, "rest")
    time.sleep(0.5)  # the other topics
    last = arm.sent[-1].points[0]
    assert not np.any(last.velocities)
    assert arm.yaw[-1].points[0].positions[0] == last.positions[0] and arm.elbow[-1].data[0] == last.positions[1]
    assert_within_limits(arm, robot_file)


def test_simulated_time(arm, processes, robot_file, wait_until):  # noqa: F811
    clock = arm.create_publisher(Clock, "/clock", 10)
    arm.stamp = 100.0
    processes.node("controller_node", robot=str(robot_file), use_sim_time=True)
    paused = threading.Event()
    stop = threading.Event()

    def run_clock() -> None:
        while not stop.is_set():
            if not paused.is_set():
                arm.stamp += 0.01
            clock.publish(Clock(clock=messages.seconds_to_stamp(arm.stamp)))
            time.sleep(0.02)  # half speed

    runner = threading.Thread(target=run_clock)
    runner.start()
    try:
        wait_until(lambda: arm.arm().success, 60.0, lambda: arm.status.message)
        stamps = lambda: np.array([messages.stamp_to_seconds(m.header.stamp) for m in list(arm.sent)])  # noqa: E731
        wait_until(lambda: len(arm.sent) > 100, 60.0, lambda: arm.status.message)
        assert stamps().min() >= 100.0 and stamps().max() < 200.0
        assert np.median(np.diff(stamps())) == pytest.approx(PERIOD, abs=1e-6)
        arm.send(arm.stamp, np.array([0.5, 0.2, 1.0]))
        wait_until(lambda: arm.state == "RUNNING", 60.0, lambda: arm.status.message)
        paused.set()
        time.sleep(0.5)
        count = len(arm.sent)
        time.sleep(1.0)
        assert len(arm.sent) <= count + 1, "no ticks while time stands still"
        paused.clear()
        wait_until(lambda: arm.state == "HOLDING", 60.0, lambda: arm.status.message)
        assert_within_limits(arm, robot_file)
    finally:
        stop.set()
        runner.join()


def test_a_shadow_commands_nothing_and_says_how_far_it_is_from_the_operator(
    arm,  # noqa: F811
    start,  # noqa: F811
    processes,
    wait_until,
) -> None:
    wanted: list[JointTrajectory] = []
    errors: list[JointState] = []
    states: list[String] = []
    arm.create_subscription(JointTrajectory, "pi0/shadow_command", wanted.append, 200)
    arm.create_subscription(JointState, "pi0/shadow_error", errors.append, 200)
    arm.create_subscription(String, "pi0/state", states.append, messages.LATCHED)
    start(shadow=True)
    start_chunks(processes, arm)
    wait_until(lambda: arm.state == "SHADOW RUNNING" and len(wanted) > 50, 60.0, lambda: arm.status.message)
    topics = ("/arm/yaw", "/arm/elbow", "/hand/command", "pi0/command")
    assert [arm.count_publishers(topic) for topic in topics] == [0, 0, 0, 0]
    assert not arm.sent and not arm.yaw and not arm.elbow and not arm.hand
    assert arm.status.message.startswith("SHADOW, nothing is commanded") and states[-1].data == "SHADOW RUNNING"
    assert "no command has arrived" in arm.values()["shadow_operator"] and not errors

    kinds = {"yaw": JointTrajectory, "elbow": Float64MultiArray, "hand": JointState}
    operator = {name: arm.create_publisher(kind, topic, 10) for (name, kind), topic in zip(kinds.items(), topics)}
    goal = np.array([0.7, -0.2, 1.0])

    def command() -> bool:
        """The operator speaks to all three groups, each in its own type."""
        stamp = messages.seconds_to_stamp(time.time())
        operator["yaw"].publish(
            JointTrajectory(joint_names=["yaw"], points=[JointTrajectoryPoint(positions=[goal[0]])])
        )
        operator["elbow"].publish(Float64MultiArray(data=[goal[1]]))
        hand = JointState(name=["finger"], position=[goal[2]])
        hand.header.stamp = stamp
        operator["hand"].publish(hand)
        return len(errors) > 20

    wait_until(command, 40.0, lambda: str(arm.values()))
    assert list(errors[-1].name) == ["yaw", "elbow", "gripper"]
    sent = {messages.stamp_to_ns(message.header.stamp): message.points[0].positions for message in list(wanted)}
    compared = [e for e in list(errors) if messages.stamp_to_ns(e.header.stamp) in sent]
    assert len(compared) > 10
    for error in compared:
        np.testing.assert_allclose(
            error.position, np.array(sent[messages.stamp_to_ns(error.header.stamp)]) - goal, atol=1e-9
        )
    assert not arm.sent, "still nothing on pi0/command"


@pytest.mark.parametrize(("due", "is_at"), [(99.98, 99.98), (99.0, 100.0)])
def test_a_tick_that_was_suspended_since_it_was_due_is_of_the_present(due: float, is_at: float) -> None:
    """Else joint states from the beginning of the pause would count as newer than the pause."""
    from pi0_ros.nodes.controller_node import ControllerNode

    node = SimpleNamespace(now=lambda: 100.0, controller=SimpleNamespace(stalls=SimpleNamespace(limit_s=0.09)))
    now, steady = ControllerNode._instant(node, due)
    assert now == is_at and steady == pytest.approx(steady_seconds(), abs=60.0)


def test_a_command_that_a_suspension_kept_back_is_withdrawn_at_the_present() -> None:
    """Joint states from the pause would count as newer than it, if it were withdrawn at the tick's time."""
    from pi0_ros.nodes.controller_node import ControllerNode

    clock, withdrawn = SimpleNamespace(now=100.0), []
    controller = SimpleNamespace(
        counts=SimpleNamespace(chunks=0),
        in_charge="policy",
        tick=lambda now, steady: SimpleNamespace(alone=None),
        withdraw=lambda now, steady, joints: withdrawn.append(now),
    )

    def publish(command, now: float, in_time) -> np.ndarray:
        clock.now += 0.3  # the process stands still right before its command would leave
        return np.zeros(3, bool)

    node = SimpleNamespace(
        controller=controller,
        output=SimpleNamespace(publish=publish, say_in_charge=lambda who: None),
        planner=SimpleNamespace(ticked=lambda command, now: None),
        now=lambda: clock.now,
        **dict.fromkeys(("shadow", "_deadman", "_in_time")),
    )
    node._lock, node._instant = threading.Lock(), lambda due: (due, 50.0)
    assert ControllerNode._tick(node, 100.0)
    assert withdrawn == [100.3]
