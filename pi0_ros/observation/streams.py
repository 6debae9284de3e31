"""All streams of a robot and the observation at a time: one code for the live node and the bag converter.

Messages are stored as they come and decoded when somebody asks, so pushing is cheap. Alignment is causal: at time t
every stream gives its newest sample that is not newer than t ("as-of"), if that is not older than the stream's limit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from pi0_ros.base.errors import InputError
from pi0_ros.base.side_by_side import side_by_side
from pi0_ros.observation.camera_picture import checker_of, decoder_of
from pi0_ros.observation.images import ImageError, stream_of
from pi0_ros.observation.joint_messages import (
    Decoded,
    JointsHeard,
    MessageError,
    decode_trajectory,
    leading_header,
)
from pi0_ros.observation.stream_buffer import FOREVER, SECOND, StreamBuffer, StreamCounts
from pi0_ros.observation.trajectories import Trajectory, lasts_ns
from pi0_ros.observation.video_stream import VideoStream, decoded
from pi0_ros.robot import CommandGroup, Robot, StateTopic
from pi0_ros.robot.message_types import TRAJECTORY
from pi0_ros.robot.space import Space

FROZEN_BYTES = 4096  # of an image are compared with the one before
STATES_PER_IMAGE = 64  # a live buffer keeps this many times more state messages than images: they are faster and small


class StaleError(InputError):
    """No observation at this time: `problems` says which streams are missing, too old or unreadable."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = list(problems)


class UnreadableError(StaleError):
    """No observation at this time because a message cannot be decoded: waiting will not mend it."""


class FrozenError(StaleError):
    """No observation at this time because a camera sends one picture again and again."""


@dataclass(frozen=True)
class Observation:
    """What the robot saw and felt at one time."""

    stamp_ns: int  # the tick: the time that the observation is "at"
    images: dict[str, np.ndarray]  # camera name -> uint8 [H,W,3] RGB
    state: np.ndarray  # float64 [S], robot units, the robot's state joints in their order
    prompt: str
    ages_s: dict[str, float]  # topic -> tick minus the sample's stamp


class _Sample:
    """A message that is decoded when it is first read; its value, or why it has none, is then kept instead of it."""

    __slots__ = ("_content", "_decode", "received_ns", "same_since_ns")

    def __init__(
        self, message: Any, decode: Callable[[Any], Decoded], received_ns: int = 0, same_since_ns: int | None = None
    ) -> None:
        self.received_ns = received_ns
        self.same_since_ns = same_since_ns  # stamp of the first of the equal images up to this one, where watched
        self._content: Any = (
            message  # replaced once, by what it holds or a ValueError: safe to read from several threads
        )
        self._decode = decode

    def value(self) -> Decoded:
        content = self._content
        if isinstance(content, (np.ndarray, Trajectory)):
            return content
        if isinstance(content, InputError):
            raise content.with_traceback(None)
        try:
            value = self._decode(content)
        except InputError as error:
            self._content = error
            raise
        self._content = value
        return value

    def check(self, check: Callable[[Any], Any]) -> None:
        """Raise what `value` would raise as far as `check` can tell from the message, without decoding it."""
        content = self._content
        if isinstance(content, InputError):
            raise content.with_traceback(None)
        if not isinstance(content, (np.ndarray, Trajectory)):
            check(content)


class _Joints:
    """The joints of one state topic, J of all its entries, and how old each may be."""

    def __init__(self, items: Sequence[StateTopic]) -> None:
        self.heard = JointsHeard(items)
        self.names = self.heard.joints
        self.limits_s = np.array([item.max_age_s for item in items for _ in item.joints], np.float64)  # [J]
        self.limits_ns = np.rint(self.limits_s * SECOND).astype(np.int64)


