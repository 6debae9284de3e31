"""What the policy node says of itself: `/diagnostics`, and each change once in its log."""

from __future__ import annotations

import time
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node

from pi0_ros.base.foreign import shortened
from pi0_ros.inference.backend import Backend, HasLink
from pi0_ros.inference.link import ANSWERS, Link
from pi0_ros.inference.prefix import Continuation
from pi0_ros.inference.runner import RUNNING, STARTING, Health, Runner
from pi0_ros.nodes.messages import diagnostic_array, diagnostic_status, hardware_id, own_name
from pi0_ros.robot import Robot

LOG_AGAIN_S = 5.0  # a lasting problem is logged this often


@dataclass(frozen=True)
class Present:
    """How the policy is now; what it does not have yet is None."""

    phase: str  # of its lifecycle
    refusal: str  # why it was not configured
    health: Health
    runner: Runner | None
    backend: Backend | None
    continuation: Continuation | None
    robot: Robot | None

    @property
    def active(self) -> bool:
        return self.phase == "active"


class PolicyVoice:
    """Speaks for the policy node; remembers what it has said."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._logged_at = 0.0
        self._prefix_problem = ""  # why chunks do not continue each other
        self._slowed = ""  # why they are executed slower than recorded
        self._link_condition = ""  # of the way to the servers

    def log(self, health: Health) -> None:
        """Whether chunks come, and why not."""
        self._logged_at = time.monotonic()
        if health.state == RUNNING:
            self._node.get_logger().info("publishing chunks")
        elif health.state != STARTING:
            self._node.get_logger().warning(f"no chunk: {health.reason}")

    def remind(self, present: Present) -> None:
        """Log what lasts, now and then, and what is new; to be called again and again."""
        health, continuation = present.health, present.continuation
        if health.reason and present.active and time.monotonic() - self._logged_at > LOG_AGAIN_S:
            self.log(health)
        problem = continuation.problem if continuation is not None else ""
        if problem and not self._prefix_problem:
            self._node.get_logger().warning(f"chunks do not continue each other: {problem}")
        self._prefix_problem = problem
        self._say_slowed(continuation.slowed if continuation is not None else "")

    def publish(self, present: Present) -> None:
        """A message of `/diagnostics`."""
        hardware = hardware_id(self._node, present.robot.name) if present.robot is not None else ""
        statuses = [self._status(present, hardware)]
        backend: object = present.backend
        if isinstance(backend, HasLink):
            self._say_link(backend.link, present.active)
            statuses.append(link_status(f"{own_name(self._node)} link", backend.link, hardware))
        self._publisher.publish(diagnostic_array(self._node.get_clock().now().to_msg(), statuses))

    def _status(self, present: Present, hardware: str) -> DiagnosticStatus:
        health, continuation = present.health, present.continuation
        state, reason, slowed, level = present.phase, "", "", DiagnosticStatus.WARN
        if present.refusal:
            state, reason, level = "refused", present.refusal, DiagnosticStatus.ERROR
        elif present.active:
            state, reason = health.state, health.reason
            waiting = DiagnosticStatus.WARN if state in (STARTING, "prompt") else DiagnosticStatus.ERROR
            slowed = continuation.slowed if state == RUNNING and continuation is not None else ""
            level = (DiagnosticStatus.WARN if slowed else DiagnosticStatus.OK) if state == RUNNING else waiting
        metadata = present.backend.metadata if present.backend is not None else None
        values: dict[str, object] = {
            "state": state,
            "reason": reason,
            "prompt": present.runner.prompt if present.runner is not None else "",
            "backend": self._node.get_parameter("backend").value,
            "checkpoint": metadata.checkpoint if metadata is not None else "",
            "chunks": health.chunks,
            "latency_p50_ms": health.latency_p50_ms,
            "latency_p99_ms": health.latency_p99_ms,
            "stale_events": health.stale_events,
            "backend_errors": health.backend_errors,
            **(continuation.report() if continuation is not None else {}),
            **{f"age_s {topic}": age for topic, age in health.ages_s.items()},
        }
        return diagnostic_status(own_name(self._node), level, reason or slowed or state, values, hardware)

    def _say_slowed(self, slowed: str) -> None:
        """Once for each speed."""
        speed, before = slowed.partition(":")[0], self._slowed
        if speed and speed != before:
            self._node.get_logger().warning(f"{slowed}. A number for execution_speed would be obeyed instead")
        elif before and not speed:
            asked = self._node.get_parameter("execution_speed").value
            self._node.get_logger().info(f"no longer slowed: execution_speed {asked}")
        self._slowed = speed

    def _say_link(self, link: Link, active: bool) -> None:
        """Which of several servers answers, where that has changed."""
        if link.condition != self._link_condition and len(link.servers) > 1 and active:
            if link.trouble:
                self._node.get_logger().warning(f"link: {shortened(link.trouble)}")
            else:
                self._node.get_logger().info(f"link: {link.server} answers")
        self._link_condition = link.condition


def link_status(name: str, link: Link, hardware: str) -> DiagnosticStatus:
    """The way to the servers: WARN where the preferred one does not answer, ERROR where none does."""
    trouble, level = link.trouble, DiagnosticStatus.OK
    if trouble:
        answering = link.server and link.servers[link.server] == ANSWERS
        level = DiagnosticStatus.WARN if answering or not link.server else DiagnosticStatus.ERROR
    values = {
        "server": link.server,
        "failovers": link.failovers,
        "late_answers": link.late_answers,
        "round_trip_p50_ms": link.round_trip_p50_ms,
        "round_trip_p99_ms": link.round_trip_p99_ms,
        "clock_offset_ms": link.offset_ms,
        "clock_offset_error_ms": link.offset_error_ms,
        "to_server_ms": link.up_ms,
        "from_server_ms": link.down_ms,
        "question_bytes": link.sent_bytes,
        **{f"server {address}": shortened(state) for address, state in link.servers.items()},
    }
    summary = f"{link.server} {link.round_trip_p50_ms:.0f} ms" if link.server else "no server has answered yet"
    return diagnostic_status(name, level, shortened(trouble) or summary, values, hardware)
