"""Rows of the fault table around the controller: stalls, joint states, chunks, rivals, its own end."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Callable

import numpy as np
import rclpy
from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter
from rows import Inject, rows_of
from sensor_msgs.msg import JointState
from stage import STATE_HZ, Stage
from std_msgs.msg import Bool
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from pi0_ros.nodes.messages import LATEST, seconds_to_stamp


def stall(seconds: float) -> Inject:
    def row(stage: Stage, trial: int) -> str:
        stage.at_speed()
        stage.processes.signal("controller", signal.SIGSTOP)
        time.sleep(seconds)
        stage.processes.signal("controller", signal.SIGCONT)
        return "stood still"

    return row


def moved_meanwhile(stage: Stage, trial: int) -> str:
    stage.at_speed()
    stage.processes.signal("controller", signal.SIGSTOP)
    stage.body.follows = False
    for _ in range(40):
        stage.body.position = stage.body.position - [0.02 * np.sign(stage.body.position[0]), 0.0, 0.0]
        time.sleep(0.02)
    stage.processes.signal("controller", signal.SIGCONT)
    time.sleep(0.5)
    stage.body.stay()
    stage.body.mend()
    time.sleep(0.8)
    return "stood still"


def chunks_killed(stage: Stage, trial: int) -> str:
    stage.processes.signal("chunks", signal.SIGKILL)
    stage.told("no newer chunk")
    return "no newer chunk"


def chunks_stopped(stage: Stage, trial: int) -> str:
    stage.processes.signal("chunks", signal.SIGSTOP)
    stage.told("no newer chunk")
    time.sleep(0.2 * trial)  # at one time within rearm_after_s, at another beyond
    stage.processes.signal("chunks", signal.SIGCONT)
    return "no newer chunk"


def states(change: Callable[[JointState, int], JointState] | None, seconds: float, words: str) -> Inject:
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


def repeated_stamp(stage: Stage, trial: int) -> str:
    return str(states(Repeated(), 1.0, "joint state of")(stage, trial))


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


def twice(state: JointState, count: int) -> JointState:
    """The first joint's name again, elsewhere."""
    names, positions = [*state.name, state.name[0]], [*state.position, state.position[0] + 0.7]
    return JointState(header=state.header, name=names, position=positions)


def velocities_only(state: JointState, count: int) -> JointState:
    return JointState(header=state.header, name=state.name, velocity=[0.0] * len(state.name))


def too_short(state: JointState, count: int) -> JointState:
    return JointState(header=state.header, name=state.name, position=list(state.position)[:2])


def other_robots(state: JointState, count: int) -> JointState:
    return JointState(header=state.header, name=[f"left_{name}" for name in state.name], position=state.position)


def nothing(state: JointState, count: int) -> JointState:
    return JointState()


def strange_stamp(sec: int, nanosec: int = 0) -> Callable[[JointState, int], JointState]:
    def change(state: JointState, count: int) -> JointState:
        state.header.stamp.sec, state.header.stamp.nanosec = sec, nanosec
        return state

    return change


class Repeated:
    """One stamp for all that follows, although the joints go on."""

    def __init__(self) -> None:
        self.kept = (-1, 0)

    def __call__(self, state: JointState, count: int) -> JointState:
        if count == 0:
            self.kept = state.header.stamp.sec, state.header.stamp.nanosec
        state.header.stamp.sec, state.header.stamp.nanosec = self.kept
        return state


def stamps_backwards(state: JointState, count: int) -> JointState:
    """Each is older than the one before by as much as it should be newer."""
    state.header.stamp = seconds_to_stamp(time.time() - 2.0 * count / STATE_HZ)
    return state


def other_driver(state: JointState, count: int) -> JointState:
    """Every second message is of a driver that sees the arm elsewhere."""
    return shifted(0.6)(state, count) if count % 2 else state


def state_flood(stage: Stage, trial: int) -> str:
    end = time.monotonic() + 2.0
    while time.monotonic() < end:
        state = JointState(name=list(stage.body.names), position=stage.body.position.tolist())
        state.header.stamp = seconds_to_stamp(time.time())
        stage.body.states.publish(state)
        time.sleep(0.0003)
    time.sleep(0.5)
    return ""


def call_flood(stage: Stage, trial: int) -> str:
    """Somebody calls ~/arm without end, and releases a button that nobody pressed; the emergency stop is answered."""
    end, arm = time.monotonic() + 2.0, stage.body.asked["arm"]
    waiting = []
    while time.monotonic() < end:
        waiting.append(arm.call_async(SetBool.Request(data=True)))
        stage.body.button.publish(Bool(data=False))
        time.sleep(0.002)
    assert stage.body.call("estop"), "the emergency stop was not answered"
    for future in waiting:
        arm.remove_pending_request(future)
    time.sleep(0.8)
    return "emergency stop by ~/estop"


