"""Recorder node: services, topics, buttons and diagnostics around `recorder.py`.

    ros2 run pi0_ros recorder_node --ros-args -p robot:=demo_arm -p out_dir:=bags
    ros2 topic pub --once /recorder/prompt std_msgs/msg/String "{data: put the red cube in the tray}"
    ros2 service call /recorder/start std_srvs/srv/Trigger
    ros2 service call /recorder/success std_srvs/srv/Trigger      # stop, and mark it so

`pi0 record` does the same by keys. A joystick's buttons: `-p joy_buttons:="start=0 success=1 failure=2 discard=3"`.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import Joy
from std_msgs.msg import String
from std_srvs.srv import Trigger

from pi0_ros.base.disk import check_folder, expanded
from pi0_ros.base.errors import InputError
from pi0_ros.base.foreign import MAX_LINE_CHARS, check_prompt, shortened
from pi0_ros.nodes.messages import diagnostic_array, diagnostic_status, hardware_id, own_name
from pi0_ros.nodes.parameters import declare
from pi0_ros.nodes.prompt_listener import PromptListener
from pi0_ros.nodes.recorder import Recorder, RecorderError, RecorderOptions, free_bytes
from pi0_ros.nodes.running import keep_freed_memory, run_node
from pi0_ros.robot import load_robot

OUTCOMES = ("success", "failure")
ACTIONS = ("start", "stop", "toggle", *OUTCOMES, "discard")


def joy_buttons(text: str) -> dict[int, str]:
    """`"start=0 stop=1"` as button -> action; ValueError says what is wrong with it."""
    buttons = {}
    for word in text.split():
        action, _, number = word.partition("=")
        if action not in ACTIONS or not number.isdecimal():
            raise InputError(f"joy_buttons: {word!r}: write ACTION=NUMBER with {', '.join(ACTIONS)}")
        if int(number) in buttons:
            raise InputError(f"joy_buttons: button {number} is there twice")
        buttons[int(number)] = action
    return buttons


class RecorderNode(Node):
    """The recorder as a node: a service per action, `~/prompt`, `~/outcome`, `joy`, `/diagnostics`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("recorder", **kwargs)
        values = declare(self, "recorder")
        self.add_on_set_parameters_callback(self._check_prompt)
        robot = load_robot(values["robot"])
        self.out_dir = expanded(values["out_dir"]).resolve()
        check_folder(self.out_dir)
        if not values["prompt"] and robot.prompt:  # the parameter is what is in force
            self.set_parameters([Parameter("prompt", value=robot.prompt)])
        options = RecorderOptions(
            pre_roll_s=values["pre_roll_s"],
            queue_bytes=values["queue_mb"] * 1_000_000,
            min_free_bytes=values["min_free_mb"] * 1_000_000,
            compression=values["compression"],
            extra_topics=tuple(filter(None, values["extra_topics"])),
        )
        self._outcome = ""
        self.recorder = Recorder(self, robot, self.out_dir, options, self.get_logger().error)
        self._prompts = PromptListener(self, "~/prompt", self._prompted)
        self.create_subscription(String, "~/outcome", self._set_outcome, 10)
        for name in ACTIONS:
            self.create_service(Trigger, f"~/{name}", partial(self._serve, name))
        self._buttons = joy_buttons(values["joy_buttons"])
        self._pressed: set[int] = set()
        if self._buttons:
            self.create_subscription(Joy, "joy", self._joy, 10)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_timer(0.5, self._publish_diagnostics, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.get_logger().info(f"records {', '.join(self.recorder.topics)} into {self.out_dir}")

    @property
    def _prompt(self) -> str:
        return str(self.get_parameter("prompt").value)

    def _prompted(self, text: str) -> None:
        """The topic sets the parameter; an empty text asks for the robot file's prompt."""
        text = text or self.recorder.robot.prompt
        if text == self._prompt:
            return
        result = self.set_parameters([Parameter("prompt", value=text)])[0]
        if result.successful:
            when = "from the next episode on" if self.recorder.recording else "for the next episode"
            self.get_logger().info(f"prompt {when}: {shortened(text, MAX_LINE_CHARS)!r}")
        else:
            self.get_logger().error(f"{result.reason}; the one before stays")
        self._publish_diagnostics()

    def _check_prompt(self, parameters: list[Parameter]) -> SetParametersResult:
        try:
            for parameter in parameters:
                if parameter.name == "prompt":
                    check_prompt(str(parameter.value))
        except InputError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _set_outcome(self, message: String) -> None:
        if message.data in OUTCOMES:
            self._outcome = message.data
        else:
            self.get_logger().error(f"outcome {message.data!r} ignored: send 'success' or 'failure'")

    def _joy(self, message: Joy) -> None:
        pressed = {number for number, value in enumerate(message.buttons) if value}
        for number in sorted(pressed - self._pressed):
            if number in self._buttons:
                self._serve(self._buttons[number], Trigger.Request(), Trigger.Response())
        self._pressed = pressed

    def _serve(self, action: str, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            response.success, response.message = self._act(action)
        except (RecorderError, OSError) as error:
            response.success, response.message = False, str(error)
        if response.success:
            self.get_logger().info(response.message)
        else:
            self.get_logger().error(response.message)
        self._publish_diagnostics()
        return response

    def _act(self, action: str) -> tuple[bool, str]:
        """Whether it went well, and what is to be said."""
        if action == "toggle":
            action = "stop" if self.recorder.recording else "start"
        if action == "start":
            self._outcome = ""
            return True, str(self.recorder.start(self._prompt))
        if action == "discard":
            return True, str(self.recorder.discard())
        recording = self.recorder.stop(action if action in OUTCOMES else self._outcome or "unknown")
        if recording.empty:
            self.get_logger().warning(f"{recording.path.name} holds no message of {', '.join(recording.empty)}")
        return not recording.problem, recording.summary()

    def _publish_diagnostics(self) -> None:
        recorder = self.recorder
        level, text = DiagnosticStatus.OK, f"recording {recorder.path.name}" if recorder.path else "idle"
        lost = {topic: count for topic, count in recorder.lost().items() if count}
        if recorder.problem:
            level, text = DiagnosticStatus.ERROR, f"{text}; {recorder.problem.splitlines()[0]}"
        elif recorder.recording and recorder.silent():
            level, text = DiagnosticStatus.WARN, f"{text}; silent: {', '.join(recorder.silent())}"
        elif recorder.missing():
            level, text = DiagnosticStatus.WARN, f"{text}; no publisher: {', '.join(recorder.missing())}"
        elif lost:
            level, text = DiagnosticStatus.WARN, f"{text}; lost: {', '.join(lost)}"
        values: dict[str, object] = {
            "state": "recording" if recorder.recording else "idle",
            "episode": recorder.path or "",
            "prompt": recorder.prompt or self._prompt or recorder.robot.prompt,
            "outcome": self._outcome,
            "duration_s": round(recorder.duration_s, 1),
            "queue": recorder.pending,
            "queue_mb": round(recorder.pending_bytes / 1e6, 1),
            "free_gb": round(free_bytes(self.out_dir) / 1e9, 2),
            "saved": recorder.saved,
            "discarded": recorder.discarded,
            "problem": recorder.problem,
            "refuses": "" if recorder.recording else recorder.obstacle(self._prompt),
            **self._stream_values(),
        }
        status = diagnostic_status(own_name(self), level, text, values, hardware_id(self, recorder.robot.name))
        self._diagnostics.publish(diagnostic_array(self.get_clock().now().to_msg(), [status]))

    def _stream_values(self) -> dict[str, object]:
        recorder, now_s = self.recorder, time.monotonic()
        values: dict[str, object] = {}
        for topic, meter in recorder.meters.items():
            age_s = meter.age_s(now_s)
            values[f"rate_hz {topic}"] = round(meter.rate_hz(now_s), 1)
            values[f"age_s {topic}"] = "" if age_s is None else round(age_s, 3)
        for topic, count in recorder.counts.items():
            lost = recorder.lost()[topic]
            values[f"messages {topic}"] = count
            values[f"written {topic}"] = recorder.written[topic]
            values[f"lost {topic}"] = "unknown" if lost is None else lost
        return values

    def close(self) -> None:
        """The process ends."""
        try:
            kept = self.recorder.close()
        except OSError as error:
            self.get_logger().error(str(error))
            return
        if kept is not None:
            self.get_logger().warning(f"stopped in the middle of an episode: kept as {kept}")


def main(args: list[str] | None = None) -> int:
    """Record until SIGINT or SIGTERM; an episode under way is kept under its `.partial` name."""
    keep_freed_memory()
    return run_node("recorder", RecorderNode, args, RecorderNode.close)


if __name__ == "__main__":
    sys.exit(main())
