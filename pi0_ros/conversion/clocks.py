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
- where the clock is set, the recording is cut: what follows gets its time by how the recorder's clock went on; a clock
  that one stream alone shows being set makes the recording unusable;
- a few stamps far off their neighbours are wild: those messages are left out;
- what a network held back and then let go at once moved no clock: what a clock says is told by the soonest messages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from pi0_ros.base.findings import remedy

SECOND = 1_000_000_000
SEEN_S = 0.05  # a stream stamped so far off the common clock is named
WRONG_S = 0.25  # ... and so far off makes rows wrong by several frames
STEP_S = 0.25  # stamps that move so much further than the arrivals, for good, tell that the clock was set
WILD_S = 1.0  # a stamp so far off its neighbours' is not believed
FEW = 5  # so many messages in a row may be wild
AROUND_S = 1.0  # on both sides of a step, over which offsets are compared
DELAYED_S = 5.0  # what a network held back comes up within so long
AT_ENDS = 30  # messages, by whose pace a clock is carried on beyond them
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
        offset = self.times - self.received
        paces = [max(0.0, _pace(self.received[part], offset[part])) for part in (slice(AT_ENDS), slice(-AT_ENDS, None))]
        return time + np.rint(inside + paces[0] * before + paces[1] * after).astype(np.int64)


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


@dataclass(frozen=True)
class _Step:
    """A clock that was set between two arrivals (ns) by so much (ns); message number `place` is the first by it.

    `stood`: its stamps went on as if no time had passed, as those of a simulator that was paused do.
    """

    after: int
    at: int
    by: int
    place: int = 0
    stood: bool = False

    def like(self, other: _Step) -> bool:
        """Whether both may be one and the same."""
        apart_s = (max(self.after, other.after) - min(self.at, other.at)) / SECOND
        return apart_s <= WRONG_S and abs(self.by - other.by) <= STEP_S * SECOND


def timeline(streams: Sequence[Recorded]) -> Timeline:
    """Judge the clocks of `streams` and put all their messages on one time line."""
    believed = {stream.topic: _believed(stream) for stream in streams}
    stamped, wild = {}, {}
    for stream in streams:
        good = believed[stream.topic]
        if good.any():
            stamped[stream.topic] = _Stamped(stream.topic, stream.received[good], stream.stamps[good])
        wild[stream.topic] = int(((stream.stamps != 0) & ~good).sum()) if stream.way != "arrival" else 0
    moves = _common_moves(list(stamped.values()))
    unset = {topic: _unset(stream, moves) for topic, stream in stamped.items()}
    steady = [stream for stream in unset.values() if not _own_steps(stream, moves)]
    reference, offsets = _judge(list(unset.values()), steady)
    frame = _pairs(unset[reference]) if reference else Clock()
    own = {topic: steps for topic, stream in unset.items() if (steps := _own_steps(stream, moves, frame))}
    clock = frame if reference and abs(np.median(unset[reference].offset)) > SEEN_S * SECOND else Clock()
    times, fallbacks = {}, {}
    for stream in streams:
        good = believed[stream.topic]
        found = np.where(good, 0, -1).astype(np.int64)
        if stream.topic in stamped:
            found[good] = unset[stream.topic].stamps
        bare = (stream.stamps == 0) if stream.way != "arrival" else np.ones(len(stream.stamps), bool)
        found[bare] = clock.carry(stream.received[bare])
        fallbacks[stream.topic] = int(bare.sum()) if stream.topic in stamped else 0
        times[stream.topic] = found
    steps = [move for move in moves if not move.stood]
    cuts = tuple((int(clock.at(step.at)), _set_text(step.by)) for step in steps)
    problems, notes = _sentences(streams, unset, offsets, own, len(clock.received) > 0, wild)
    shared = float(np.median(unset[reference].offset)) / SECOND if reference else 0.0
    bare_topics = [stream.topic for stream in streams if stream.topic not in stamped]
    if len(clock.received) and bare_topics:
        what = f"all stamps are {seconds(abs(shared))} off the recorder's clock"
        notes.append((f"{what}; {', '.join(bare_topics)} without stamps is carried over to them", ""))
    notes += [(_set_text(step.by), "") for step in steps]
    return Timeline(times, clock, cuts, offsets, fallbacks, wild, tuple(problems), tuple(notes))


