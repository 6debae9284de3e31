"""From a recording to aligned rows: the observation and the action as they were at every tick of a fixed grid.

Two passes over the messages. The first reads only their stamps, which fix the tick grid and say, for every tick, how
far the recording has to be read until nothing older than the tick is missing (messages arrive late and out of order).
The second pushes messages into the very `ObservationBuffer` that the live policy node uses and asks it at every tick.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from operator import itemgetter

import numpy as np

from pi0_ros.bags.conventions import PROMPT_TOPIC, PROMPT_TYPE
from pi0_ros.bags.reader import Bag, BagError, DamagedError, header_stamp_ns
from pi0_ros.conversion.clocks import Clock, Recorded, Timeline, timeline
from pi0_ros.observation.images import is_grey
from pi0_ros.observation.stream_buffer import SECOND
from pi0_ros.observation.streams import Observation, ObservationBuffer, StaleError
from pi0_ros.observation.tick_grid import tick_grid
from pi0_ros.observation.trajectories import lasts_ns
from pi0_ros.robot import Robot
from pi0_ros.robot.message_types import TRAJECTORY

LONGEST_S = 7 * 86400
_first = itemgetter(0)


@dataclass(frozen=True)
class Scan:
    """Stamps of all messages of interest.

    `stamps` are in the recording's order, `by_topic` in time order; ns, int64.
    """

    stamps: np.ndarray  # -1: the message is left out
    by_topic: dict[str, np.ndarray]
    fallbacks: Mapping[str, int]  # messages whose header stamp was zero, so that the receive time counts
    prompts: tuple[tuple[int, str], ...]  # (time in ns, text), in the order of time
    events: dict[str, list[tuple[int, bytes]]] = field(default_factory=dict)  # (time in ns, CDR) of other topics
    timeline: Timeline = field(default_factory=lambda: Timeline({}, Clock()))
    received: Mapping[str, np.ndarray] = field(default_factory=dict)  # times of arrival of the topics' messages
    lasting: Mapping[str, int] = field(default_factory=dict)  # how long the last plan of a topic goes on, ns

    @property
    def clock(self) -> Clock:
        """The common clock by the recorder's."""
        return self.timeline.clock

    @property
    def span(self) -> tuple[int, int]:
        """The first and the last time of any stream, ns: what was recorded."""
        ends = [(int(stamps[0]), int(stamps[-1])) for stamps in self.by_topic.values() if len(stamps)]
        return min(start for start, _ in ends), max(end for _, end in ends)

    def needed(self, ticks: np.ndarray) -> np.ndarray:
        """How many messages to read for each tick so that none with a stamp up to it is missing: int64 [T], rising."""
        places = np.flatnonzero(self.stamps >= 0)
        order = places[np.argsort(self.stamps[places], kind="stable")]
        furthest = np.maximum.accumulate(order) + 1
        found = np.searchsorted(self.stamps[order], ticks, side="right")
        return np.where(found > 0, furthest[np.maximum(found, 1) - 1], 0)

    def prompt_at(self, tick: int) -> str | None:
        """The prompt that was last said at `tick`; before the first one, the first; None where there is none."""
        before = bisect_right(self.prompts, tick, key=_first)
        return self.prompts[max(0, before - 1)][1] if self.prompts else None


@dataclass(frozen=True)
class Row:
    """One tick: the observation and the commanded action [J] at `stamp_ns`, or why there is none."""

    stamp_ns: int
    observation: Observation | None
    action: np.ndarray | None  # float64 [J]
    problem: str


def observed_topics(robot: Robot) -> dict[str, str]:
    """Topic -> message type of all that an observation needs: cameras and states."""
    cameras = {camera.topic: camera.type for camera in robot.cameras}
    return {**cameras, **{item.topic: item.type for item in robot.state}}


def needed_topics(robot: Robot) -> dict[str, str]:
    """Topic -> message type of all that a row needs: also the commands, unless the next state is the action."""
    return robot.topics if robot.action_source == "command" else observed_topics(robot)


def check_topics(bag: Bag, robot: Robot) -> None:
    """Raises `BagError` where a needed topic is not in the recording, has no message or another type."""
    for topic, kind in needed_topics(robot).items():
        recorded = bag.info.topics.get(topic)
        if recorded is None or not (recorded.count or topic in robot.speed_topics):
            filled = [name for name, info in bag.info.topics.items() if info.count]
            raise BagError(f"no message on {topic}; recorded are {', '.join(filled) or 'none'}")
        if recorded.type != kind:
            raise BagError(f"{topic} holds {recorded.type}, the robot file says {kind}")


def grey_cameras(bag: Bag, robot: Robot) -> list[str]:
    """A sentence for each camera whose first picture has no colour."""
    waiting = {camera.topic: camera.name for camera in robot.cameras if camera.depth is None}
    found = []
    for topic, _, data in bag.raw(set(waiting)) if waiting else ():
        if topic not in waiting:
            continue
        name = waiting.pop(topic)
        with suppress(BagError):  # said where a row needs it
            if is_grey(bag.decode(topic, data)):
                found.append(f"camera {name} sends grey pictures, without colour")
        if not waiting:
            break
    return found