def wrong_chunk(name: str, make: Callable[[JointTrajectory], JointTrajectory]) -> Inject:
    def row(stage: Stage, trial: int) -> str:
        for _ in range(3):
            stage.body.chunks.publish(make(stage.body.chunk(np.tile(stage.body.position, (24, 1)))))
            time.sleep(0.05)
        time.sleep(0.4)
        return "" if name in NOT_WRONG else "chunk trouble"

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


def _strange_stamp(sec: int, nanosec: int) -> Callable[[JointTrajectory], JointTrajectory]:
    def make(message: JointTrajectory) -> JointTrajectory:
        message.header.stamp.sec, message.header.stamp.nanosec = sec, nanosec
        return message

    return make


def _reordered(message: JointTrajectory) -> JointTrajectory:
    message.joint_names = list(reversed(message.joint_names))
    for point in message.points:
        point.positions = list(reversed(point.positions))
    return message


def _wrong_velocity(i: int, point: JointTrajectoryPoint) -> None:
    point.velocities = [float("nan"), float("inf"), 1e300]


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
    "a time twice": _time(lambda i: 0.05 * (i - (i > 5))),
    "times that begin later": _time(lambda i: 0.05 * i + 0.3),
    "times before now": _time(lambda i: 0.05 * i - 0.5),
    "dt of 68 years": _time(lambda i: (2.0**31 - 1) * i / 23),
    "uneven times": _time(lambda i: 0.05 * i + (0.04 if i % 2 else 0.0)),
    "dt of 1 us": _time(lambda i: 1e-6 * i),
    "dt of 1000 s": _time(lambda i: 1000.0 * i),
    "stamp in the future": _stamp(30.0),
    "stamp of an hour ago": _stamp(-3600.0),
    "stamp before 1970": _strange_stamp(-5, 0),
    "stamp of 4 billion ns": _strange_stamp(0, 2**32 - 1),
    "the names of another robot": _with(joint_names=["left_yaw", "left_elbow", "left_gripper"]),
    "joints in another order": _reordered,
    "velocities that are no numbers": _points(_wrong_velocity),
    "one infinity among the joints of one point": _value(1, lambda i: float("-inf") if i == 11 else 0.0),
    "no stamp": lambda message: _with(header=type(message.header)())(message),
    "a frame of 900 kB": _garbage_frame,
    "empty message": lambda message: JointTrajectory(),
}


NOT_WRONG = (  # are followed
    "wild within the limits",
    "one step of 3 rad",
    "gripper chatter",
    "a frame of 900 kB",
    "joints in another order",
    "velocities that are no numbers",
)


def same_chunk_again(stage: Stage, trial: int) -> str:
    """One message, and so one stamp, twenty times; then another of the same stamp that leads elsewhere."""
    message = stage.body.chunk(np.tile(stage.body.position, (24, 1)))
    for _ in range(20):
        stage.body.chunks.publish(message)
        time.sleep(0.01)
    for point in message.points:
        point.positions[0] = -float(np.sign(stage.body.position[0]))
    stage.body.chunks.publish(message)
    time.sleep(0.4)
    return "chunk trouble"


def chunk_flood(stage: Stage, trial: int) -> str:
    end = time.monotonic() + 2.0
    while time.monotonic() < end:
        steps = np.tile(stage.body.position, (24, 1)) + np.random.default_rng().uniform(-0.02, 0.02, (24, 3))
        stage.body.chunks.publish(stage.body.chunk(steps, 0.01))
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


def stopped_while_stopped(way: str) -> Inject:
    """The button is pressed while the controller is suspended: it must find out when it wakes."""

    def row(stage: Stage, trial: int) -> str:
        stage.at_speed()
        stage.processes.signal("controller", signal.SIGSTOP)
        time.sleep(0.2)
        if way == "topic":
            stage.body.button.publish(Bool(data=True))
        else:
            stage.body.asked["estop"].call_async(Trigger.Request())
        time.sleep(0.3 + 0.2 * (trial % 3))
        stage.processes.signal("controller", signal.SIGCONT)
        assert stage.wait(lambda: stage.state() == "STOPPED", stage.told_s), f"it is {stage.text()[:120]}"
        time.sleep(0.5)
        return "emergency stop by"

    return row


def stutter(stage: Stage, trial: int) -> str:
    """Suspended again and again, for shorter and for longer than what counts as a stall."""
    stage.at_speed()
    for k in range(30):
        stage.processes.signal("controller", signal.SIGSTOP)
        time.sleep(0.02 + 0.01 * ((k + trial) % 9))
        stage.processes.signal("controller", signal.SIGCONT)
        time.sleep(0.03)
    time.sleep(0.3)
    return "stood still" if stage.robot.control_rate_hz >= 50.0 else ""  # at 20 Hz 0.1 s are no stall


