"""The policy as a managed node: cameras, joint states and a prompt in, chunks of actions out.

It subscribes to the camera and state topics of the robot file and to `~/prompt`, to nothing else, and publishes
`pi0/chunk`, `pi0/latency` and `/diagnostics`. Callbacks only store messages; inference runs in a thread of its own.
Configuring loads and warms up the model, activating starts inferring, deactivating stops, cleaning up frees the memory;
the node takes the first two steps by itself unless `autostart` is false. Shutting down ends the process. The prompt's
home is the parameter of that name: the topic sets it.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from pi0_ros.base.errors import InputError, Pi0Error, mendable, report
from pi0_ros.base.foreign import MAX_LINE_CHARS, check_prompt, shortened
from pi0_ros.control.chunk import ActionChunk, ChunkError
from pi0_ros.control.latency import policy_half
from pi0_ros.control.plausible import Plausibility
from pi0_ros.control.states import ARMED, State
from pi0_ros.inference.backend import Backend
from pi0_ros.inference.options import OPTIONS, PolicyOptions
from pi0_ros.inference.pace import Pace
from pi0_ros.inference.prefix import Continuation, RtcSettings, check_trained
from pi0_ros.inference.runner import Health, Runner
from pi0_ros.inference.slowing import Slowing
from pi0_ros.inference.subtask import SubtaskWriter, make_subtask_writer
from pi0_ros.launching.parameter import Changes
from pi0_ros.launching.parameters import table
from pi0_ros.nodes.messages import (
    LATCHED,
    LATEST,
    chunk_to_message,
    diagnostic_array,
    diagnostic_status,
    message_class,
    plan_from_message,
    sent_from_message,
    stamp_to_ns,
)
from pi0_ros.nodes.parameters import declare
from pi0_ros.nodes.policy_voice import PolicyVoice, Present
from pi0_ros.nodes.prompt_listener import PromptListener
from pi0_ros.nodes.received import state_stamp_ns
from pi0_ros.nodes.robots import robot_of
from pi0_ros.nodes.running import interruptible, run_node
from pi0_ros.observation.joint_messages import MessageError, decode_positions
from pi0_ros.observation.streams import ObservationBuffer
from pi0_ros.policy.backends import make_backend
from pi0_ros.robot import Robot
from pi0_ros.robot.message_types import CAMERA_TYPES

CAMERA_DEPTH, STATE_DEPTH, COMMAND_DEPTH = 1, 20, 50
RAW_IMAGE = CAMERA_TYPES[0]
LATE_DEPTH = 20  # of cameras, where observations are of the past: of two pictures at once it may be the older one
STATES_ARMED = frozenset(state.value for state in ARMED)
PERIOD_S = 0.5  # of diagnostics and of looking for publishers


class PolicyNode(LifecycleNode):
    """Parameters in, a `Runner` called, messages out."""

    def __init__(self, **kwargs: Any) -> None:
        # All that `destroy_node` needs comes first: newer rclpy calls it where the rest of this raises.
        self._phase, self.refusal = "unconfigured", ""
        self._runner: Runner | None = None
        self._subtasks: SubtaskWriter | None = None
        self._backend: Backend | None = None
        self._robot: Robot | None = None
        self._buffer: ObservationBuffer | None = None
        self._continuation: Continuation | None = None
        self._streams: dict[str, Any] = {}  # topic -> subscription
        self._heard: list[Any] = []  # subscriptions to what the controller says
        self._plausibility: Plausibility | None = None
        self._doubted = -math.inf, ""  # when joint states last could not be true (steady s), and why
        self._timer: Any = None
        self._prompt_of_robot = False  # whether the parameter is the robot file's, because none was given
        self.failure: Exception | None = None  # what the refusal was
        super().__init__("policy", **kwargs)
        declare(self, "policy")
        self.add_on_set_parameters_callback(self._parameters_set)
        self._chunks = self.create_lifecycle_publisher(JointTrajectory, "pi0/chunk", LATEST)
        self._subtask = self.create_publisher(String, "pi0/subtask", LATCHED)
        self._voice = PolicyVoice(self)
        self._latency = self.create_publisher(DiagnosticArray, "pi0/latency", 10)
        self._prompts = PromptListener(self, "~/prompt", self._prompted)
        self.create_timer(PERIOD_S, self._housekeeping, clock=Clock(clock_type=ClockType.STEADY_TIME))
        answer = self._service_change_state.callback
        self._service_change_state.callback = partial(self._asked_to_change, answer)

    # --- lifecycle ----------------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read the robot file, load and warm up the model, subscribe; a refusal is logged and put into /diagnostics."""
        value = self._value
        started = time.perf_counter()
        self._phase, self.refusal, self.failure = "loading", "", None
        self._publish_diagnostics()  # loading a large model takes a while
        try:
            robot = robot_of(self, value("robot"))
            with interruptible():
                backend = make_backend(PolicyOptions(**{name: value(name) for name in OPTIONS}), robot=robot)
            continuation = self._make_continuation(robot, backend)
            buffer = ObservationBuffer(robot)
            rate_hz = value("subtask.rate_hz")
            subtasks = make_subtask_writer(rate_hz, backend, buffer, self._now_ns, self._publish_subtask)
        except Exception as error:  # a bug too must be seen in /diagnostics
            self.failure = error
            if mendable(error) is None and not value("autostart"):  # else `main` shows where it is
                report(error, "policy_node")
            self._phase, self.refusal = "unconfigured", mendable(error) or f"{type(error).__name__}: {error} (a bug)"
            if not value("autostart"):  # else `main` says it
                self.get_logger().fatal(self.refusal)
            self._publish_diagnostics()
            return TransitionCallbackReturn.FAILURE
        self._robot, self._backend = robot, backend
        self._buffer, self._subtasks, self._continuation = buffer, subtasks, continuation
        ends = robot.lower, robot.upper, robot.plausible_velocity
        self._plausibility = Plausibility(robot.joint_names, *ends, robot.space)
        if not value("prompt") and robot.prompt:
            self._prompt_of_robot = True
            self.set_parameters([Parameter("prompt", value=robot.prompt)])
        self._runner = Runner(
            self._buffer,
            backend,
            now_ns=self._now_ns,
            publish=self._publish_chunk,
            changed=self._health_changed,
            prompt=value("prompt"),
            continuation=continuation,
            doubt=self._doubt,
            traced=self._publish_trace,
            instruct=subtasks.instruction if subtasks is not None else lambda task: task,
        )
        topics = [*(camera.topic for camera in robot.cameras), *robot.state_topics]
        self._streams = {topic: self._subscribe(topic, ReliabilityPolicy.BEST_EFFORT) for topic in topics}
        if continuation.settings.mode != "off":  # best effort: a policy that hangs must never hold up the controller
            qos = QoSProfile(depth=COMMAND_DEPTH, reliability=ReliabilityPolicy.BEST_EFFORT)
            self._heard = [
                self.create_subscription(JointTrajectory, "pi0/command", self._commanded, qos),
                self.create_subscription(JointTrajectory, "pi0/plan", self._planned, qos),
                self.create_subscription(String, "pi0/state", self._controller_state, qos),
            ]
        self._phase = "inactive"
        description = (
            f"checkpoint {value('checkpoint')}" if value("backend") == "local" else f"server {value('server')}"
        )
        self.get_logger().info(f"robot '{robot.name}', {description}, ready in {time.perf_counter() - started:.1f} s")
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to infer."""
        assert self._robot is not None and self._runner is not None
        if not self._runner.start():
            self.get_logger().error("not activated: the last inference is still under way; try again")
            return TransitionCallbackReturn.FAILURE
        super().on_activate(state)
        if self._subtasks is not None:
            self._subtasks.start()
        rate_hz = self._value("policy_rate") or self._robot.policy_rate_hz
        self._timer = self.create_timer(1.0 / rate_hz, self._runner.wake)
        self._phase = "active"
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop inferring, after the inference under way."""
        self._stop()
        self._phase = "inactive"
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model and the subscriptions."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free everything, from any state; the process ends."""
        self._release()
        self._phase = "finalized"
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """A bug in one of the above: free everything, to be configured anew."""
        self.get_logger().error("a lifecycle step failed: configure again")
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def _asked_to_change(self, answer: Any, request: Any, response: Any) -> Any:
        """rclpy may take the process down for a transition that the node's state does not have."""
        allowed = {number: label for number, label, *_ in self._state_machine.available_transitions}
        asked = request.transition.label or request.transition.id
        if asked in (allowed.values() if request.transition.label else allowed):
            return answer(request, response)
        there = ", ".join(allowed.values()) or "none"
        self.get_logger().error(f"transition {asked} refused while {self._phase}: there are {there}")
        response.success = False
        return response

    @property
    def finalized(self) -> bool:
        """Whether it was shut down, for good."""
        return self._phase == "finalized"

    def autostart(self) -> bool:
        """Configure and activate, where the parameter asks for it; False when that was refused."""
        if not self._value("autostart"):
            return True
        return (
            self.trigger_configure() == TransitionCallbackReturn.SUCCESS
            and self.trigger_activate() == TransitionCallbackReturn.SUCCESS
        )

    def destroy_node(self) -> None:
        self._release()
        super().destroy_node()

    def _stop(self) -> bool:
        if self._timer is not None:
            self.destroy_timer(self._timer)
            self._timer = None
        written = self._subtasks is None or self._subtasks.stop()
        return (self._runner is None or self._runner.stop()) and written

    def _release(self) -> None:
        stopped = self._stop()
        for subscription in (*self._streams.values(), *self._heard):
            self.destroy_subscription(subscription)
        self._streams, self._heard = {}, []
        if self._prompt_of_robot and self._robot is not None and self._value("prompt") == self._robot.prompt:
            self.set_parameters([Parameter("prompt", value="")])  # another robot may be configured next
        self._prompt_of_robot = False
        if self._backend is not None and stopped:  # a thread that hangs in the backend still uses its sockets
            self._backend.close()
        self._backend = self._runner = self._subtasks = self._buffer = self._robot = self._continuation = None
        self._phase = "unconfigured"

    # --- messages -----------------------------------------------------------------------------------------------------

    def _subscribe(self, topic: str, reliability: ReliabilityPolicy) -> Any:
        assert self._robot is not None and self._buffer is not None
        raw = self._robot.topics[topic] == RAW_IMAGE
        depth = CAMERA_DEPTH if raw and not self._buffer.delay_ns else LATE_DEPTH  # of a stream none may be left out
        if topic in self._robot.state_topics:
            depth = STATE_DEPTH
        qos = QoSProfile(depth=depth, reliability=reliability)
        kind = message_class(self._robot.topics[topic])
        return self.create_subscription(kind, topic, partial(self._received, topic), qos)

    def _received(self, topic: str, message: Any) -> None:
        if self._buffer is not None:
            self._look_at_state(topic, message)
            self._buffer.push_message(topic, message, self._now_ns())

    def _look_at_state(self, topic: str, message: Any) -> None:
        """Joint states are judged as they come, by the same judgement as the controller's."""
        assert self._robot is not None and self._plausibility is not None
        for state in self._robot.state:
            if state.topic == topic:
                with contextlib.suppress(MessageError):  # the observation will say so
                    positions = decode_positions(state, message)
                    stamp = state_stamp_ns(state, message, self._now_ns()) * 1e-9
                    heard = np.isfinite(positions)
                    joints = self._robot.indices(state.joints)[heard]
                    if heard.any() and (problem := self._plausibility.look(stamp, joints, positions[heard])):
                        self._doubted = time.monotonic(), f"{topic}: {problem}"

    def _doubt(self, since: float) -> str:
        at, why = self._doubted
        return why if at > since else ""

    def _make_continuation(self, robot: Robot, backend: Backend) -> Continuation:
        """What makes each chunk continue the one before, and sets its pace. ValueError for what cannot be."""
        names = ("mode", "schedule", "max_guidance_weight", "mask_end")
        settings = RtcSettings(**{name: self._value(f"rtc.{name}") for name in names})
        if self._value("backend") == "openpi":
            if settings.mode not in ("auto", "off"):
                raise InputError(f"rtc.mode is {settings.mode}, but an openpi server cannot continue a chunk: use auto")
            settings = replace(settings, mode="off")
        elif backend.metadata is not None:
            check_trained(settings, backend.metadata)
        pace = Pace(are_speeds=robot.moved.speed_mask).asked(self._value("execution_speed"))
        slowing = Slowing(lambda: backend.metadata.rtc_trained_max_delay if backend.metadata is not None else 0)
        return Continuation(settings, robot.gripper_mask, robot.moved.velocity, robot.action_space, pace, slowing)

    def _commanded(self, message: JointTrajectory) -> None:
        if self._continuation is None or self._robot is None:
            return
        try:
            position = sent_from_message(message, self._robot.action_names)
        except ChunkError as error:
            self.get_logger().warning(f"pi0/command not used: {error}", throttle_duration_sec=5.0)
        else:
            self._continuation.sent(stamp_to_ns(message.header.stamp), position)

    def _planned(self, message: JointTrajectory) -> None:
        if self._continuation is None or self._robot is None:
            return
        try:
            begins_ns, plan = plan_from_message(message, self._robot.action_names)
        except ChunkError as error:
            self.get_logger().warning(f"pi0/plan not used: {error}", throttle_duration_sec=5.0)
        else:
            self._continuation.planned(begins_ns, plan)

    def _controller_state(self, message: String) -> None:
        if self._continuation is not None:
            running, led = (message.data == state.value for state in (State.RUNNING, State.TAKEOVER))
            self._continuation.state(message.data in STATES_ARMED, running, led)

    def _prompted(self, text: str) -> None:
        if text != self._value("prompt"):
            result = self.set_parameters([Parameter("prompt", value=text)])[0]
            if result.successful:
                self.get_logger().info(f"prompt: {shortened(text, MAX_LINE_CHARS)!r}")
            else:
                self.get_logger().error(f"{result.reason}; the one before stays", throttle_duration_sec=1.0)

    def _parameters_set(self, parameters: list[Parameter]) -> SetParametersResult:
        known = table("policy")
        fixed = [p.name for p in parameters if p.name in known and known[p.name].changes is Changes.UNCONFIGURED]
        if fixed and self._phase != "unconfigured":
            first = ["deactivate", "cleanup"] if self._phase == "active" else ["cleanup"]
            steps = " and ".join(f"`ros2 lifecycle set {self.get_fully_qualified_name()} {step}`" for step in first)
            reason = (
                f"{', '.join(fixed)} can change while the policy is unconfigured: call {steps}, set it, then "
                "`configure` and `activate` in the same way; or start the policy anew"
            )
            return SetParametersResult(successful=False, reason=reason)
        for parameter in parameters:
            if parameter.name == "prompt":
                try:
                    known["prompt"].check(parameter.value)
                    prompt = check_prompt(str(parameter.value))
                except InputError as error:
                    return SetParametersResult(successful=False, reason=str(error))
                if self._runner is not None:
                    self._runner.prompt = prompt
            elif parameter.name == "execution_speed" and self._continuation is not None:
                try:
                    known["execution_speed"].check(parameter.value)
                except InputError as error:
                    return SetParametersResult(successful=False, reason=str(error))
                self._continuation.pace = self._continuation.pace.asked(parameter.value)
        return SetParametersResult(successful=True)

    def _publish_chunk(self, chunk: ActionChunk) -> None:
        self._chunks.publish(chunk_to_message(chunk))

    def _publish_subtask(self, subtask: str) -> None:
        self._subtask.publish(String(data=subtask))

    def _publish_trace(self, chunk: ActionChunk, stages_ms: dict[str, float]) -> None:
        """The policy's half of the chunk's latency trace."""
        now = self.get_clock().now()
        values = policy_half(chunk.stamp_ns, chunk.dt, len(chunk.actions), now.nanoseconds, stages_ms)
        status = diagnostic_status("chunk published", DiagnosticStatus.OK, "", values)
        self._latency.publish(diagnostic_array(now.to_msg(), [status]))

    def _follow_publishers(self) -> None:
        """Subscribe reliably where every publisher offers that (large images get lost otherwise), else best effort."""
        for topic, subscription in list(self._streams.items()):
            offers = {info.qos_profile.reliability for info in self.get_publishers_info_by_topic(topic)}
            reliable = offers == {ReliabilityPolicy.RELIABLE}
            wanted = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
            if offers and wanted != subscription.qos_profile.reliability:
                self.destroy_subscription(subscription)
                self._streams[topic] = self._subscribe(topic, wanted)

    # --- health -------------------------------------------------------------------------------------------------------

    def _housekeeping(self) -> None:
        self._follow_publishers()
        self._publish_diagnostics()
        self._voice.remind(self._present())

    def _health_changed(self, health: Health) -> None:
        self._voice.log(health)
        self._publish_diagnostics()

    def _health(self) -> Health:
        return self._runner.health if self._runner is not None else Health()

    def _publish_diagnostics(self) -> None:
        self._voice.publish(self._present())

    def _present(self) -> Present:
        return Present(
            self._phase, self.refusal, self._health(), self._runner, self._backend, self._continuation, self._robot
        )

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM; 2 when the robot file or checkpoint is refused."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # torch's idle workers sleep; read when torch is imported
    return run_node("policy", _create, args, done=lambda node: node.finalized)


def _create() -> PolicyNode:
    node = PolicyNode()
    if not node.autostart():
        node.destroy_node()
        raise node.failure or Pi0Error(node.refusal)
    return node


if __name__ == "__main__":
    sys.exit(main())
