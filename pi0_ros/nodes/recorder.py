"""The recorder's core: the robot file's topics, exactly as they came, into one rosbag2 (MCAP) per episode.

`Recorder` adds raw subscriptions to a node and is started and stopped by method calls. Nothing gets lost in silence:
what was sent and did not arrive (gaps in the publishers' sequence numbers) and what arrived and was not written are
counted per topic and noted in the bag.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from rclpy.subscription import Subscription
from std_msgs.msg import String

from pi0_ros.bags.conventions import IN_CHARGE_TOPIC, PROMPT_TOPIC, PROMPT_TYPE, ROBOT_FILE_KEY, ROBOT_KEY
from pi0_ros.bags.episode_writer import PARTIAL, QUEUE_BYTES, EpisodeWriter, Message
from pi0_ros.bags.mcap_writer import TYPESTORE, learn
from pi0_ros.bags.stream_meter import StreamMeter
from pi0_ros.base.errors import InputError
from pi0_ros.nodes.message_definition import definition_of
from pi0_ros.nodes.messages import message_class
from pi0_ros.robot import Robot, robot_to_yaml

READER_BYTES = 64 << 20  # that may wait in the middleware per topic
USUAL_BYTES = {  # of one message; smaller ones wait in thousands
    "sensor_msgs/msg/Image": 1 << 20,
    "sensor_msgs/msg/CompressedImage": 1 << 17,
    "sensor_msgs/msg/PointCloud2": 1 << 21,
}
WATCH_PERIOD_S = 0.2
SILENT_AFTER_S = 1.0
IN_FORCE_S = 2.0  # who is in charge is said twice a second: what was said longer ago is not known to hold
EPISODE = re.compile(rf"episode_(\d+)({re.escape(PARTIAL)})?")


class RecorderError(InputError):
    """The recorder cannot do what was asked; the message says what to do first."""


@dataclass(frozen=True)
class RecorderOptions:
    """How to record."""

    pre_roll_s: float = 0.0  # of the time before `start` that goes into the bag
    queue_bytes: int = QUEUE_BYTES  # that may wait for the disk; the pre-roll takes half as much at most
    min_free_bytes: int = 1_000_000_000  # of the disk: below, an episode ends
    compression: str = "none"
    extra_topics: tuple[str, ...] = ()  # recorded where somebody publishes them
    incomplete: bool = False  # begin also while a camera or state topic has no publisher


@dataclass(frozen=True)
class Recording:
    """A finished episode: where it lies and what is in it."""

    path: Path
    prompt: str
    outcome: str
    duration_s: float  # wall clock, without pre-roll
    counts: dict[str, int]  # topic -> messages in the bag
    lost: dict[str, int | None]  # topic -> messages that are not; None: not known
    problem: str = ""  # why it ended early

    @property
    def empty(self) -> list[str]:
        """Topics of which not one message was recorded."""
        return [topic for topic, count in self.counts.items() if count == 0]

    def summary(self) -> str:
        """First line: the bag's folder. Then one line per topic with its number of messages."""
        lines = [str(self.path), *([self.problem] if self.problem else [])]
        for topic, count in self.counts.items():
            lost = self.lost[topic]
            lines.append(f"{topic}: {count}" + (f", {lost} lost" if lost else ", losses not known" * (lost is None)))
        return "\n".join(lines)


@dataclass(frozen=True)
class _Early:
    """A message before `start`, and what its meter counted by then."""

    heard_s: float
    message: Message
    lost: int
    unnumbered: int


def next_index(out_dir: Path) -> int:
    """One more than the highest episode number in `out_dir`, unfinished episodes included."""
    matches = [EPISODE.fullmatch(entry.name) for entry in out_dir.iterdir()] if out_dir.is_dir() else []
    return max((int(match[1]) for match in matches if match), default=-1) + 1


def free_bytes(folder: Path) -> int:
    """Free bytes of the disk that holds `folder`, or would hold it."""
    return shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists())).free


