"""Recorder: the robot file's topics, exactly as they came, into one rosbag2 (MCAP) per episode.

`Recorder` is the core: it adds raw subscriptions to a node and is started and stopped by method calls. `RecorderNode`
puts services, topics and diagnostics around it:

    ros2 run pi0_ros recorder_node --ros-args -p robot:=demo_arm -p out_dir:=bags
    ros2 topic pub --once /recorder/prompt std_msgs/msg/String "{data: put the red cube in the tray}"
    ros2 service call /recorder/start std_srvs/srv/Trigger
    ros2 topic pub --once /recorder/outcome std_msgs/msg/String "{data: success}"
    ros2 service call /recorder/stop std_srvs/srv/Trigger
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from rclpy.subscription import Subscription
from std_msgs.msg import String
from std_srvs.srv import Trigger

from pi0_ros.nodes.episode_writer import PARTIAL, EpisodeWriter
from pi0_ros.nodes.messages import diagnostic_array, diagnostic_status, message_class
from pi0_ros.nodes.running import run_node
from pi0_ros.robot import Robot, load_robot

PROMPT_TOPIC = "/pi0/prompt"
QUEUE_DEPTH = 1000
GRAPH_PERIOD_S = 0.2
SILENT_AFTER_S = 1.0
EPISODE = re.compile(rf"episode_(\d+)({re.escape(PARTIAL)})?")


class RecorderError(ValueError):
    """The recorder cannot do what was asked; the message says what to do first."""


@dataclass(frozen=True)
class Recording:
    """A finished episode: where it lies and what is in it."""

    path: Path
    prompt: str
    outcome: str
    duration_s: float  # wall clock
    counts: dict[str, int]  # topic -> messages

    @property
    def empty(self) -> list[str]:
        """Topics of which not one message was recorded."""
        return [topic for topic, count in self.counts.items() if count == 0]

    def summary(self) -> str:
        """First line: the bag's folder. Then one line per topic with its number of messages."""
        return "\n".join([str(self.path), *(f"{topic}: {count}" for topic, count in self.counts.items())])


def next_index(out_dir: Path) -> int:
    """One more than the highest episode number in `out_dir`, unfinished episodes included."""
    matches = [EPISODE.fullmatch(entry.name) for entry in out_dir.iterdir()] if out_dir.is_dir() else []
    return max((int(match[1]) for match in matches if match), default=-1) + 1


