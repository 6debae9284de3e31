"""Flight recorder: the last minute of everything in memory, written when something goes wrong, at a mark, on request.

    ros2 run pi0_ros flight_node --ros-args -p robot:=demo_arm -p out_dir:=flights
    ros2 service call /flight/save std_srvs/srv/Trigger
    ros2 topic pub --once pi0/mark std_msgs/msg/String "{data: it hesitated before the cup}"

Keeps the robot file's topics, chunks, plans, commands, states, latency and /diagnostics. What it writes is a recording
as every other (MCAP), with the reason in its `custom_data`: `pi0 bag check`, `pi0 replay` and Foxglove read it.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from std_msgs.msg import String
from std_srvs.srv import Trigger

from pi0_ros.base.disk import expanded
from pi0_ros.base.foreign import MAX_LINE_CHARS, shortened
from pi0_ros.control.incidents import Incidents
from pi0_ros.nodes.messages import (
    diagnostic_array,
    diagnostic_status,
    diagnostic_values,
    hardware_id,
    own_name,
    status_name,
)
from pi0_ros.nodes.parameters import declare
from pi0_ros.nodes.recorder import EPISODE, Recorder, RecorderError, RecorderOptions
from pi0_ros.nodes.running import keep_freed_memory, run_node
from pi0_ros.robot import load_robot

TOPICS = (
    *(
        "pi0/chunk",
        "pi0/command",
        "pi0/plan",
        "pi0/state",
        "pi0/latency",
        "pi0/subtask",
        "/diagnostics",
        "policy/prompt",
    ),
    *("pi0/mark", "pi0/estop", "pi0/shadow_command", "pi0/shadow_error"),
)
WATCH_S = 0.1
NO_PROMPT = "(no instruction was given)"


class FlightNode(Node):
    """A recorder that always listens and seldom writes."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("flight", **kwargs)
        values = declare(self, "flight")
        robot = load_robot(values["robot"])
        self.out_dir = expanded(values["out_dir"]).resolve()
        self._after_s, self._most_bytes = values["after_s"], values["max_disk_mb"] * 1_000_000
        options = RecorderOptions(
            pre_roll_s=values["seconds"],
            queue_bytes=2 * values["memory_mb"] * 1_000_000,  # the memory of the past, and as much on its way to disk
            min_free_bytes=values["min_free_mb"] * 1_000_000,
            compression=values["compression"],
            extra_topics=TOPICS,
            incomplete=True,
        )
        self.recorder = Recorder(self, robot, self.out_dir, options, self.get_logger().error)
        self._incidents = Incidents()
        self._controller = status_name(self, "controller")
        self._ends = 0.0  # steady time at which the incident under way is over
        self._reasons: list[str] = []  # of the incident under way
        self._prompt = robot.prompt
        self._last, self._problem = "", ""
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 50)
        self.create_subscription(String, "pi0/mark", self._on_mark, 10)
        self.create_subscription(String, "policy/prompt", self._on_prompt, 10)
        self.create_service(Trigger, "~/save", self._on_save)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(WATCH_S, self._watch, clock=steady)
        self.create_timer(0.5, self._publish_diagnostics, clock=steady)
        where = f"into {self.out_dir} when something goes wrong"
        self.get_logger().info(f"keeps the last {values['seconds']:g} s in memory, writes them {where}")

    def keep(self, reason: str) -> str:
        """Write what is in memory and what comes now; an incident under way goes on. Where, or why not."""
        self._ends = time.monotonic() + self._after_s
        if not self.recorder.recording:
            self._reasons = []
            try:
                path = self.recorder.start(self._prompt or NO_PROMPT, {"reason": reason})
            except (RecorderError, OSError) as error:
                self._problem = f"not kept ({reason}): {error}"
                self.get_logger().error(self._problem)
                return self._problem
            self.get_logger().warning(f"{reason}: keeps it as {path}")
        self._reasons.append(reason)
        return str(self.recorder.path)

    def close(self) -> None:
        """The process ends: what is under way is finished as it is."""
        if self.recorder.recording:
            self._finish()

    def _finish(self) -> None:
        try:
            recording = self.recorder.stop("incident", {"reasons": "\n".join(self._reasons)})
        except (RecorderError, OSError) as error:
            self._problem = str(error)
            self.get_logger().error(self._problem)
            return
        self._last, self._problem = f"{recording.path}: {self._reasons[0]}", recording.problem
        make_room(self.out_dir, self._most_bytes, recording.path)

    def _watch(self) -> None:
        if self.recorder.recording and time.monotonic() >= self._ends:
            self._finish()

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for values in [diagnostic_values(status) for status in message.status if status.name == self._controller]:
            if reason := self._incidents.look(values, time.monotonic()):
                self.keep(shortened(reason, MAX_LINE_CHARS))

    def _on_mark(self, message: String) -> None:
        self.keep(f"mark: {shortened(message.data, MAX_LINE_CHARS)}")

    def _on_prompt(self, message: String) -> None:
        self._prompt = shortened(message.data, MAX_LINE_CHARS)

    def _on_save(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.message = self.keep("asked for")
        response.success = self.recorder.recording
        return response

    def _publish_diagnostics(self) -> None:
        recorder = self.recorder
        level, text = DiagnosticStatus.OK, f"writing {recorder.path.name}" if recorder.path else "listening"
        if self._problem:
            level, text = DiagnosticStatus.ERROR, f"{text}; {self._problem}"
        past = recorder.early[-1].heard_s - recorder.early[0].heard_s if recorder.early else 0.0
        values = {
            "state": "writing" if recorder.recording else "listening",
            "in_memory_s": round(past, 1),
            "in_memory_mb": round(recorder.pending_bytes / 1e6, 1),
            "last": self._last,
            "written": recorder.saved,
            "missing": ", ".join(recorder.missing()),
        }
        status = diagnostic_status(own_name(self), level, text, values, hardware_id(self, recorder.robot.name))
        self._diagnostics.publish(diagnostic_array(self.get_clock().now().to_msg(), [status]))


def make_room(folder: Path, most_bytes: int, keep: Path) -> list[Path]:
    """Remove the oldest recordings of `folder` until they take at most `most_bytes`, never `keep`; those removed."""
    episodes = sorted(path for path in folder.iterdir() if EPISODE.fullmatch(path.name) and path.is_dir())
    sizes = {path: sum(file.stat().st_size for file in path.iterdir()) for path in episodes}
    removed = []
    for path in episodes:
        if sum(sizes.values()) <= most_bytes:
            break
        if path != keep:
            shutil.rmtree(path)
            del sizes[path]
            removed.append(path)
    return removed


def main(args: list[str] | None = None) -> int:
    """Listen until SIGINT or SIGTERM."""
    keep_freed_memory()
    return run_node("flight", FlightNode, args, FlightNode.close)


if __name__ == "__main__":
    sys.exit(main())