class ObservationBuffer:
    """All streams of a robot: messages in, observations out.

    `keep` is the number of images kept for each camera: a few live, None (all) for bags, where `forget` frees memory.
    One thread may push while another reads.
    """

    def __init__(self, robot: Robot, keep: int | None = 8) -> None:
        self.robot = robot
        self._decoders: dict[str, Callable[[Any], Decoded]] = {}
        self._checks: dict[str, Callable[[Any], Any]] = {}
        self._streams: dict[str, StreamBuffer[_Sample]] = {}
        self._ways, self._latencies_ns = robot.stamp_ways, robot.latencies_ns
        self._planned = {group.topic for group in robot.commands if group.type == TRAJECTORY}
        self._frozen_s = {camera.topic: camera.frozen_s for camera in robot.cameras if camera.frozen_s is not None}
        self._pictures: dict[
            str, tuple[bytes, int]
        ] = {}  # of watched cameras: some bytes, and the stamp they came with
        self._videos = {camera.topic: VideoStream() for camera in robot.cameras}  # of those that send streams
        many = None if keep is None else keep * STATES_PER_IMAGE

        def add(item: Any, max_age_s: float, kept: int | None, what: str, decode: Callable, check: Callable) -> None:
            self._streams[item.topic] = StreamBuffer(max_age_s, kept, item.topic, what, what == "state", self.delay_ns)
            self._decoders[item.topic] = _naming(item.topic, item.type, decode)
            self._checks[item.topic] = _naming(item.topic, item.type, check)

        for camera in robot.cameras:
            add(camera, camera.max_age_s, keep, "image", decoder_of(camera), checker_of(camera))
        self._joints = {topic: _Joints(items) for topic, items in robot.state_topics.items()}
        for topic, items in robot.state_topics.items():
            joints = self._joints[topic]
            add(items[0], float(joints.limits_s.max()), many, "state", joints.heard, joints.heard)
        for group in robot.commands:
            plan = partial(_decode_plan, group, robot.space.at(robot.indices(group.joints)))
            add(group, robot.max_ages_s[group.topic], many, "command", plan, plan)
        self._observed = [*(camera.topic for camera in robot.cameras), *self._joints]
        self._state = [(topic, _places(joints.names, robot.state_names)) for topic, joints in self._joints.items()]
        held = [group for group in robot.commands if group.topic in robot.held_from_state]
        self._held = {group.topic: _places(group.joints, robot.state_names) for group in held}
        self._quiet = {group.topic: len(group.joints) for group in robot.commands if group.topic in robot.speed_topics}
        self._commands = [(group.topic, _places(group.joints, robot.action_names)) for group in robot.commands]

    @property
    def counts(self) -> dict[str, StreamCounts]:
        """What has happened to each topic."""
        return {topic: stream.counts for topic, stream in self._streams.items()}

    def push_message(self, topic: str, msg: Any, receive_ns: int, stamp_ns: int | None = None) -> None:
        """Store a message under its header stamp, or under `receive_ns` where it has none or a zero one, or where the
        robot file says that the time of arrival counts; less by its `latency_s`. `stamp_ns` overrules all of it.

        Raises KeyError for a topic that the robot file does not name.
        """
        stream = self._streams[topic]
        if stamp_ns is None:
            header = None if self._ways[topic] == "arrival" else leading_header(msg)
            stamp_ns = receive_ns if header is None else header.stamp.sec * SECOND + header.stamp.nanosec
            if stamp_ns == 0:
                stamp_ns = receive_ns
                stream.counts.receive_stamped += 1
            stamp_ns -= self._latencies_ns.get(topic, 0)
        if topic in self._videos and stream_of(msg):
            try:
                msg = decoded(self._videos[topic], msg, int(stamp_ns))  # in order, so now
            except ImageError as error:
                msg = ImageError(f"{topic}: {error}")
            if msg is None:
                stream.counts.broken += 1
                return
        since_ns = self._same_since_ns(topic, msg, stamp_ns) if topic in self._frozen_s else None
        lasts = lasts_ns(msg) if topic in self._planned else 0
        stream.push(int(stamp_ns), _Sample(msg, self._decoders[topic], receive_ns, since_ns), lasts)

    def problems(self, t_ns: int) -> list[str]:
        """Why `observe` would fail at `t_ns`, a sentence for each topic; images are checked but not decoded."""
        sentences = []
        for topic in self._observed:
            found = self._streams[topic].as_of(t_ns)
            try:
                if found is None:
                    sentences.append(self._absence(topic, t_ns))
                elif topic in self._joints:
                    sentences += self._merged(topic, t_ns)[1]
                else:
                    found[1].check(self._checks[topic])
                    sentences.append(self._frozen(topic, *found))
            except InputError as error:
                sentences.append(str(error))
        return [sentence for sentence in sentences if sentence is not None]

    def observe(self, t_ns: int, prompt: str) -> Observation:
        """The observation at `t_ns`: of every stream the newest sample not newer than that.

        Raises `StaleError` if a stream is missing or too old, and its subclasses: `UnreadableError` if a message cannot
        be decoded, `FrozenError` if a camera's pictures do not change.
        """
        self._decode_pictures(t_ns)
        values, stamps = self._read(self._observed, t_ns)
        return Observation(
            stamp_ns=t_ns,
            images={camera.name: values[camera.topic] for camera in self.robot.cameras},
            state=self._gather(self._state, values),
            prompt=prompt,
            ages_s={topic: (t_ns - stamp) / SECOND for topic, stamp in stamps.items()},
        )

    def oldest_image(self, t_ns: int) -> tuple[int, int] | None:
        """Stamp and time of arrival (ns) of the oldest of the images that an observation at `t_ns` shows."""
        found = [self._streams[camera.topic].as_of(t_ns) for camera in self.robot.cameras]
        samples = [(stamp, sample.received_ns) for stamp, sample in (item for item in found if item is not None)]
        return min(samples) if samples else None

    def action_at(self, t_ns: int) -> np.ndarray:
        """The action at `t_ns`, float64 [A]: the command as-of then, or with `next_state` the state one frame later.

        Of a plan it is the point at that time; of commands that hold, before the first one, where the joints are; of
        speeds that nobody commands (any more) zero, for so their driver takes it.
        Needs the command topics pushed too. Raises `StaleError` and `UnreadableError` as `observe` does.
        """
        if self.robot.action_source == "next_state":
            t_ns += round(SECOND / self.robot.dataset_fps)
            return self._gather(self._state, self._read([topic for topic, _ in self._state], t_ns)[0])
        waiting = {topic for topic in self._held if self._streams[topic].as_of(t_ns) is None}
        quiet = {topic for topic in self._quiet if self._streams[topic].as_of(t_ns) is None}
        told = [topic for topic, _ in self._commands if topic not in waiting | quiet]
        values = self._read(told, t_ns)[0] | {topic: np.zeros(self._quiet[topic]) for topic in quiet}
        if waiting:  # until they are told otherwise they stay where they are
            state = self._gather(self._state, self._read([topic for topic, _ in self._state], t_ns)[0])
            values |= {topic: state[places] for topic, places in self._held.items() if topic in waiting}
        return self._gather(self._commands, values)

    @property
    def delay_ns(self) -> int:
        """How long ago the newest time is of which all streams can have told by now, as far as their delays are known.

        A living policy observes the robot as it was then, so that all that a recording has of that time has come.
        """
        return max(self._latencies_ns.values(), default=0)

    def latest_ns(self) -> int | None:
        """The newest time for which every camera and state topic has data; None while one has none."""
        newest = [self._streams[topic].newest_ns() for topic in self._observed]
        return None if None in newest else min(stamp for stamp in newest if stamp is not None)

    def stamps(self, topic: str) -> np.ndarray:
        """The kept stamps of a topic in rising order, int64 [N]."""
        return self._streams[topic].stamps()

    def forget(self, before_ns: int) -> None:
        """Free what no observation at `before_ns` or later needs."""
        for stream in self._streams.values():
            stream.forget(before_ns)

    def _decode_pictures(self, t_ns: int) -> None:
        """Those of an observation at once; what is wrong with one `_read` says in its turn."""

        def decode(sample: _Sample) -> None:
            with contextlib.suppress(InputError):
                sample.value()

        found = [self._streams[camera.topic].as_of(t_ns) for camera in self.robot.cameras]
        side_by_side(decode, [item[1] for item in found if item is not None])

    def _read(self, topics: Sequence[str], t_ns: int) -> tuple[dict[str, np.ndarray], dict[str, int]]:
        """Decoded values and stamps of `topics` as-of `t_ns`; all problems in one error."""
        values, stamps, stale, unreadable, frozen = {}, {}, [], [], []
        for topic in topics:
            found = self._streams[topic].as_of(t_ns)
            if found is None:
                stale.append(self._absence(topic, t_ns) or f"{topic}: the message arrived only now")
                continue
            stamps[topic] = found[0]
            if (problem := self._frozen(topic, *found)) is not None:
                frozen.append(problem)
            try:
                if topic in self._joints:
                    values[topic], problems = self._merged(topic, t_ns)
                    stale += problems
                    continue
                value = found[1].value()
                values[topic] = value.at((t_ns - found[0]) / SECOND) if isinstance(value, Trajectory) else value
            except InputError as error:
                unreadable.append(str(error))
        if unreadable:
            raise UnreadableError(unreadable + stale + frozen)
        if stale:
            raise StaleError(stale + frozen)
        if frozen:
            raise FrozenError(frozen)
        return values, stamps

    def _absence(self, topic: str, t_ns: int) -> str | None:
        """Why a stream has no sample at `t_ns`, as a sentence; of a video stream what it waits for, too."""
        sentence = self._streams[topic].problem(t_ns)
        if sentence is None or topic not in self._videos or not self._streams[topic].counts.broken:
            return sentence
        why = self._videos[topic].problem
        return f"{sentence}; its stream waits for a key picture: {why}" if why else sentence

    def _merged(self, topic: str, t_ns: int) -> tuple[np.ndarray, list[str]]:
        """Of each joint of a state topic the newest value not newer than `t_ns`, and a sentence for each that has none
        young enough. Raises `MessageError` for a message that cannot be read."""
        joints = self._joints[topic]
        merged = np.full(len(joints.names), np.nan)
        for stamp_ns, sample in self._streams[topic].back_from(t_ns):
            values = sample.value()
            assert isinstance(values, np.ndarray)
            take = np.isnan(merged) & (t_ns - stamp_ns <= joints.limits_ns)
            merged[take] = values[take]
            if not np.isnan(merged).any():
                return merged, []
        return merged, self._absent(topic, t_ns, np.isnan(merged))

    def _absent(self, topic: str, t_ns: int, absent: np.ndarray) -> list[str]:
        """Why the joints in the mask `absent` [J] have no value at `t_ns`."""
        joints, age_ns = self._joints[topic], np.full(len(absent), FOREVER, np.int64)
        for stamp_ns, sample in self._streams[topic].back_from(t_ns):
            values = sample.value()
            assert isinstance(values, np.ndarray)
            age_ns = np.where(np.isfinite(values), np.minimum(age_ns, t_ns - stamp_ns), age_ns)
        sentences = [never] if (never := joints.heard.never()) else []
        for limit in sorted(set(joints.limits_s[absent & joints.heard.ever])):
            old = absent & joints.heard.ever & (joints.limits_s == limit)
            names = ", ".join(repr(joints.names[j]) for j in np.flatnonzero(old))
            newest = int(age_ns[old].max())
            gone = f"is {newest / SECOND:.2f} s old" if newest < FOREVER else "has not come for longer"
            sentences.append(f"{topic}: joint {names} {gone}, limit {limit:.2f} s")
        return sentences

    def _same_since_ns(self, topic: str, msg: Any, stamp_ns: int) -> int:
        """The stamp of the first of the equal images that end with this one; a sensor's noise makes each differ."""
        try:
            data = np.frombuffer(msg.data, np.uint8)
        except (AttributeError, TypeError, ValueError):  # decoding will say what is wrong with it
            return stamp_ns
        picture = data[:: len(data) // FROZEN_BYTES | 1].tobytes()
        before, since_ns = self._pictures.get(topic, (b"", stamp_ns))
        if picture != before or since_ns > stamp_ns:
            since_ns = stamp_ns
        self._pictures[topic] = (picture, since_ns)
        return since_ns

    def _frozen(self, topic: str, stamp_ns: int, sample: _Sample) -> str | None:
        """That a camera is frozen, as a sentence."""
        if sample.same_since_ns is None:
            return None
        still_s, limit_s = (stamp_ns - sample.same_since_ns) / SECOND, self._frozen_s[topic]
        if still_s <= limit_s:
            return None
        name = next(camera.name for camera in self.robot.cameras if camera.topic == topic)
        return (
            f"{topic}: camera '{name}' has sent one and the same picture for {still_s:.2f} s, limit {limit_s:.2f} s: "
            "restart its driver (for a simulator without noise remove frozen_s from the robot file)"
        )

    def _gather(self, parts: Sequence[tuple[str, np.ndarray]], values: dict[str, np.ndarray]) -> np.ndarray:
        vector = np.empty(sum(len(places) for _, places in parts), np.float64)
        for topic, places in parts:
            vector[places] = values[topic]
        return vector


# ---- messages


def _decode_plan(group: CommandGroup, space: Space, msg: Any) -> Decoded:
    """`decode_trajectory`, continuous joints of the group's `space` without jumps from point to point."""
    found = decode_trajectory(group, msg)
    if isinstance(found, Trajectory) and not space.plain:
        return replace(found, positions=space.unwrapped(found.positions))
    return found


def _places(joints: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Where `joints` stand among `names`, intp [len(joints)]."""
    return np.array([names.index(joint) for joint in joints], np.intp)


def _naming(topic: str, type_name: str, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`function` of a message, whose errors begin with the topic."""

    def named(msg: Any) -> Any:
        try:
            return function(msg)
        except ImageError as error:
            raise ImageError(f"{topic}: {error}") from error
        except (AttributeError, TypeError) as error:
            raise MessageError(f"{topic}: the message is no {type_name} ({error}): correct the robot file") from error

    return named