def indecision(stage: Stage, trial: int) -> str:
    """Armed and disarmed in motion, again and again, as fast as it answers."""
    for _ in range(8):
        stage.body.call("arm", False)
        time.sleep(0.1)
        stage.wait(lambda: stage.body.call("arm"), 5.0)
        time.sleep(0.3)
    return ""


def hurry(stage: Stage, trial: int) -> str:
    """Stopped, reset and armed as fast as it answers: no status need show a stop that is over at once."""
    for _ in range(5):
        assert stage.body.call("estop"), "the emergency stop was not answered"
        stage.body.call("reset")
        stage.wait(lambda: stage.body.call("arm"), 5.0)
        time.sleep(0.3)
    return ""


def simulated_for_a_while(stage: Stage, trial: int) -> str:
    """`use_sim_time` is set in motion, and set back."""
    request = SetParameters.Request(parameters=[Parameter("use_sim_time", value=True).to_parameter_msg()])
    client = stage.body.create_client(SetParameters, "/controller/set_parameters")
    stage.at_speed()
    assert client.wait_for_service(5.0), "no parameters"
    client.call_async(request)
    time.sleep(2.0)
    request.parameters[0].value.bool_value = False
    client.call_async(request)
    time.sleep(0.8)
    stage.body.destroy_client(client)
    return ""


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
    stage.wait(lambda: "another" in stage.text(), 3.0 * stage.told_s)  # it takes a while to start
    time.sleep(1.0)
    stage.processes.stop("second")
    time.sleep(1.0)
    return "another"


def started_together(stage: Stage, trial: int) -> str:
    """Two controllers of one name are started at the same instant: one of them at most is ever armed."""
    stage.processes.stop("controller")
    stage.start_controller("second")
    stage.start_controller()
    asked = stage.wait(lambda: stage.body.asked["arm"].service_is_ready(), 20.0)
    assert asked, "no controller answers"
    end = time.monotonic() + 6.0
    while time.monotonic() < end:
        stage.body.call("arm")
        time.sleep(0.2)
    assert stage.processes.is_running("second") and stage.processes.is_running("controller")
    stage.processes.stop("second")
    time.sleep(1.0)
    return ""


def namesake(stage: Stage, trial: int) -> str:
    """A node that only has the controller's name."""
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=stage.context.get_domain_id())
    node = Node("controller", context=context)
    stage.told("another node /controller")
    node.destroy_node()
    rclpy.try_shutdown(context=context)
    time.sleep(0.5)
    return "another node /controller"


def blocked(stage: Stage, trial: int) -> str:
    stage.body.follows = False
    stage.told("from its command")
    time.sleep(0.3 * trial)  # at one time within relax_after_s, at another beyond
    stage.body.stay()
    stage.body.mend()
    time.sleep(0.5)
    return "from its command"


def disarm(stage: Stage, trial: int) -> str:
    stage.body.call("arm", False)
    time.sleep(1.0)
    return "disarmed by ~/arm"


def ended(number: signal.Signals) -> Inject:
    def row(stage: Stage, trial: int) -> str:
        stage.at_speed()
        stage.processes.signal("controller", number)
        stage.wait(lambda: not stage.processes.is_running("controller"), 8.0)
        time.sleep(0.3)
        return ""

    return row


def _elsewhere(stage: Stage, trial: int) -> Callable[[], np.ndarray]:
    """A person whose leader arm is somewhere else, and moves."""
    centre = np.random.default_rng(trial).uniform([-1.5, -0.8, 0.0], [1.5, 0.8, 1.0])
    return lambda: centre + [0.3 * np.sin(2.0 * time.monotonic()), 0.1 * np.cos(2.0 * time.monotonic()), 0.0]


def _take_over(stage: Stage, person: Callable[[], np.ndarray]) -> None:
    stage.body.person = person
    time.sleep(0.1)
    assert stage.body.call("takeover"), "the takeover was refused"
    assert stage.wait(lambda: stage.state() == "TAKEOVER", stage.told_s), "no TAKEOVER"


def taken_over(stage: Stage, trial: int) -> str:
    stage.at_speed()
    _take_over(stage, _elsewhere(stage, trial))
    time.sleep(1.2 + 0.3 * (trial % 3))
    assert stage.body.call("takeover", False)
    return "a person leads"


def fell_silent(stage: Stage, trial: int) -> str:
    stage.at_speed()
    _take_over(stage, _elsewhere(stage, trial))
    time.sleep(0.8)
    stage.body.person = None
    stage.told("none of their poses")
    time.sleep(0.6 * (trial % 3))  # at one time within rearm_after_s, at another beyond
    stage.body.call("takeover", False)
    return "none of their poses"


