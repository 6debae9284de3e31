"""From a recording to aligned rows: the observation and the action as they were at every tick of a fixed grid.

Two passes over the messages. The first reads only their stamps, which fix the tick grid and say, for every tick, how
far the recording has to be read until nothing older than the tick is missing (messages arrive late and out of order).
The second pushes messages into the very `ObservationBuffer` that the live policy node uses and asks it at every tick.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from operator import itemgetter

import numpy as np

from pi0_ros.bags.conventions import PROMPT_TOPIC, PROMPT_TYPE
from pi0_ros.bags.reader import Bag, BagError, DamagedError, header_stamp_ns
from pi0_ros.observation.streams import SECOND, Observation, ObservationBuffer, StaleError, tick_grid
from pi0_ros.robot import Robot

LONGEST_S = 7 * 86400
_first = itemgetter(0)
OTHER_CLOCK_S = 1.0  # messages stamped so long before their arrival, or after it, are stamped by another clock


@dataclass(frozen=True, eq=False)
class Clock:
    """The clock of the header stamps, as the recorder's clock tells it: a simulator's may be another one, and slower.

    `received` (rising) and `stamps` of the same messages, ns, int64; empty where both clocks are one.
    """

    received: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    stamps: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def at(self, receive_ns: int) -> int:
        """The time (ns) by the stamps' clock when it was `receive_ns` by the recorder's."""
        if not len(self.received):
            return receive_ns
        first, stamp = int(self.received[0]), int(self.stamps[0])
        return stamp + round(float(np.interp(receive_ns - first, self.received - first, self.stamps - stamp)))


def _clock(received: np.ndarray, stamps: np.ndarray) -> Clock:
    if not len(stamps) or abs(np.median(received - stamps)) <= OTHER_CLOCK_S * SECOND:
        return Clock()
    return Clock(np.maximum.accumulate(received), np.maximum.accumulate(stamps))


@dataclass(frozen=True)
class Scan:
    """Stamps of all messages of interest.

    `stamps` are in the recording's order, `by_topic` in time order; ns, int64.
    """

    stamps: np.ndarray
    by_topic: dict[str, np.ndarray]
    fallbacks: dict[str, int]  # messages whose header stamp was zero, so that the receive time counts
    prompts: tuple[tuple[int, str], ...]  # (time in ns, text), in the order of time
    events: dict[str, list[tuple[int, bytes]]] = field(default_factory=dict)  # (time in ns, CDR) of other topics
    clock: Clock = Clock()

    def needed(self, ticks: np.ndarray) -> np.ndarray:
        """How many messages to read for each tick so that none with a stamp up to it is missing: int64 [T], rising."""
        order = np.argsort(self.stamps, kind="stable")
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
        if recorded is None or not recorded.count:
            filled = [name for name, info in bag.info.topics.items() if info.count]
            raise BagError(f"no message on {topic}; recorded are {', '.join(filled) or 'none'}")
        if recorded.type != kind:
            raise BagError(f"{topic} holds {recorded.type}, the robot file says {kind}")


def scan(bag: Bag, robot: Robot, prompt_topic: str = PROMPT_TOPIC, events: Collection[str] = ()) -> Scan:
    """Read the stamps of all needed messages, and whole those on the topics `events`.

    Raises `DamagedError` where a topic yields fewer messages than the recording advertises.
    """
    wanted = needed_topics(robot)
    stamped = {topic for topic in wanted if bag.has_header(topic)}
    prompt = bag.info.topics.get(prompt_topic)
    prompted = prompt is not None and prompt.type == PROMPT_TYPE
    said: dict[str, list[tuple[int, bytes]]] = {topic: [] for topic in (*events, *([prompt_topic] if prompted else []))}
    order = {topic: number for number, topic in enumerate(wanted)}
    places, stamps, received = array("H"), array("q"), array("q")
    fallbacks = dict.fromkeys(wanted, 0)
    for topic, receive_ns, data in bag.raw({*wanted, *said}):
        if topic in said:
            said[topic].append((receive_ns, data))
        if topic not in wanted:
            continue
        stamp = header_stamp_ns(data) if topic in stamped else receive_ns
        if not stamp:
            fallbacks[topic] += 1
            stamp = receive_ns
        places.append(order[topic])
        stamps.append(stamp)
        received.append(receive_ns)
    all_stamps, which = np.array(stamps, np.int64), np.array(places)
    by_topic = {topic: np.sort(all_stamps[which == place]) for topic, place in order.items()}
    for topic, found in by_topic.items():
        if len(found) != bag.info.topics[topic].count and not bag.salvage:
            raise DamagedError(
                f"{topic}: {len(found)} messages could be read, {bag.info.topics[topic].count} are recorded"
            )
    headed = np.isin(which, [order[topic] for topic in stamped])
    clock = _clock(np.array(received, np.int64)[headed], all_stamps[headed])
    heard = {topic: [(clock.at(ns), data) for ns, data in sorted(found, key=_first)] for topic, found in said.items()}
    prompts = tuple((ns, bag.decode(prompt_topic, data).data.strip()) for ns, data in heard.get(prompt_topic, ()))
    return Scan(all_stamps, by_topic, fallbacks, prompts, heard, clock)


def action_lead_ns(robot: Robot) -> int:
    """How far after its tick an action is measured: one frame where it is the next state, else 0."""
    return round(SECOND / robot.dataset_fps) if robot.action_source == "next_state" else 0


def ticks_of(found: Scan, robot: Robot, start_ns: int = 0, end_ns: int = 2**63 - 1) -> np.ndarray:
    """The tick grid of an episode from `start_ns` to before `end_ns` at the robot file's `dataset_fps`, int64 ns: while
    all streams last. Empty where one has no message at all.

    Raises `BagError` where the stamps span more than a week, as they do when clocks differ.
    """
    if not all(map(len, found.by_topic.values())):
        return np.zeros(0, np.int64)
    start = max(start_ns, *(int(stamps[0]) for stamps in found.by_topic.values()))
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
    for tick, needed in zip(ticks.tolist(), found.needed(ticks + action_lead_ns(robot)).tolist(), strict=True):
        while pushed < needed:
            topic, receive_ns, data = next(messages)
            try:
                message = bag.decode(topic, data)
            except BagError as error:
                message, receive_ns = error, int(found.stamps[pushed])  # raised where a tick needs this message
            buffer.push_message(topic, message, receive_ns)
            pushed += 1
        buffer.forget(tick)
        try:
            observation = buffer.observe(tick, prompt_at(tick))
            yield Row(tick, observation, buffer.action_at(tick), "")
        except StaleError as error:
            yield Row(tick, None, None, str(error))