def scan(
    bag: Bag,
    robot: Robot,
    prompt_topic: str = PROMPT_TOPIC,
    events: Collection[str] = (),
    ways: Mapping[str, str] | None = None,
) -> Scan:
    """Read the stamps of all needed messages, and whole those on the topics `events`.

    `ways` (topic -> auto, header or arrival) overrules which time the robot file says counts. Raises `DamagedError`
    where a topic yields fewer messages than the recording advertises.
    """
    wanted = needed_topics(robot)
    stamped = {topic for topic in wanted if bag.has_header(topic)}
    prompt = bag.info.topics.get(prompt_topic)
    prompted = prompt is not None and prompt.type == PROMPT_TYPE
    said: dict[str, list[tuple[int, bytes]]] = {topic: [] for topic in (*events, *([prompt_topic] if prompted else []))}
    order = {topic: number for number, topic in enumerate(wanted)}
    planned = {group.topic for group in robot.commands if group.type == TRAJECTORY and group.topic in wanted}
    last: dict[str, bytes] = {}  # the last plan of each topic
    places, stamps, received = array("H"), array("q"), array("q")
    for topic, receive_ns, data in bag.raw({*wanted, *said}):
        if topic in said:
            said[topic].append((receive_ns, data))
        if topic not in wanted:
            continue
        places.append(order[topic])
        stamps.append(header_stamp_ns(data) if topic in stamped else 0)
        received.append(receive_ns)
        if topic in planned:
            last[topic] = data
    all_stamps, all_received = np.frombuffer(stamps, np.int64), np.frombuffer(received, np.int64)
    which = np.frombuffer(places, np.uint16)
    ways = {**robot.stamp_ways, **(ways or {})}
    streams = []
    for topic, place in order.items():
        mine = which == place
        streams.append(Recorded(topic, all_stamps[mine], all_received[mine], ways[topic]))
        if int(mine.sum()) != bag.info.topics[topic].count and not bag.salvage:
            raise DamagedError(
                f"{topic}: {mine.sum()} messages could be read, {bag.info.topics[topic].count} are recorded"
            )
    found = timeline(streams)
    taken = {topic: _taken(times, robot.latencies_ns.get(topic, 0)) for topic, times in found.times.items()}
    for topic, place in order.items():
        all_stamps[which == place] = taken[topic]
    by_topic = {topic: np.sort(times[times >= 0]) for topic, times in taken.items()}
    clock = found.clock
    heard = {topic: [(clock.at(ns), data) for ns, data in sorted(pairs, key=_first)] for topic, pairs in said.items()}
    prompts = tuple((ns, bag.decode(prompt_topic, data).data.strip()) for ns, data in heard.get(prompt_topic, ()))
    arrivals = {stream.topic: stream.received for stream in streams}
    fallbacks = {topic: found.fallbacks.get(topic, 0) if topic in stamped else 0 for topic in wanted}
    for stream in streams:  # all of a stream's stamps zero
        if stream.topic in stamped and stream.way != "arrival" and not stream.stamps.any():
            fallbacks[stream.topic] = len(stream.stamps)
    return Scan(all_stamps, by_topic, fallbacks, prompts, heard, found, arrivals, _lasting(bag, last))


def _taken(times: np.ndarray, latency_ns: int) -> np.ndarray:
    """When samples were taken that are this much older than their times; -1 has none, and is left out."""
    return np.where(times < 0, times, np.maximum(times - latency_ns, 0))


def _lasting(bag: Bag, last: Mapping[str, bytes]) -> dict[str, int]:
    found = {}
    for topic, data in last.items():
        with suppress(BagError):  # said where a row needs it
            found[topic] = lasts_ns(bag.decode(topic, data))
    return found


def action_lead_ns(robot: Robot) -> int:
    """How far after its tick an action is measured: one frame where it is the next state, else 0."""
    return round(SECOND / robot.dataset_fps) if robot.action_source == "next_state" else 0


def ticks_of(found: Scan, robot: Robot, start_ns: int = 0, end_ns: int = 2**63 - 1) -> np.ndarray:
    """The tick grid of an episode from `start_ns` to before `end_ns` at the robot file's `dataset_fps`, int64 ns: while
    all streams last. Empty where one has no message at all.

    Raises `BagError` where the stamps span more than a week, as they do when clocks differ.
    """
    free = robot.may_be_silent
    if not all(len(stamps) for topic, stamps in found.by_topic.items() if topic not in robot.speed_topics):
        return np.zeros(0, np.int64)
    start = max(start_ns, *(int(stamps[0]) for topic, stamps in found.by_topic.items() if topic not in free))
    last = min(int(found.by_topic[topic][-1]) for topic in observed_topics(robot)) - action_lead_ns(robot)
    end = min(end_ns - 1, last)
    if end - start > LONGEST_S * SECOND:
        raise BagError(f"the stamps span {(end - start) / SECOND / 86400:.0f} days: the clocks of the streams differ")
    return tick_grid(start, end, robot.dataset_fps, [found.by_topic[camera.topic] for camera in robot.cameras])


def rows(bag: Bag, robot: Robot, found: Scan, ticks: np.ndarray, prompt_at: Callable[[int], str]) -> Iterator[Row]:
    """One row per tick of `ticks` (ns, rising), in order; `prompt_at` a tick is its prompt.

    A message that can't be decoded takes its place all the same: ticks that would show it have no observation.
    """
    buffer = ObservationBuffer(robot, keep=None)
    messages = bag.raw(set(found.by_topic))
    pushed = 0
    for tick, needed in zip(map(int, ticks), map(int, found.needed(ticks + action_lead_ns(robot))), strict=True):
        while pushed < needed:
            topic, receive_ns, data = next(messages)
            try:
                message = bag.decode(topic, data)
            except BagError as error:
                message = error  # raised where a tick needs this message
            if (stamp_ns := int(found.stamps[pushed])) >= 0:
                buffer.push_message(topic, message, receive_ns, stamp_ns)
            pushed += 1
        buffer.forget(tick)
        try:
            observation = buffer.observe(tick, prompt_at(tick))
            yield Row(tick, observation, buffer.action_at(tick), "")
        except StaleError as error:
            yield Row(tick, None, None, str(error))