def leaps(stage: Stage, trial: int) -> str:
    """Poses that no hand makes: anywhere, each time."""
    random = np.random.default_rng(trial)
    stage.at_speed()
    _take_over(stage, lambda: random.uniform([-3.0, -1.5, -0.5], [3.0, 1.5, 1.5]))
    time.sleep(1.5)
    stage.body.call("takeover", False)
    return "a person leads"


def mad(stage: Stage, trial: int) -> str:
    """Numbers that are no poses, in turn."""
    poses = itertools.cycle([[np.nan, 0.0, 0.0], [90.0, 0.0, 0.0], [0.1, 0.1, np.inf], [1e308, 0.0, 0.0]])
    stage.at_speed()
    stage.body.person = lambda: np.array(next(poses))
    time.sleep(0.1)
    assert stage.body.call("takeover"), "the takeover was refused"
    stage.told("none of their poses")
    stage.body.call("takeover", False)
    return "none of their poses"


def back_and_forth(stage: Stage, trial: int) -> str:
    _take_over(stage, _elsewhere(stage, trial))
    random = np.random.default_rng(trial)
    for _ in range(8):
        stage.body.call("takeover", False)
        time.sleep(random.uniform(0.0, 0.4))
        stage.body.call("takeover")
        time.sleep(random.uniform(0.0, 0.4))
    stage.body.call("takeover", False)
    return "a person leads"


_ROWS: dict[str, Inject] = {
    **{f"controller stopped for {s:g} s": stall(s) for s in (0.1, 0.3, 0.6, 0.9, 3.0, 10.0, 40.0)},
    "the robot moved by 0.8 rad while the controller was stopped": moved_meanwhile,
    "policy killed": chunks_killed,
    "policy stopped": chunks_stopped,
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
    "joint states: a name twice, 0.7 rad apart": states(twice, 1.0, ""),
    "joint states: velocities only": states(velocities_only, 1.0, "joint state of"),
    "joint states: fewer positions than names": states(too_short, 1.0, "joint state of"),
    "joint states of another robot": states(other_robots, 1.0, "joint state of"),
    "joint states: empty": states(nothing, 1.0, "joint state of"),
    "joint states: one stamp again and again": repeated_stamp,
    "joint states: stamps that go backwards": states(stamps_backwards, 1.5, "joint state of"),
    "joint states: stamp before 1970": states(strange_stamp(-5), 1.0, "joint state of"),
    "joint states: stamp of 4 billion ns": states(strange_stamp(5, 2**32 - 1), 1.0, "joint state of"),
    "joint states: infinity": states(shifted(float("inf")), 1.0, "joint state of"),
    "joint states of two drivers, 0.6 rad apart": states(other_driver, 0.5, "said to have moved"),
    "joint states 2000 times a second": state_flood,
    "~/arm and the button's release 500 times a second": call_flood,
    **{f"chunk: {name}": wrong_chunk(name, make) for name, make in WRONG_CHUNKS.items()},
    "chunk: one and the same again": same_chunk_again,
    "500 chunks a second": chunk_flood,
    "emergency stop among 20 chunks of 30 000 joints": flood_and_stop,
    "emergency stop by the service": estop_service,
    "emergency stop by the topic": estop_topic,
    "controller stopped thirty times for 0.02 to 0.1 s": stutter,
    "armed and disarmed in motion eight times": indecision,
    "stopped, reset and armed five times": hurry,
    "use_sim_time set in motion for 2 s": simulated_for_a_while,
    "another publisher of the command topic": rival,
    "another policy appears": second_policy,
    "a second controller of the same name": second_controller,
    "two controllers started at the same instant": started_together,
    "a node that has the controller's name": namesake,
    "a person takes over, and hands back": taken_over,
    "a person who leads falls silent": fell_silent,
    "a person who leads leaps about": leaps,
    "a person's poses: NaN, far away, infinity": mad,
    "taken over and handed back nine times": back_and_forth,
    "robot blocked": blocked,
    "disarmed in motion": disarm,
    "controller ended by SIGTERM": ended(signal.SIGTERM),
    "controller ended by SIGINT": ended(signal.SIGINT),
}

_BREAKING_OFF: dict[str, Inject] = {
    "controller killed": ended(signal.SIGKILL),
    "emergency stop (topic) while the controller is stopped": stopped_while_stopped("topic"),
    "emergency stop (service) while the controller is stopped": stopped_while_stopped("service"),
}

ROWS = [*rows_of("bare", _ROWS), *rows_of("bare", _BREAKING_OFF, breaks_off=True)]
