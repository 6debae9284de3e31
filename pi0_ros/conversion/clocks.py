"""One time line for all streams of a recording: whose clock is which, where a clock was set, which stamps are wild.

Every message has a time of arrival, by the recorder's clock, and most have a header stamp, by their publisher's. The
stamp is when something happened, so it is what counts; but a publisher's clock may be another one (simulated time, a
micro-controller's boot time), be off, or be set in mid-recording. Here all that is judged once, for `pi0 convert` and
`pi0 bag check` alike:

- the common clock is the one that most streams share (with the recorder's own as one vote); a stream more than
  `SEEN_S` off it is named with both ways to go on (a driver may be that slow, a clock that much off: times alone do
  not tell which), one more than `WRONG_S` off makes the recording unusable, unless it is said which time to take
  (`--stamp TOPIC=arrival` or `=header`, or `stamp` in the robot file);
- messages without a stamp are carried over to the common clock by the pairs of stamp and arrival of a stream that has
  both;
- where the clock is set, the recording is cut: what follows gets its time by how the recorder's clock went on;
- single stamps far off their neighbours are wild: those messages are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pi0_ros.base.findings import remedy

SECOND = 1_000_000_000
SEEN_S = 0.05  # a stream stamped so far off the common clock is named
WRONG_S = 0.25  # ... and so far off makes rows wrong by several frames
STEP_S = 0.25  # stamps that move so much further than the arrivals, for good, tell that the clock was set
WILD_S = 1.0  # a stamp so far off its neighbours' is not believed
AROUND_S = 1.0  # on both sides of a step, over which offsets are compared
SAMPLES = 2000  # messages of each stream that are compared
WAYS = ("auto", "header", "arrival")


@dataclass(frozen=True, eq=False)
class Recorded:
    """One topic's messages in the order of their arrival. `stamps` and `received` in ns, int64; stamp 0: none."""

    topic: str
    stamps: np.ndarray
    received: np.ndarray
    way: str = "auto"  # which time counts: auto (the stamp, if the clocks agree) | header (believed) | arrival


@dataclass(frozen=True, eq=False)
class Clock:
    """The common clock, as the recorder's clock tells it. `received` (rising) and `times` of the same messages, ns;
    empty where both clocks are one."""

    received: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    times: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def at(self, receive_ns: int) -> int:
        """The time (ns) by the common clock when it was `receive_ns` by the recorder's."""
        return int(self.carry(np.array([receive_ns], np.int64))[0])

    def carry(self, received: np.ndarray) -> np.ndarray:
        """The same for many."""
        if not len(self.received):
            return received
        first, time = int(self.received[0]), int(self.times[0])
        inside = np.interp(received - first, self.received - first, self.times - time)
        before, after = np.minimum(received - first, 0), np.maximum(received - int(self.received[-1]), 0)
        return time + np.rint(inside + before + after).astype(np.int64)  # beyond both ends at the same pace


@dataclass(frozen=True, eq=False)
class Timeline:
    """The times of all messages by the common clock.

    `times`: topic -> int64 ns in the order of arrival, -1 for a message that is left out. `cuts`: (ns, why): what
    comes from then on does not follow what came before. `offsets_s`: how far each stamped stream is off the common
    clock. `problems` are sentences that make the recording unusable, `notes` such that do not.
    """

    times: dict[str, np.ndarray]
    clock: Clock
    cuts: tuple[tuple[int, str], ...] = ()
    offsets_s: Mapping[str, float] = field(default_factory=dict)
    fallbacks: Mapping[str, int] = field(default_factory=dict)  # messages without a stamp in streams that have them
    wild: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[tuple[str, str], ...] = ()  # (what, what to do)
    notes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, eq=False)
class _Stamped:
    """Of a stream with stamps: those that are believed, in the order of arrival; `offset` = stamp - arrival, ns."""

    topic: str
    received: np.ndarray
    stamps: np.ndarray

    @property
    def offset(self) -> np.ndarray:
        return self.stamps - self.received


def timeline(streams: Sequence[Recorded]) -> Timeline:
    """Judge the clocks of `streams` and put all their messages on one time line."""
    stamped, wild = {}, {}
    for stream in streams:
        good = _believed(stream)
        if good.any():
            stamped[stream.topic] = _Stamped(stream.topic, stream.received[good], stream.stamps[good])
        wild[stream.topic] = int(((stream.stamps != 0) & ~good).sum()) if stream.way != "arrival" else 0
    steps = _steps(list(stamped.values()))
    unset = {topic: _unset(stream, steps) for topic, stream in stamped.items()}
    reference, offsets = _judge(list(unset.values()))
    clock = _clock(unset[reference]) if reference else Clock()
    times, fallbacks = {}, {}
    for stream in streams:
        good = _believed(stream)
        found = np.where(good, 0, -1).astype(np.int64)
        if stream.topic in stamped:
            found[good] = unset[stream.topic].stamps
        bare = (stream.stamps == 0) if stream.way != "arrival" else np.ones(len(stream.stamps), bool)
        found[bare] = clock.carry(stream.received[bare])
        fallbacks[stream.topic] = int(bare.sum()) if stream.topic in stamped else 0
        times[stream.topic] = found
    cuts = tuple((int(clock.at(at)), _set_text(by)) for at, by in steps)
    problems, notes = _sentences(streams, unset, reference, offsets, clock, wild, steps)
    return Timeline(times, clock, cuts, offsets, fallbacks, wild, problems, notes)