def _believed(stream: Recorded) -> np.ndarray:
    """Which messages have a stamp that is not wild, bool [N]."""
    has = stream.stamps != 0
    if stream.way == "arrival" or not has.any():
        return np.zeros(len(has), bool)
    places = np.flatnonzero(has)
    offset = stream.stamps[places] - stream.received[places]
    good = has.copy()
    good[places] = not_wild(offset)
    places = np.flatnonzero(good)
    steps = _steps_of(_Stamped(stream.topic, stream.received[places], stream.stamps[places]))
    for there, back in pairwise(steps):  # a few stamps that are off by less: there and back again
        if back.place - there.place <= FEW and abs(there.by + back.by) <= STEP_S * SECOND:
            good[places[there.place : back.place]] = False
    return good


def not_wild(offset: np.ndarray) -> np.ndarray:
    """Which of a stream's offsets (stamp - arrival, ns, in order of arrival) are like their neighbours', bool [N].

    Several at an end that are like each other tell that the clock was set there.
    """
    good = np.abs(offset - _running_median(offset, FEW)) <= WILD_S * SECOND
    if good.any():
        first, last = int(np.argmax(good)), len(good) - int(np.argmax(good[::-1]))
        for end in (slice(0, first), slice(last, len(good))):
            if len(offset[end]) > 2 and np.ptp(offset[end]) <= STEP_S * SECOND:
                good[end] = True
    return good