class Recorder:
    """Records the topics of `robot` through `node` into `out_dir/episode_000000`, `episode_000001`, ...

    Subscriptions appear as soon as a topic's publisher is discovered, with that publisher's reliability: so the node
    must be spinning, and `missing()` says what is not there yet. An episode that the disk refuses ends by itself:
    `on_end` is told. All methods belong to the executor's thread.
    """

    def __init__(
        self,
        node: Node,
        robot: Robot,
        out_dir: str | Path,
        options: RecorderOptions = RecorderOptions(),
        on_end: Callable[[str], None] = lambda problem: None,
    ) -> None:
        self.node = node
        self.robot = robot.recorded  # a recording has the robot file's own names
        self.out_dir = Path(out_dir)
        self.options = options
        self.topics = self.robot.topics
        given = robot.with_topics(node.resolve_topic_name).topics
        self._resolved = dict(zip(self.topics, given))  # as the network calls them: namespace, remaps
        self.saved = 0
        self.discarded = 0
        self.problem = ""  # why the last episode ended early
        self.meters: dict[str, StreamMeter] = {}
        self._on_end = on_end
        in_charge = node.resolve_topic_name(IN_CHARGE_TOPIC.removeprefix("/"))
        self._resolved[IN_CHARGE_TOPIC] = in_charge
        extra = [name for topic in options.extra_topics if (name := node.resolve_topic_name(topic)) != in_charge]
        self._extra = {IN_CHARGE_TOPIC: in_charge} | dict(zip(extra, extra))  # as recorded: as the network calls it
        self._in_force: tuple[float, bytes] | None = None  # who was in charge before the pre-roll, and when heard
        self._kinds: dict[str, str] = {PROMPT_TOPIC: PROMPT_TYPE}
        self._classes: dict[str, Any] = {}
        self._subscriptions: dict[str, tuple[ReliabilityPolicy, Subscription]] = {}
        self._publishers: dict[str, tuple[bytes, ...]] = {}
        self._episode: EpisodeWriter | None = None
        self._custom_data: dict[str, str] = {}
        self._started = 0.0
        self._before: dict[str, tuple[int, int]] = {}  # topic -> the meter's counts when the episode began
        self.early: deque[_Early] = deque()  # the pre-roll
        self._early_bytes = 0
        for topic, kind in self.topics.items():
            self._add_topic(topic, kind)
        # Steady time: discovery must go on while simulated time stands still.
        self._timer = node.create_timer(WATCH_PERIOD_S, self._watch, clock=Clock(clock_type=ClockType.STEADY_TIME))
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
    def pending_bytes(self) -> int:
        """Their bytes, or those of the pre-roll."""
        return self._episode.pending_bytes if self._episode else self._early_bytes

    @property
    def counts(self) -> dict[str, int]:
        """Messages of the present episode per topic, written or waiting."""
        return dict(self._episode.counts) if self._episode else {}

    @property
    def written(self) -> dict[str, int]:
        """Messages of the present episode per topic that are in the bag."""
        return self._episode.written if self._episode else {}

    @property
    def duration_s(self) -> float:
        """Wall-clock seconds since the present episode started."""
        return time.monotonic() - self._started if self.recording else 0.0

    def lost(self) -> dict[str, int | None]:
        """Messages per topic that were sent since the present episode's beginning and did not arrive; None: unknown."""
        return {topic: self._lost(topic) for topic in self.counts}

    def _lost(self, topic: str) -> int | None:
        meter = self.meters.get(topic)
        if meter is None:  # the prompt
            return 0
        lost, unnumbered = self._before.get(topic, (0, 0))
        return meter.lost - lost if meter.unnumbered == unnumbered else None

    def resolved(self, topic: str) -> str:
        """What the network calls a topic of the robot file: its namespace and remaps applied."""
        return self._resolved.get(topic, topic)

    def missing(self) -> list[str]:
        """Camera, state and command topics that nobody publishes now (or that are not yet subscribed to)."""
        return [
            topic
            for topic in self.topics
            if topic not in self._subscriptions or not self.node.count_publishers(self.resolved(topic))
        ]

    def silent(self) -> list[str]:
        """Camera and state topics that sent nothing for a second while recording."""
        now = time.monotonic()
        sensors = [*(camera.topic for camera in self.robot.cameras), *self.robot.state_topics]
        heard = {topic: max(self.meters[topic].heard_s or 0.0, self._started) for topic in sensors}
        return [topic for topic in sensors if now - heard[topic] > SILENT_AFTER_S]

    def obstacle(self, prompt: str = "") -> str:
        """Why no episode can begin now with this prompt ("": the robot file's); "" where one can."""
        if self._episode is not None:
            return f"already recording {self._episode.path.name}: stop or discard it first"
        if not (prompt.strip() or self.robot.prompt.strip()):
            return "no prompt: give one, or set `prompt` in the robot file"
        commands = {group.topic for group in self.robot.commands}
        absent = [topic for topic in self.missing() if topic not in commands]
        if absent and not self.options.incomplete:
            return f"nothing publishes {', '.join(map(self.resolved, absent))}: start the robot's drivers first"
        problem = self._disk_problem()
        return f"{problem}: free the disk or record elsewhere (out_dir)" if problem else ""

    def start(self, prompt: str = "", extra: Mapping[str, str] | None = None) -> Path:
        """Begin an episode and return its future folder; `extra` (say, a seed) goes to the bag's custom data.

        Raises RecorderError while recording, without a prompt, while a camera or state topic has no publisher, or
        where the disk is nearly full.
        """
        prompt = prompt.strip() or self.robot.prompt.strip()
        if obstacle := self.obstacle(prompt):
            raise RecorderError(obstacle)
        path = self.out_dir / f"episode_{next_index(self.out_dir):06d}"
        self._custom_data = {
            **(extra or {}),
            "prompt": prompt,
            ROBOT_KEY: self.robot.name,
            ROBOT_FILE_KEY: robot_to_yaml(self.robot),
        }
        interrupted = {**self._custom_data, "outcome": "interrupted", "success": "false"}
        episode = EpisodeWriter(path, self._kinds, interrupted, self.options.queue_bytes, self.options.compression)
        self._forget_early(time.monotonic())
        self._before = {topic: (meter.lost, meter.unnumbered) for topic, meter in self.meters.items()}
        self._before.update({early.message.topic: (early.lost, early.unnumbered) for early in reversed(self.early)})
        first_ns = min((early.message.stamp_ns for early in self.early), default=self._now_ns())
        episode.put(Message(PROMPT_TOPIC, first_ns, serialize_message(String(data=prompt))))
        oldest_s = self.early[0].heard_s if self.early else time.monotonic()
        if self._in_force is not None and oldest_s - self._in_force[0] < IN_FORCE_S:
            episode.put(Message(IN_CHARGE_TOPIC, first_ns, self._in_force[1]))
        for early in self.early:
            episode.put(early.message)
            self._note_in_force(early.heard_s, early.message)
        self.early.clear()
        self._early_bytes = 0
        self._started = time.monotonic()
        self.problem = ""
        self._episode = episode
        return path

    def stop(self, outcome: str = "unknown", extra: Mapping[str, str] | None = None) -> Recording:
        """End the episode: write the rest, rename the folder into place; `extra` goes to the bag's custom data, too.

        Where the disk refused a part, the recording is marked as interrupted and has a `problem`. Raises RecorderError
        when idle, OSError when the disk refused even the index.
        """
        self._custom_data |= extra or {}
        return self._end(outcome, "")

    def _end(self, outcome: str, problem: str) -> Recording:
        duration_s, sent_lost, episode = self.duration_s, self.lost(), self._take()
        episode.drain()
        problem = problem or (f"writing failed: {episode.error}" if episode.error else "")
        written = episode.written
        lost = {t: None if n is None else n + episode.counts[t] - written[t] for t, n in sent_lost.items()}
        custom_data = {**self._custom_data, "outcome": "interrupted" if problem else outcome}
        custom_data |= {"success": "false", "problem": problem} if problem else {}
        custom_data["lost"] = json.dumps({topic: count for topic, count in lost.items() if count != 0})
        path = episode.close(custom_data)
        self.saved += 1
        return Recording(path, self._custom_data["prompt"], custom_data["outcome"], duration_s, written, lost, problem)

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

    def _received(self, topic: str, data: bytes, info: Mapping[str, Any]) -> None:
        now_s, stamp_ns = time.monotonic(), self._now_ns()
        sequence = info.get("publication_sequence_number") if len(self._publishers[topic]) == 1 else None
        meter = self.meters[topic]
        meter.hear(now_s, stamp_ns * 1e-9, data, sequence)
        message = Message(topic, stamp_ns, data, sequence or 0, info.get("source_timestamp") or 0)
        if self._episode is not None or self.options.pre_roll_s <= 0:
            self._note_in_force(now_s, message)
        if self._episode is not None:
            self._episode.put(message)
        elif self.options.pre_roll_s > 0:
            self.early.append(_Early(now_s, message, meter.lost, meter.unnumbered))
            self._early_bytes += len(data)
            self._forget_early(now_s)

    def _forget_early(self, now_s: float) -> None:
        """Let go of what is older than the pre-roll, or more than half the queue."""
        oldest = now_s - self.options.pre_roll_s
        while self.early and (self.early[0].heard_s < oldest or self._early_bytes > self.options.queue_bytes // 2):
            early = self.early.popleft()
            self._early_bytes -= len(early.message.data)
            self._note_in_force(early.heard_s, early.message)

    def _note_in_force(self, heard_s: float, message: Message) -> None:
        """Who is in charge is said when it changes: an episode begins with what was said last before it."""
        if message.topic == IN_CHARGE_TOPIC:
            self._in_force = heard_s, message.data

    def _watch(self) -> None:
        self._follow_publishers()
        if self._episode is None:
            return
        error = f"writing failed: {self._episode.error}" if self._episode.error else ""
        if problem := error or self._disk_problem():
            try:
                self.problem = self._end("", problem).summary()
            except OSError as failure:
                self.problem = f"{problem}; {failure}"
            self._on_end(self.problem)

    def _disk_problem(self) -> str:
        free = free_bytes(self.out_dir) - (self._episode.pending_bytes if self._episode else 0)
        if free >= self.options.min_free_bytes:
            return ""
        return f"{free / 1e6:.0f} MB are free in {self.out_dir}, less than {self.options.min_free_bytes / 1e6:.0f} MB"

    def _follow_publishers(self) -> None:
        """Subscribe to what is published, reliably where every publisher of the topic offers that."""
        self._find_extra_topics()
        for topic in self._classes:
            publishers = self.node.get_publishers_info_by_topic(self.resolved(topic))
            if not publishers:
                continue
            identities = tuple(sorted(bytes(info.endpoint_gid) for info in publishers))
            if self._publishers.get(topic) != identities:
                self.meters[topic].forget_sequence()
            self._publishers[topic] = identities
            reliable = all(info.qos_profile.reliability == ReliabilityPolicy.RELIABLE for info in publishers)
            wanted = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
            present = self._subscriptions.get(topic)
            if present is not None:
                # In the middle of an episode only a publisher that would not be heard is worth a new subscription.
                if present[0] == wanted or (self.recording and reliable):
                    continue
                self.node.destroy_subscription(present[1])
            self._subscriptions[topic] = wanted, self._subscribe(topic, wanted)

    def _find_extra_topics(self) -> None:
        """The types of extra topics are those that their publishers announce."""
        if not self._extra:
            return
        announced = dict(self.node.get_topic_names_and_types())
        for topic, name in [(topic, name) for topic, name in self._extra.items() if name in announced]:
            del self._extra[topic]
            try:
                self._add_topic(topic, announced[name][0])
            except InputError as error:
                self.node.get_logger().error(f"{topic} will not be recorded: {error}")

    def _add_topic(self, topic: str, kind: str) -> None:
        self._classes[topic] = message_class(kind)
        if kind not in TYPESTORE.fielddefs:
            learn(kind, definition_of(kind))
        fields = self._classes[topic].get_fields_and_field_types()
        self.meters[topic] = StreamMeter(next(iter(fields.values()), "") == "std_msgs/Header")
        self._kinds[topic] = kind

    def _subscribe(self, topic: str, reliability: ReliabilityPolicy) -> Subscription:
        depth = min(1000, READER_BYTES // USUAL_BYTES.get(self._kinds[topic], 1 << 16))
        qos = QoSProfile(depth=depth, reliability=reliability)
        # Humble's rclpy gives the message alone.
        informed = hasattr(Subscription, "CallbackType")
        callback = partial(self._received, topic) if informed else partial(self._received, topic, info={})
        return self.node.create_subscription(self._classes[topic], self.resolved(topic), callback, qos, raw=True)