def _believed(stream: Recorded) -> np.ndarray:
    """Which messages have a stamp that is not wild, bool [N]."""
    has = stream.stamps != 0
    if stream.way == "arrival" or not has.any():
        return np.zeros(len(has), bool)
    places = np.flatnonzero(has)
    offset = stream.stamps[places] - stream.received[places]
    good = has.copy()
    good[places] = np.abs(offset - _running_median(offset, 5)) <= WILD_S * SECOND
    return good


def _running_median(values: np.ndarray, half: int) -> np.ndarray:
    """The median over each value and `half` on both sides, int64 [N]; at the ends over the nearest full window."""
    width = min(2 * half + 1, len(values) if len(values) % 2 else max(1, len(values) - 1))
    windows = np.sort(np.lib.stride_tricks.sliding_window_view(values, width), axis=1)[:, width // 2]
    left = width // 2
    right = len(values) - left - len(windows)
    return np.concatenate([np.repeat(windows[:1], left), windows, np.repeat(windows[-1:], right)])


def _steps(streams: Sequence[_Stamped]) -> list[tuple[int, int]]:
    """Where the common clock was set: (arrival in ns from which on, by how much in ns), in order.

    What fewer than half of the streams show is a clock of their own, which shows as a problem of theirs.
    """
    groups: list[list[tuple[int, int, str]]] = []
    for found in sorted((at, by, stream.topic) for stream in streams for at, by in _steps_of(stream)):
        at, by, _ = groups[-1][0] if groups else (0, 0, "")
        if groups and found[0] - at <= 2 * AROUND_S * SECOND and abs(found[1] - by) <= STEP_S * SECOND:
            groups[-1].append(found)
        else:
            groups.append([found])
    return [group[0][:2] for group in groups if 2 * len({topic for _, _, topic in group}) > len(streams)]


def _steps_of(stream: _Stamped) -> list[tuple[int, int]]:
    """Steps of one stream's clock: stamps that jump where arrivals do not, and whose offset stays other."""
    if len(stream.stamps) < 4:
        return []
    moved, arrived = np.diff(stream.stamps), np.diff(stream.received)
    # after a pause in the arrivals alone (a network's, not the clock's) stamps go on regularly: that is no step
    jumps = np.flatnonzero((np.abs(moved - arrived) > STEP_S * SECOND) & ((moved < 0) | (moved > STEP_S * SECOND)))
    found: list[tuple[int, int]] = []
    for place in jumps:
        at = stream.received[place + 1]
        if found and at - found[-1][0] < AROUND_S * SECOND:
            continue
        before = stream.offset[(stream.received >= at - AROUND_S * SECOND) & (stream.received < at)]
        after = stream.offset[(stream.received >= at) & (stream.received <= at + AROUND_S * SECOND)]
        before = before if len(before) > 2 else stream.offset[max(0, place - 4) : place + 1]
        after = after if len(after) > 2 else stream.offset[place + 1 : place + 6]
        by = int(np.median(after) - np.median(before))
        if abs(by) > STEP_S * SECOND:
            found.append((int(at), by))
    return found


def _unset(stream: _Stamped, steps: Sequence[tuple[int, int]]) -> _Stamped:
    """The stream as it were if the common clock had never been set.

    The stream's own message at which the step shows may come later than the first of all: it is where its own stamps
    jump.
    """
    stamps = stream.stamps.copy()
    for at, by in steps:
        own = [place for place, own_by in _steps_of(stream) if abs(place - at) <= 2 * AROUND_S * SECOND]
        stamps[stream.received >= (own[0] if own else at)] -= by
    return _Stamped(stream.topic, stream.received, stamps)


def _judge(streams: Sequence[_Stamped]) -> tuple[str, dict[str, float]]:
    """The stream by which the common clock is told, and how far each is off it in s. Empty without any stream."""
    if not streams:
        return "", {}
    apart = {a.topic: {b.topic: _apart(a, b) for b in streams} for a in streams}
    delay = {stream.topic: float(np.median(stream.offset)) / SECOND for stream in streams}

    def rank(topic: str) -> tuple[int, float]:
        votes = sum(abs(apart[other][topic]) <= SEEN_S for other in apart) + (abs(delay[topic]) <= SEEN_S)
        return votes, -abs(delay[topic])

    reference = max(sorted(apart), key=rank)
    fellows = [topic for topic in apart if abs(apart[topic][reference]) <= SEEN_S]
    reference = max(fellows, key=lambda topic: delay[topic])  # the one that arrives soonest after its stamp
    return reference, {topic: apart[topic][reference] for topic in apart}


def _apart(stream: _Stamped, other: _Stamped) -> float:
    """By how much `stream` is stamped after `other` where both arrived at the same time: the median in s."""
    if stream.topic == other.topic:
        return 0.0
    picked = np.unique(np.linspace(0, len(stream.received) - 1, min(SAMPLES, len(stream.received))).astype(int))
    received, offset = stream.received[picked], stream.offset[picked]
    order = np.argsort(other.received, kind="stable")
    start = int(other.received[order[0]])
    base = int(np.median(other.offset))
    expected = np.interp(received - start, other.received[order] - start, other.offset[order] - base)
    return float(np.median(offset - base - expected)) / SECOND


def _clock(reference: _Stamped) -> Clock:
    return Clock() if abs(np.median(reference.offset)) <= SEEN_S * SECOND else _pairs(reference)


def _pairs(reference: _Stamped) -> Clock:
    return Clock(np.maximum.accumulate(reference.received), np.maximum.accumulate(reference.stamps))


def _set_text(by: int) -> str:
    return f"the clock was set {'back' if by < 0 else 'forward'} by {seconds(abs(by) / SECOND)}"


def seconds(value: float) -> str:
    """`0.30 s`, or in days where it is many."""
    return f"{value / 86400:.0f} days" if value >= 2 * 86400 else f"{value:.2f} s"


def _sentences(
    streams: Sequence[Recorded],
    stamped: Mapping[str, _Stamped],
    reference: str,
    offsets: Mapping[str, float],
    clock: Clock,
    wild: Mapping[str, int],
    steps: Sequence[tuple[int, int]],
) -> tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]:
    problems, notes = [], []
    way = {stream.topic: stream.way for stream in streams}
    for topic, apart in offsets.items():
        if abs(apart) <= SEEN_S:
            continue
        when = "after" if apart > 0 else "before"
        what = f"{topic} is stamped {seconds(abs(apart))} {when} {_others(offsets, topic)}"
        if abs(apart) <= WRONG_S:
            notes.append((what, _small(topic, stamped[topic], way[topic], bool(len(clock.received)))))
        elif way[topic] == "header":
            notes.append((f"{what}, which `stamp: header` says is right", ""))
        else:
            todo = (
                f"its clock is another one: convert with --stamp {topic}=arrival (its times of arrival), or =header "
                "where the stamps are right"
            )
            problems.append((what, remedy(todo, "the same use_sim_time everywhere, chrony")))
    shared = float(np.median(stamped[reference].offset)) / SECOND if reference else 0.0
    bare = [s.topic for s in streams if s.topic not in stamped]
    if len(clock.received) and bare:
        what = f"all stamps are {seconds(abs(shared))} off the recorder's clock"
        notes.append((f"{what}; {', '.join(bare)} without stamps is carried over to them", ""))
    for stream in streams:
        if wild[stream.topic]:
            notes.append((f"{stream.topic}: {wild[stream.topic]} stamps far off their neighbours, left out", ""))
    for topic, good in stamped.items() if reference else ():
        if way[topic] == "auto" and topic != reference and (late := _own_step(good, stamped[reference])):
            what = f"{topic}: its clock was set by {seconds(late)} in mid-recording, that of {reference} was not"
            problems.append((what, f"convert with --stamp {topic}=arrival, its times of arrival"))
    notes += [(_set_text(by), "") for _, by in steps]
    return tuple(problems), tuple(notes)


def _small(topic: str, stream: _Stamped, way: str, other_clock: bool) -> str:
    """What an offset of a few frames may be, and how to go on: both are common, and no clock can tell them apart."""
    if way == "header":
        return "`stamp: header` says that this is right"
    ahead = not other_clock and float(np.median(stream.offset)) / SECOND > SEEN_S
    why = "its stamps are ahead of its arrivals, which no delay explains" if ahead else "a slow driver, or a clock off"
    return f"{why}: rows take the stamps; if they are wrong, convert with --stamp {topic}=arrival, else with =header"


def _own_step(stream: _Stamped, reference: _Stamped) -> float:
    """The greatest step of a stream's clock against the reference's, in s; 0 without one."""
    expected = _pairs(reference).carry(stream.received)
    return max((abs(by) / SECOND for _, by in _steps_of(_Stamped(stream.topic, expected, stream.stamps))), default=0.0)


def _others(offsets: Mapping[str, float], topic: str) -> str:
    return "the other streams" if len(offsets) > 2 else " and ".join(other for other in offsets if other != topic)