class Recorder:
    """Records the topics of `robot` through `node` into `out_dir/episode_000000`, `episode_000001`, ...

    Subscriptions appear as soon as a topic's publisher is discovered, with that publisher's reliability: so the node
    must be spinning, and `missing()` says what is not there yet. All methods belong to the executor's thread.
    """

    def __init__(self, node: Node, robot: Robot, out_dir: str | Path) -> None:
        self.node = node
        self.robot = robot
        self.out_dir = Path(out_dir)
        self.topics = robot.topics
        self.saved = 0
        self.discarded = 0
        self._classes = {topic: message_class(kind) for topic, kind in self.topics.items()}
        self._subscriptions: dict[str, tuple[ReliabilityPolicy, Subscription]] = {}
        self._episode: EpisodeWriter | None = None
        self._custom_data: dict[str, str] = {}
        self._started = 0.0
        self._heard: dict[str, float] = {}
        # Steady time: discovery must go on while simulated time stands still.
        self._timer = node.create_timer(
            GRAPH_PERIOD_S, self._follow_publishers, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        self._follow_publishers()

    @property
    def recording(self) -> bool:
        """True between `start` and `stop` or `discard`."""
        return self._episode is not None

    @property
    def path(self) -> Path | None:
        """The folder the present episode will have once stopped."""
        return self._episode.path if self._episode else None

    @property
    def prompt(self) -> str:
        """The prompt of the present episode ("" when idle)."""
        return self._custom_data.get("prompt", "") if self.recording else ""

    @property
    def pending(self) -> int:
        """Messages that wait for the disk."""
        return self._episode.pending if self._episode else 0

    @property
    def counts(self) -> dict[str, int]:
        """Messages of the present episode per topic."""
        return dict(self._episode.counts) if self._episode else {}

    @property
    def duration_s(self) -> float:
        """Wall-clock seconds since the present episode started."""
        return time.monotonic() - self._started if self.recording else 0.0

    def missing(self) -> list[str]:
        """Camera, state and command topics that nobody publishes now (or that are not yet subscribed to)."""
        return [
            topic for topic in self.topics if topic not in self._subscriptions or not self.node.count_publishers(topic)
        ]

    def silent(self) -> list[str]:
        """Camera and state topics that sent nothing for a second while recording."""
        now = time.monotonic()
        sensors = [*(camera.topic for camera in self.robot.cameras), *(state.topic for state in self.robot.state)]
        return [topic for topic in sensors if now - self._heard.get(topic, self._started) > SILENT_AFTER_S]

    def start(self, prompt: str = "", extra: Mapping[str, str] | None = None) -> Path:
        """Begin an episode and return its future folder; `extra` (say, a seed) goes to the bag's custom data.

        Raises RecorderError while recording, without a prompt, or while a camera or state topic has no publisher.
        """
        if self._episode is not None:
            raise RecorderError(f"already recording {self._episode.path.name}: stop or discard it first")
        prompt = prompt.strip() or self.robot.prompt.strip()
        if not prompt:
            raise RecorderError("no prompt: give one, or set `prompt` in the robot file")
        commands = {group.topic for group in self.robot.commands}
        absent = [topic for topic in self.missing() if topic not in commands]
        if absent:
            raise RecorderError(f"nothing publishes {', '.join(absent)}: start the robot's drivers first")
        path = self.out_dir / f"episode_{next_index(self.out_dir):06d}"
        episode = EpisodeWriter(path, {PROMPT_TOPIC: "std_msgs/msg/String", **self.topics})
        episode.put(PROMPT_TOPIC, self._now_ns(), serialize_message(String(data=prompt)))
        self._custom_data = {**(extra or {}), "prompt": prompt, "robot": self.robot.name}
        self._started = time.monotonic()
        self._heard = {}
        self._episode = episode
        return path

    def stop(self, outcome: str = "unknown") -> Recording:
        """End the episode: write the rest, rename the folder into place.

        Raises RecorderError when idle, OSError when the disk refused.
        """
        episode, duration_s = self._take(), time.monotonic() - self._started
        path = episode.close({**self._custom_data, "outcome": outcome})
        self.saved += 1
        return Recording(path, self._custom_data["prompt"], outcome, duration_s, dict(episode.counts))

    def discard(self) -> Path:
        """End the episode and remove its folder; returns the name it would have had. Raises RecorderError when idle."""
        episode = self._take()
        episode.discard()
        self.discarded += 1
        return episode.path

    def close(self) -> Path | None:
        """The process ends: an unfinished episode stays readable under its `.partial` name, which is returned."""
        if self._episode is None:
            return None
        return self._take().leave_partial({**self._custom_data, "outcome": "interrupted", "success": "false"})

    def _take(self) -> EpisodeWriter:
        if self._episode is None:
            raise RecorderError("nothing is being recorded: call start first")
        episode, self._episode = self._episode, None
        return episode

    def _now_ns(self) -> int:
        return int(self.node.get_clock().now().nanoseconds)

    def _received(self, topic: str, data: bytes) -> None:
        if self._episode is not None:
            self._episode.put(topic, self._now_ns(), data)
            self._heard[topic] = time.monotonic()

    def _follow_publishers(self) -> None:
        """Subscribe to what is published, reliably where every publisher of the topic offers that."""
        for topic in self.topics:
            offers = {info.qos_profile.reliability for info in self.node.get_publishers_info_by_topic(topic)}
            if not offers:
                continue
            reliable = offers == {ReliabilityPolicy.RELIABLE}
            wanted = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
            present = self._subscriptions.get(topic)
            if present is not None:
                # In the middle of an episode only a publisher that would not be heard is worth a new subscription.
                if present[0] == wanted or (self.recording and reliable):
                    continue
                self.node.destroy_subscription(present[1])
            self._subscriptions[topic] = wanted, self._subscribe(topic, wanted)

    def _subscribe(self, topic: str, reliability: ReliabilityPolicy) -> Subscription:
        qos = QoSProfile(depth=QUEUE_DEPTH, reliability=reliability)
        return self.node.create_subscription(self._classes[topic], topic, partial(self._received, topic), qos, raw=True)


class RecorderNode(Node):
    """The recorder as a node: `~/start`, `~/stop`, `~/discard`, `~/prompt`, `~/outcome`, `/diagnostics`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("recorder", **kwargs)

        def parameter(name: str, default: str, description: str) -> str:
            descriptor = ParameterDescriptor(description=description, read_only=True)
            return str(self.declare_parameter(name, default, descriptor).value)

        robot = load_robot(parameter("robot", "demo_arm", "name or path of the robot file"))
        out_dir = Path(parameter("out_dir", "bags", "folder that receives one bag per episode")).expanduser().resolve()
        self._prompt = parameter("prompt", "", "first prompt; empty: the robot file's. ~/prompt replaces it")
        self._outcome = ""
        self.recorder = Recorder(self, robot, out_dir)
        # Volatile, because a transient local subscription would not hear an ordinary publisher.
        self.create_subscription(String, "~/prompt", self._set_prompt, 1)
        self.create_subscription(String, "~/outcome", self._set_outcome, 10)
        self.create_service(Trigger, "~/start", partial(self._serve, self._start))
        self.create_service(Trigger, "~/stop", partial(self._serve, self._stop))
        self.create_service(Trigger, "~/discard", partial(self._serve, self._discard))
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_timer(0.5, self._publish_diagnostics, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.get_logger().info(f"records {', '.join(self.recorder.topics)} into {out_dir}")

    def _set_prompt(self, message: String) -> None:
        self._prompt = message.data
        when = "from the next episode on" if self.recorder.recording else "for the next episode"
        self.get_logger().info(f"prompt {when}: {self._prompt!r}")

    def _set_outcome(self, message: String) -> None:
        if message.data in ("success", "failure"):
            self._outcome = message.data
        else:
            self.get_logger().error(f"outcome {message.data!r} ignored: send 'success' or 'failure'")

    def _serve(self, action: Any, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            response.message, response.success = action(), True
            self.get_logger().info(response.message)
        except (RecorderError, OSError) as error:
            response.message, response.success = str(error), False
            self.get_logger().error(response.message)
        self._publish_diagnostics()
        return response

    def _start(self) -> str:
        self._outcome = ""
        return str(self.recorder.start(self._prompt))

    def _stop(self) -> str:
        recording = self.recorder.stop(self._outcome or "unknown")
        if recording.empty:
            self.get_logger().warning(f"{recording.path.name} holds no message of {', '.join(recording.empty)}")
        return recording.summary()

    def _discard(self) -> str:
        return str(self.recorder.discard())

    def _publish_diagnostics(self) -> None:
        recorder = self.recorder
        level, text = DiagnosticStatus.OK, f"recording {recorder.path.name}" if recorder.path else "idle"
        if recorder.recording and recorder.silent():
            level, text = DiagnosticStatus.WARN, f"{text}; silent: {', '.join(recorder.silent())}"
        elif recorder.missing():
            level, text = DiagnosticStatus.WARN, f"{text}; no publisher: {', '.join(recorder.missing())}"
        values: dict[str, object] = {
            "state": "recording" if recorder.recording else "idle",
            "episode": recorder.path or "",
            "prompt": recorder.prompt or self._prompt or recorder.robot.prompt,
            "outcome": self._outcome,
            "duration_s": round(recorder.duration_s, 1),
            "queue": recorder.pending,
            "saved": recorder.saved,
            "discarded": recorder.discarded,
            **{f"messages {topic}": count for topic, count in recorder.counts.items()},
        }
        status = diagnostic_status("recorder", level, text, values, recorder.robot.name)
        self._diagnostics.publish(diagnostic_array(self.get_clock().now().to_msg(), [status]))

    def close(self) -> None:
        """The process ends."""
        kept = self.recorder.close()
        if kept is not None:
            self.get_logger().warning(f"stopped in the middle of an episode: kept as {kept}")


def main(args: list[str] | None = None) -> int:
    """Record until SIGINT or SIGTERM; an episode under way is kept under its `.partial` name."""
    return run_node(RecorderNode, args, RecorderNode.close)


if __name__ == "__main__":
    sys.exit(main())
