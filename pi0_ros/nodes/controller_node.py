"""The controller: action chunks in, commands within the robot's limits out, at its control rate, whatever dies.

    ros2 run pi0_ros controller_node --ros-args -p robot:=demo_arm
    ros2 service call /controller/arm std_srvs/srv/SetBool "{data: true}"
    ros2 service call /controller/estop std_srvs/srv/Trigger

Listens to `pi0/chunk`, the robot file's state topics and, where it names them, a person's poses; publishes the robot
file's command topics, `pi0/command` (what was really sent), `pi0/plan` (what will be), `pi0/state`, `pi0/in_charge`
(person, policy or nobody) and `/diagnostics`. What it does when is in
`pi0_ros/control/controller.py`; no torch here.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from pi0_ros.base.foreign import shortened
from pi0_ros.base.middleware import without_shared_memory
from pi0_ros.control import realtime
from pi0_ros.control.chunk import ChunkError
from pi0_ros.control.controller import Controller
from pi0_ros.control.feedback import Feedback
from pi0_ros.control.latency import controller_half
from pi0_ros.control.limits import joint_limits, limits_of
from pi0_ros.control.pacing import LateFraction, steady_seconds
from pi0_ros.control.states import ARMED, Command, Settings, State
from pi0_ros.nodes.arming import Arming, Arrival
from pi0_ros.nodes.auto_arm import AutoArm
from pi0_ros.nodes.command_output import SHADOW, CommandOutput
from pi0_ros.nodes.deadman_button import DeadmanButton
from pi0_ros.nodes.emergency_stop import EmergencyStop
from pi0_ros.nodes.messages import (
    LATEST,
    STATES,
    chunk_from_message,
    diagnostic_array,
    diagnostic_status,
    hardware_id,
    message_class,
    ns_to_stamp,
    own_name,
    seconds_to_stamp,
)
from pi0_ros.nodes.neighbours import Neighbours
from pi0_ros.nodes.parameters import declare
from pi0_ros.nodes.person import Person
from pi0_ros.nodes.plan_sender import Planner
from pi0_ros.nodes.received import own_stamp_ns, read_chunk, read_state, state_stamp_ns
from pi0_ros.nodes.robots import robot_of
from pi0_ros.nodes.running import run_node
from pi0_ros.nodes.shadow import Shadow, unwatched
from pi0_ros.nodes.ticker import TOGETHER_S, Ticker
from pi0_ros.observation.joint_messages import JointsHeard, MessageError
from pi0_ros.robot import Robot, StateTopic

LEVELS = {State.HOLDING: DiagnosticStatus.WARN, State.STOPPED: DiagnosticStatus.ERROR}
REFUSAL_SHOWN_S = 5.0  # how long a refused or dropped chunk keeps the diagnostics at WARN
TRACES = 64  # chunks that wait for their latency trace to be published
LATE_FRACTION = 0.05  # diagnostics warn when more than this fraction of the last seconds' ticks were skipped
SHUTDOWN_S = 3.0  # decelerating at shutdown takes no longer; launch sends SIGTERM 5 s after SIGINT


class ControllerNode(Node):
    """Messages in, commands out. Callbacks run in the executor's thread, ticks in their own on absolute deadlines."""

    def __init__(self) -> None:
        super().__init__("controller")
        values = declare(self, "controller")
        settings = Settings(**{field.name: values[field.name] for field in fields(Settings)})
        self._realtime = realtime.Realtime(
            values["realtime.priority"],
            values["realtime.lock_memory"],
            [core for core in values["realtime.cpu"] if core >= 0],
        )
        self.robot = robot_of(self, values["robot"])
        self.period = 1.0 / self.robot.control_rate_hz
        moved, seen = self.robot.moved, self.robot.seen
        simulated = bool(self.get_parameter("use_sim_time").value)  # which may be as slow as it likes
        stall_s = np.inf if simulated else None
        self.shadow = Shadow(self, self.robot) if values["shadow"] else None
        self.output = CommandOutput(self, moved, shadow=self.shadow is not None)
        self._arming = Arming(self, self.robot, self.output.topics, values["waive"])
        limits = self._arming.limits(limits_of(self.robot))
        beside = None  # what is only seen must be fresh and at rest, too
        if seen.joints:
            beside = Feedback(self._arming.limits(joint_limits(seen)), self.robot.ages_of(seen.joint_names))
        if self.shadow is not None:
            settings, limits = unwatched(settings), replace(limits, tracking=np.array(np.inf))
        ages, takeover = self.robot.ages_of(moved.joint_names), self.robot.takeover
        self.controller = Controller(limits, self.period, ages, settings, stall_s, takeover, beside)
        self.output.turned = self.controller.feedback.turned
        for sender, _ in self.output.goals:
            sender.fail = self._fail
        self._lock = threading.Lock()  # around self.controller
        shadow = self.shadow is not None  # there the operator leads anyway
        self.person = None if shadow else Person(self, moved, self.controller, self._lock)
        patience = 0.0 if shadow else values["auto_arm_timeout_s"]  # what commands nothing may wait for ever
        self._auto_arm = AutoArm(values["auto_arm"] or shadow, patience, steady_seconds())
        self._deadman: DeadmanButton | None = None
        self._state_problems: dict[str, str] = {}
        self._refused_at = -np.inf
        self._accepted: dict[int, int] = {}  # chunk's stamp -> when it came, ns
        self._followed: deque[tuple[int, int]] = deque(maxlen=TRACES)  # (its stamp, time of its first command), ns
        self._shown: tuple[object, ...] = ()
        self._shown_at = -np.inf
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", QoSProfile(depth=10))
        self._latency = self.create_publisher(DiagnosticArray, "pi0/latency", QoSProfile(depth=10))
        chunks = self.create_subscription(JointTrajectory, "pi0/chunk", self._on_chunk, LATEST, raw=True)
        for topic in self.robot.state:
            self.create_subscription(message_class(topic.type), topic.topic, self._listener(topic), STATES, raw=True)
        self._neighbours = Neighbours(self, self.output.topics, chunks.topic_name)
        self._policies: frozenset[bytes] = frozenset()  # that were there when the controller was armed
        self.create_service(SetBool, "~/arm", self._on_arm)
        self.create_service(Trigger, "~/reset", self._on_reset)
        self.create_timer(0.05, self._watch, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._late = LateFraction()
        problems = realtime.enter(self._realtime)  # before the ticker, whose thread inherits it
        self.planner = Planner(self.controller, self._lock, self.output, self.now)
        self.ticker = Ticker(self, self.period, self._tick)
        self.controller.goes_alone = self.output.planned_joints
        self._yield_to_ticks(2)  # what looks ahead must not keep an emergency stop waiting
        self.planner.start()
        self._yield_to_ticks(1)  # callbacks: above all others, they hold the interpreter
        self.emergency_stop = EmergencyStop(self, self._estop)
        if values["deadman_topic"]:
            pad, button = self.resolve_topic_name(values["deadman_topic"]), values["deadman_button"]
            self._deadman = DeadmanButton(self.emergency_stop.node, pad, button, values["deadman_timeout_s"])
        if problems:
            self.get_logger().warning(f"{'; '.join(problems)}. Going on without")

    def now(self) -> float:
        """ROS time in s."""
        return self.now_ns() * 1e-9

    def now_ns(self) -> int:
        """ROS time in ns."""
        return int(self.get_clock().now().nanoseconds)

    def _yield_to_ticks(self, by: int) -> None:
        """Run this thread, and those it starts from now on, with a priority that is lower by this much."""
        if self._realtime.priority > by:
            realtime.set_priority(self._realtime.priority - by)

    @property
    def alive(self) -> bool:
        """False once one of its threads has ended by an exception."""
        return self.ticker.alive and self.emergency_stop.alive and self.planner.alive

    def close(self) -> None:
        """Stop ticking, decelerate to a hold, and see to it that the hold has left this process."""
        self.ticker.stop()
        active = self.controller.state in ARMED or self.controller.moving
        self.controller.disarm("the controller process was stopped")
        self.planner.stop()
        self.planner.publish()
        deadline = time.monotonic()
        try:
            for _ in range(int(SHUTDOWN_S / self.period)):
                if not self._tick(self.now()):
                    break
                deadline += self.period
                time.sleep(max(0.0, deadline - time.monotonic()))
        except Exception as error:  # what ended the ticks may end these: the hold still has to leave
            self.get_logger().error(f"stopped at once instead of decelerating: {type(error).__name__}: {error}")
        if active:
            still = np.zeros(len(self.controller.sent))
            last = np.where(self.controller.limits.speed, 0.0, self.controller.sent)  # also of a base that is too fast
            self.output.publish(Command(last, still, still), self.now(), self._in_time)
        self._publish_diagnostics()
        self.output.flush(0.5)
        self.emergency_stop.close()
        self._neighbours.sole.close()

    def _listener(self, topic: StateTopic) -> Callable[[bytes], None]:
        decode = JointsHeard([topic], positions=True)
        moved, seen = (places_of(topic, robot) for robot in (self.robot.moved, self.robot.seen))
        entry = f"{topic.topic} {topic.joints}"  # one topic may have several

        def on_state(data: bytes) -> None:
            try:
                message = read_state(data, topic)
                position = decode(message)
            except MessageError as error:
                self._state_problems[entry] = shortened(str(error))
                self.get_logger().warning(self._state_problems[entry], throttle_duration_sec=5.0)
                return
            if never := decode.never():
                self._state_problems[entry] = shortened(never)
            else:
                self._state_problems.pop(entry, None)
            if (heard := np.isfinite(position)).any():
                now_ns, own_ns = self.now_ns(), own_stamp_ns(topic, message)
                stamp, arrived = state_stamp_ns(topic, message, now_ns) * 1e-9, not own_ns
                age_s = (now_ns - own_ns) * 1e-9 if own_ns else None
                self._arming.heard(topic, Arrival(time.monotonic(), position, now_ns, age_s))
                with self._lock:
                    for (at, joints), take in ((moved, self.controller.measure), (seen, self.controller.see)):
                        if (known := heard[at]).any():
                            take(stamp, joints[known], position[at][known], arrived)

        return on_state

    def _on_chunk(self, data: bytes) -> None:
        now_ns = self.now_ns()
        now = now_ns * 1e-9
        self._watch_policies()
        try:
            chunk = chunk_from_message(read_chunk(data), self.robot.action_names, now_ns)
            with self._lock:
                taken = self.controller.accept(chunk, now)
            if taken:
                self._accepted[chunk.stamp_ns] = now_ns
                self._arm_unasked()
            else:
                self._refused_at = time.monotonic()
                self.get_logger().warning(f"pi0/chunk: {self.controller.last_refusal}", throttle_duration_sec=1.0)
        except ChunkError as error:
            self._refused_at, reason = time.monotonic(), shortened(str(error))
            with self._lock:
                self.controller.refuse(reason, now)
            self.get_logger().error(f"pi0/chunk refused: {reason}", throttle_duration_sec=1.0)

    def _arm_unasked(self) -> None:
        """A chunk has come that could be followed: where nothing speaks against it, the next one is."""
        if self._auto_arm.waiting and self.shadow is None and self.controller.state is State.DISARMED:
            self._arm()

    def _on_arm(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        if request.data:
            problems = self._arm()
            if not problems:
                self._auto_arm.end()
            response.success, response.message = not problems, "; ".join(problems) or "armed"
        else:
            self._auto_arm.end()
            with self._lock:
                self.controller.disarm("disarmed by ~/arm")
            response.success, response.message = True, f"{self.controller.state.value}: {self.controller.reason}"
        return response

    def _against_arming(self, policies: frozenset[bytes]) -> list[str]:
        """What speaks against arming beyond what the controller itself knows."""
        feedback, place = self.controller.feedback, np.full(len(self.robot.joints), np.nan)
        for robot, found in ((self.robot.moved, feedback), (self.robot.seen, feedback.beside)):
            if found is not None:
                place[self.robot.indices(robot.joint_names)] = found.position
        problems = [*self._rivals(), *self._arming.problems(place)]
        problems += filter(None, (sender.problem() for sender, _ in self.output.goals))
        if self._deadman is not None and (withheld := self._deadman.problem()):
            problems.append(withheld)
        if not policies:
            problems.append("nobody publishes pi0/chunk: start the policy first")
        return problems

    def _arm(self) -> list[str]:
        policies = self._neighbours.policies()
        problems = self._against_arming(policies)
        with self._lock:
            if not problems and self.emergency_stop.pressed_elsewhere:
                problems = [self.emergency_stop.release()]
            if problems:
                problems += self.controller.not_ready(self.now())
            elif not (problems := self.controller.arm(self.now())):
                self._policies = policies
        if not problems and self._arming.waived:
            self.get_logger().warning(f"armed with these checks waived: {' '.join(sorted(self._arming.waived))}")
        return [*self._state_problems.values(), *problems] if problems else []

    def _watch_policies(self) -> None:
        """Chunks of a policy that was not there when the controller was armed are not followed before it is anew."""
        if self.controller.state in ARMED and self._neighbours.count_policies() > 0:
            policies = self._neighbours.policies()
            if policies <= self._policies:
                return
            with self._lock:
                reason = "a policy has appeared since the controller was armed: call ~/arm to follow it"
                self.controller.disarm(reason) if self.controller.state is State.IDLE else self.controller.fail(reason)

    def _watch_rivals(self) -> None:
        """Two who command one robot make it jump from one to the other: we are the one that stops."""
        if self.controller.state in ARMED and (rivals := self._rivals()):
            with self._lock:
                self.controller.fail("; ".join(rivals))

    def _fail(self, reason: str) -> None:
        """A gripper's server does not take its commands: hold, as for whatever else is wrong."""
        with self._lock:
            if self.controller.state in ARMED:
                self.controller.fail(reason)

    def _rivals(self) -> list[str]:
        return [] if "publishers" in self._arming.waived else self._neighbours.rivals()

    def _estop(self, reason: str) -> None:
        self._auto_arm.end()
        with self._lock:
            self.controller.estop(reason)

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        problem = self.emergency_stop.release()
        with self._lock:
            problems = [problem] if problem else self.controller.reset()
        response.success, response.message = not problems, "; ".join(problems) or "reset; ~/arm to start"
        return response

    def _instant(self, due: float) -> tuple[float, float]:
        """When a tick that was `due` (ROS time, s) really is, and the steady time: the present where the process stood
        still since, so that nothing from the time in between counts as new."""
        for _ in range(3):  # both clocks at one moment, again where something came in between
            before, now, steady = steady_seconds(), self.now(), steady_seconds()
            if steady - before < TOGETHER_S:
                break
        return now if now - due > self.controller.stalls.limit_s else due, steady

    def _tick(self, due: float) -> bool:
        """One tick that was `due` (ROS time, s): whether there was a command, sent or too late to be sent."""
        controller = self.controller
        with self._lock:
            now, steady = self._instant(due)
            controller.withheld = self._deadman.withholds() if self._deadman else ""
            chunks = controller.counts.chunks
            command = controller.tick(now, steady)
            self.output.say_in_charge(controller.in_charge)  # before the first command of whoever it is now
            followed = controller.timeline.chunk if controller.counts.chunks != chunks else None
        alone = command is not None and command.alone is not None  # what only brakes a base is never too late
        sent = None
        if command is not None:
            sent = self.output.publish(command, now, (lambda: True) if alone else self._in_time)
        with self._lock:
            if sent is not None and sent.all():
                controller.published(self.now(), steady_seconds())
            elif sent is not None:
                controller.withdraw(self.now(), steady_seconds(), ~sent)  # the present: it may have stood still
                command = followed = None
            self.planner.ticked(None if alone else command, now)
        if self.shadow is not None and command is not None and not alone:
            self.shadow.compare(command.position, now)
        if followed is not None:
            self._followed.append((followed.stamp_ns, self.now_ns()))
        return sent is not None

    def _in_time(self) -> bool:
        """Whether the last tick's command may leave: later it would be one that follows a stall."""
        return not self.controller.too_late(self.now(), steady_seconds())

    def _watch(self) -> None:
        """Arm by itself where asked, log changes, and publish diagnostics on change and twice a second."""
        self._watch_policies()
        self._watch_rivals()
        if self.shadow is None and (self.controller.state is State.RUNNING or self.controller.fault):
            self._auto_arm.end()  # it arms until there was something to follow
        if self._auto_arm.waiting and self.controller.state is State.DISARMED:
            self._wait_to_arm()
        self._publish_traces()
        controller = self.controller
        shown = (controller.state, controller.reason, controller.counts.refused, *self._state_problems.values())
        if shown[:2] != self._shown[:2]:
            text = f"{SHADOW + ' ' if self.shadow else ''}{controller.state.value}: {controller.reason}"
            if controller.state in LEVELS or controller.fault:
                self.get_logger().warning(text)
            else:  # two calls: rclpy ties a line of code to one severity
                self.get_logger().info(text)
        if shown != self._shown or time.monotonic() - self._shown_at >= 0.5:
            self._shown, self._shown_at = shown, time.monotonic()
            self._publish_diagnostics()

    def _wait_to_arm(self) -> None:
        """A shadow arms as soon as it can; all else when a chunk is there, and says meanwhile what it waits for."""
        if self.shadow is not None:
            problems = self._arm()
        else:
            with self._lock:
                unready = self.controller.not_ready(self.now())
            problems = [*self._state_problems.values(), *self._against_arming(self._neighbours.policies()), *unready]
            problems = problems or ["a chunk of the policy that can be followed"]
        if problems:
            self._auto_arm.wait_for(problems, steady_seconds())
            if self._auto_arm.gave_up:
                self.get_logger().warning(f"auto_arm {self._auto_arm.said}")
            else:
                self.get_logger().info(f"auto_arm {self._auto_arm.said}", throttle_duration_sec=5.0)

    def _publish_traces(self) -> None:
        """The controller's halves of the latency traces of the chunks that it began to follow."""
        while self._followed:
            stamp_ns, commanded_ns = self._followed.popleft()
            accepted_ns = self._accepted.pop(stamp_ns, None)
            if accepted_ns is not None:
                values = controller_half(stamp_ns, accepted_ns, commanded_ns)
                status = diagnostic_status("chunk followed", DiagnosticStatus.OK, "", values)
                self._latency.publish(diagnostic_array(ns_to_stamp(commanded_ns), [status]))
        while len(self._accepted) > TRACES:  # chunks that were replaced before the next tick
            del self._accepted[next(iter(self._accepted))]

    def _publish_diagnostics(self) -> None:
        now = self.now()
        with self._lock:
            values = self.controller.report(now)
            feedback = self.controller.feedback
            waiting = feedback.not_ready(now) if self.controller.state is State.DISARMED else feedback.stale(now)
            self.output.say_in_charge(self.controller.in_charge, again=True)
        problems = [*self._state_problems.values(), *waiting, *([self.person.problem()] if self.person else [])]
        text = f"{values['state']}: {values['reason']}"
        level = LEVELS.get(self.controller.state, DiagnosticStatus.OK)
        if values["fault"]:
            level = DiagnosticStatus.ERROR  # until somebody acknowledges it: arm, disarm or reset
        if problems := list(filter(None, problems)):
            level, text = max(level, DiagnosticStatus.WARN), f"{text}; not ready: {'; '.join(problems)}"
        if troubles := [sender.trouble for sender, _ in self.output.goals if sender.trouble]:
            level, text = max(level, DiagnosticStatus.WARN), f"{text}; {'; '.join(troubles)}"
        if time.monotonic() - self._refused_at < REFUSAL_SHOWN_S:
            level, text = max(level, DiagnosticStatus.WARN), f"{text}; last chunk trouble: {values['last_refusal']}"
        if self.controller.state is State.DISARMED and (self._auto_arm.waiting or self._auto_arm.gave_up):
            level = max(level, DiagnosticStatus.WARN) if self._auto_arm.gave_up else level
            text = f"{text}; auto_arm {self._auto_arm.said}"
        pacer = self.ticker.pacer
        late = self._late.update(time.monotonic(), pacer.ticks, pacer.late_ticks)
        if late > LATE_FRACTION:
            cure = "relieve the machine or set realtime.priority"
            level, text = max(level, DiagnosticStatus.WARN), f"{text}; {late:.0%} of the ticks come too late: {cure}"
        values |= {
            "policies": self._neighbours.count_policies(),
            "rate_hz": self.robot.control_rate_hz,
            "auto_arm": self._auto_arm.said,
            "waived": " ".join(sorted(self._arming.waived)) or "none",
            "deadman": (self._deadman.problem() or "pressed") if self._deadman is not None else "none",
            "late_fraction": late,
            **pacer.report(),
        }
        if self.shadow is not None:
            values |= {"state": f"{SHADOW} {values['state']}", **self.shadow.report()}
            text = f"{SHADOW}, nothing is commanded: {text}"
        status = diagnostic_status(own_name(self), level, text, values, hardware_id(self, self.robot.name))
        self._diagnostics.publish(diagnostic_array(seconds_to_stamp(now), [status]))
        self.output.say_state(self.controller.state.value)


def places_of(topic: StateTopic, robot: Robot) -> tuple[np.ndarray, np.ndarray]:
    """Which of an entry's joints are among those of `robot`, and where they stand there; intp."""
    at = [n for n, joint in enumerate(topic.joints) if joint in robot.joint_names]
    return np.array(at, np.intp), robot.indices([topic.joints[n] for n in at])


def main(args: list[str] | None = None) -> int:
    """Run the controller until SIGINT or SIGTERM; the last command out is a hold."""
    sys.setswitchinterval(0.0001)  # s; the tick's thread gets the interpreter sooner
    os.environ.update(without_shared_memory(os.environ))  # whoever is suspended shall not block a tick
    return run_node("controller", _create, args, ControllerNode.close, alive=lambda node: node.alive)


def _create() -> ControllerNode:
    node = ControllerNode()
    gc.collect()
    gc.freeze()  # what exists now is never scanned again: no long collection in a tick
    return node


if __name__ == "__main__":
    sys.exit(main())