def _running_median(values: np.ndarray, half: int) -> np.ndarray:
    """The median over each value and `half` on both sides, int64 [N]; at the ends over the nearest full window."""
    width = min(2 * half + 1, len(values) if len(values) % 2 else max(1, len(values) - 1))
    windows = np.sort(np.lib.stride_tricks.sliding_window_view(values, width), axis=1)[:, width // 2]
    left = width // 2
    right = len(values) - left - len(windows)
    return np.concatenate([np.repeat(windows[:1], left), windows, np.repeat(windows[-1:], right)])


def _common_moves(streams: Sequence[_Stamped]) -> list[_Step]:
    """Where the clock that most streams share moved, in order.

    Steps of several streams are one where all may have happened at one time by about the same: each between the last
    message before and the first after it, which a pause moves far apart. Of the streams that were there before and
    after it most must show it; others do not know. The recorder's clock does not show it, so half are not most. What
    fewer show is a clock of their own, which shows as a problem of theirs.
    """
    groups: list[list[tuple[str, _Step]]] = []
    found = ((stream.topic, step) for stream in streams for step in _steps_of(stream))
    for topic, step in sorted(found, key=lambda item: (item[1].at, item[0])):
        fitting = (group for group in groups if all(topic != other and step.like(its) for other, its in group))
        group = next(fitting, None)
        if group is None:
            groups.append([(topic, step)])
        else:
            group.append((topic, step))
    moves = []
    for group in groups:
        first, last = max(step.after for _, step in group), min(step.at for _, step in group)
        shown = {topic for topic, _ in group}
        knowing = {stream.topic for stream in streams if stream.received[0] <= first and last <= stream.received[-1]}
        if len(shown) > len(knowing - shown):
            stood = all(step.stood for _, step in group)
            moves.append(_Step(first, last, int(np.median([step.by for _, step in group])), stood=stood))
    return sorted(moves, key=lambda move: move.at)


def _steps_of(stream: _Stamped) -> list[_Step]:
    """Steps of one stream's clock: stamps that move otherwise than the arrivals, and whose offset stays other.

    What a clock says is told by the messages that were on their way for the shortest time, so by the greatest offsets
    around. Stamps that fall behind may have been delayed, and come up within seconds; those that go back were not.
    """
    offset, received = stream.offset, stream.received
    moved, arrived = np.diff(stream.stamps), np.diff(received)
    jumps = np.flatnonzero(np.abs(moved - arrived) > STEP_S * SECOND)
    found: list[_Step] = []
    since = 0  # of the last step: what was before does not tell of the present clock
    for number, place in enumerate((jumps + 1).tolist()):
        if place <= since:
            continue
        behind, back = moved[place - 1] < arrived[place - 1], moved[place - 1] < 0
        next_jump = int(jumps[number + 1]) + 1 if back and number + 1 < len(jumps) else len(offset)
        early = max(since, _index(received, received[place - 1] - (AROUND_S if behind else DELAYED_S) * SECOND))
        late = min(
            next_jump, _index(received, received[place] + (DELAYED_S if behind and not back else AROUND_S) * SECOND)
        )
        before, after = slice(early, place), slice(place, max(late, place + 1))
        paces = _pace(received[before], offset[before]), _pace(received[after], offset[after])
        old = int(np.max(offset[before] - np.rint((paces[0] - 1) * (received[before] - received[place - 1]))))
        new = int(np.max(offset[after] - np.rint((paces[1] - 1) * (received[after] - received[place]))))
        usual = sorted((pace - 1) * arrived[place - 1] for pace in paces)  # what a clock of that pace does meanwhile
        by = int(new - old - min(max(new - old, usual[0]), usual[1]))
        if abs(by) > STEP_S * SECOND and (by < 0) == behind:
            last, stood = int(received[place - 1]), 0 <= moved[place - 1] <= STEP_S * SECOND
            if stood:  # held back meanwhile: the stamps themselves may jump later, among what comes up at once
                within = (later := jumps[number + 1 :] + 1)[received[later] <= received[place] + AROUND_S * SECOND]
                own = within[np.abs(moved[within - 1] - by) <= STEP_S * SECOND]
                place, stood = (int(own[0]), False) if len(own) else (place, True)
            found.append(_Step(last, int(received[place]), by, place, bool(stood)))
            since = place
    return found


def _index(received: np.ndarray, at: float) -> int:
    """The first message that arrived at `at` or later."""
    return int(np.searchsorted(received, at))


def _pace(received: np.ndarray, offset: np.ndarray) -> float:
    """Seconds of the stamps in a second of the arrivals; 1 where it is about that, or where too few tell."""
    half = len(received) // 2
    if half < 3:
        return 1.0
    passed = float(np.median(received[half:]) - np.median(received[:half]))
    pace = 1 + float(np.median(offset[half:]) - np.median(offset[:half])) / passed if passed > 0.2 * SECOND else 1.0
    return pace if abs(pace - 1) > 0.1 else 1.0


def _usual_pace(received: np.ndarray, offset: np.ndarray) -> float:
    """The same of a whole stream, whose clock may have stood for a while, or arrivals been held back: by seconds."""
    places = np.flatnonzero(np.diff((received - received[0]) // SECOND)) + 1
    paces = [_pace(*part) for part in zip(np.split(received, places), np.split(offset, places), strict=True)]
    return float(
        np.median(
            [pace for pace, part in zip(paces, np.split(received, places), strict=True) if len(part) > 5] or [1.0]
        )
    )


def _unset(stream: _Stamped, moves: Sequence[_Step]) -> _Stamped:
    """The stream as it were if the common clock had never been set.

    The stream's own message at which the step shows may come later than the first of all: it is where its own stamps
    jump.
    """
    stamps, own = stream.stamps.copy(), _steps_of(stream)
    for move in moves:
        if not move.stood:
            begun = 0 if stream.received[0] > move.after else _index(stream.received, move.at)
            place = next((step.place for step in own if step.like(move)), begun)
            stamps[place:] -= move.by
    return _Stamped(stream.topic, stream.received, stamps)


def _own_steps(stream: _Stamped, moves: Sequence[_Step], frame: Clock | None = None) -> list[_Step]:
    """Steps of a stream's clock alone, against the arrivals or (`frame`) against a clock that goes by them."""
    carried = frame.carry(stream.received) if frame else stream.received
    steps = _steps_of(_Stamped(stream.topic, carried, stream.stamps))
    stood = [] if frame and len(frame.received) else [move for move in moves if move.stood]
    return [step for step in steps if not any(step.like(move) for move in stood)]


def _judge(streams: Sequence[_Stamped], steady: Sequence[_Stamped]) -> tuple[str, dict[str, float]]:
    """The stream by which the common clock is told, a steady one, and how far each is off it in s.

    Without any steady stream none, and how far each is off the recorder's clock.
    """
    delay = {stream.topic: float(np.quantile(stream.offset, 0.9)) / SECOND for stream in streams}
    if not steady:
        return "", delay
    frames = {stream.topic: _pairs(stream) for stream in steady}
    apart = {a.topic: {b: 0.0 if a.topic == b else _apart(a, frame) for b, frame in frames.items()} for a in streams}
    voters = [stream.topic for stream in steady]

    def rank(topic: str) -> tuple[int, float]:
        votes = sum(abs(apart[other][topic]) <= SEEN_S for other in voters) + (abs(delay[topic]) <= SEEN_S)
        return votes, -abs(delay[topic])

    reference = max(sorted(voters), key=rank)
    fellows = [topic for topic in voters if abs(apart[topic][reference]) <= SEEN_S]
    reference = max(fellows, key=lambda topic: delay[topic])  # the one that arrives soonest after its stamp
    return reference, {topic: apart[topic][reference] for topic in apart}


def _apart(stream: _Stamped, other: Clock) -> float:
    """By how much `stream` is stamped after what was `other` when it arrived, by the soonest tenth of it, in s."""
    picked = np.unique(np.linspace(0, len(stream.received) - 1, min(SAMPLES, len(stream.received))).astype(int))
    return float(np.quantile(stream.stamps[picked] - other.carry(stream.received[picked]), 0.9)) / SECOND


def _pairs(reference: _Stamped) -> Clock:
    """The clock by a stream's stamps and arrivals, without messages that were delayed: later ones overtook them."""
    received, offset = np.maximum.accumulate(reference.received), reference.offset
    slack = 2 * abs(_usual_pace(received, offset) - 1) + 0.1  # a clock's offset rises by less in a second
    leaned = offset - np.rint(slack * (received - received[0])).astype(np.int64)
    undelayed = np.maximum.accumulate(leaned[::-1])[::-1] - leaned <= SEEN_S * SECOND
    return Clock(received[undelayed], np.maximum.accumulate(reference.stamps[undelayed]))


def _set_text(by: int) -> str:
    return f"the clock was set {'back' if by < 0 else 'forward'} by {seconds(abs(by) / SECOND)}"


def seconds(value: float) -> str:
    """`0.30 s`, or in days where it is many."""
    return f"{value / 86400:.0f} days" if value >= 2 * 86400 else f"{value:.2f} s"


def _sentences(
    streams: Sequence[Recorded],
    stamped: Mapping[str, _Stamped],
    offsets: Mapping[str, float],
    own: Mapping[str, Sequence[_Step]],
    other_clock: bool,
    wild: Mapping[str, int],
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    problems, notes = [], []
    way = {stream.topic: stream.way for stream in streams}
    for topic, apart in offsets.items():
        if topic in own and way[topic] == "auto":
            step = max(own[topic], key=lambda one: abs(one.by))
            at = (
                int(stamped[topic].received[step.place])
                - min(int(stream.received[0]) for stream in streams if len(stream.received))
            ) / SECOND
            what = f"{topic}: its clock was set by {seconds(step.by / SECOND)} at {at:.1f} s, that of the rest was not"
            problems.append((what, f"convert with --stamp {topic}=arrival, its times of arrival"))
            continue
        if abs(apart) <= SEEN_S:
            continue
        when = "after" if apart > 0 else "before"
        what = f"{topic} is stamped {seconds(abs(apart))} {when} {_others(offsets, topic)}"
        if abs(apart) <= WRONG_S:
            notes.append((what, _small(topic, stamped[topic], way[topic], other_clock)))
        elif way[topic] == "header":
            notes.append((f"{what}, which `stamp: header` says is right", ""))
        else:
            todo = (
                f"its clock is another one: convert with --stamp {topic}=arrival (its times of arrival), or =header "
                "where the stamps are right"
            )
            problems.append((what, remedy(todo, "the same use_sim_time everywhere, chrony")))
    for stream in streams:
        if wild[stream.topic]:
            notes.append((f"{stream.topic}: {wild[stream.topic]} stamps far off their neighbours, left out", ""))
    return problems, notes


def _small(topic: str, stream: _Stamped, way: str, other_clock: bool) -> str:
    """What an offset of a few frames may be, and how to go on: both are common, and no clock can tell them apart."""
    if way == "header":
        return "`stamp: header` says that this is right"
    ahead = not other_clock and float(np.median(stream.offset)) / SECOND > SEEN_S
    why = "its stamps are ahead of its arrivals, which no delay explains" if ahead else "a slow driver, or a clock off"
    return f"{why}: rows take the stamps; if they are wrong, convert with --stamp {topic}=arrival, else with =header"


def _others(offsets: Mapping[str, float], topic: str) -> str:
    return "the other streams" if len(offsets) > 2 else " and ".join(other for other in offsets if other != topic)
