"""Which clock moved, told from stamps and arrivals alone: every message's time is right, or the odd stream is named.

Here without recordings, so that thousands of cases take seconds; `test_random_recordings.py` goes through whole ones.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi0_ros.conversion.clocks import Recorded, Timeline, timeline
from pi0_ros.observation.stream_buffer import SECOND

EXAMPLES = int(os.environ.get("PI0_EXAMPLES", "150"))
START_S = 1_700_000_000


@dataclass(frozen=True)
class Stream:
    """A topic; seconds by true time, which is the recorder's."""

    rate: float = 30.0
    length: float = 6.0
    pauses: tuple[tuple[float, float], ...] = ()
    stalls: tuple[tuple[float, float], ...] = ()  # messages of these times arrive at their ends, all at once
    steps: tuple[tuple[float, float], ...] = ()  # (from when on, by how much) of its own clock
    first: float = 0.0
    jitter: float = 0.0  # of the delay
    stamped: bool = True

    def true(self) -> np.ndarray:
        times = np.arange(0, self.length, 1 / self.rate)
        kept = times >= self.first
        for start, end in self.pauses:
            kept &= (times < start) | (times >= end)
        return times[kept]


def recorded(name: str, stream: Stream, common: tuple[tuple[float, float], ...] = (), shared: float = 0.0) -> Recorded:
    true = stream.true()
    arrived = true + 0.004 + np.random.default_rng(len(name)).uniform(0, 1, len(true)) * stream.jitter
    for start, end in stream.stalls:
        held = (true >= start) & (true < end)
        arrived[held] = end + 0.001 * np.arange(held.sum())
    stamps = true + shared + START_S
    for at, by in (*stream.steps, *common):
        stamps = np.where(true >= at, stamps + by, stamps)
    ns = np.rint(stamps * 1e6).astype(np.int64) * 1000 if stream.stamped else np.zeros(len(true), np.int64)
    received = np.rint((np.maximum.accumulate(arrived) + START_S) * 1e6).astype(np.int64) * 1000
    return Recorded(name, ns, received)


def judged(streams: dict[str, Stream], common: tuple[tuple[float, float], ...] = ()) -> Timeline:
    return timeline([recorded(name, stream, common) for name, stream in streams.items()])


def spread_s(found: Timeline, streams: dict[str, Stream]) -> float:
    """How far the errors of the found times are from each other, over all messages."""
    errors = [
        (found.times[name] * 1e-9 - START_S - stream.true())[found.times[name] >= 0] for name, stream in streams.items()
    ]
    return float(np.ptp(np.concatenate(errors)))


USUAL = {name: Stream() for name in ("base", "wrist", "states")}
CASES = {
    # a step in the middle of its stream, so that its median offset is half the step and near nobody's
    "half before, half after, others shorter": (
        {
            "base": Stream(22.0, 4.375),
            "wrist": Stream(22.0, 3.375, pauses=((1.0, 2.0),), steps=((2.19, 0.6),)),
            "states": Stream(30.0, 3.875, pauses=((1.0, 1.5),)),
            "commands": Stream(30.0, 3.875, pauses=((1.0, 2.0),), first=0.5, stamped=False),
        },
        {"wrist"},
    ),
    "in a pause": ({**USUAL, "wrist": Stream(pauses=((2.0, 3.0),), steps=((2.5, 0.6),))}, {"wrist"}),
    "back, in a pause of as long": ({**USUAL, "wrist": Stream(pauses=((2.0, 2.6),), steps=((2.5, -0.6),))}, {"wrist"}),
    "in a pause of all": (
        {
            "base": Stream(pauses=((2.0, 3.0),)),
            "wrist": Stream(pauses=((2.0, 3.0),), steps=((2.5, 0.6),)),
            "states": Stream(pauses=((2.0, 3.0),)),
        },
        {"wrist"},
    ),
    "a few messages before the end": ({**USUAL, "wrist": Stream(steps=((5.9, 0.6),))}, {"wrist"}),
    "a few messages after the begin": ({**USUAL, "wrist": Stream(steps=((0.1, 0.6),))}, {"wrist"}),
    "two cameras at two times": (
        {**USUAL, "base": Stream(steps=((2.0, 0.6),)), "wrist": Stream(steps=((3.0, 0.6),))},
        {"base", "wrist"},
    ),
    "two cameras at two times by other amounts": (
        {**USUAL, "base": Stream(steps=((2.0, -2.0),)), "wrist": Stream(steps=((2.1, 0.6),))},
        {"base", "wrist"},
    ),
    "every stream at a time of its own": (
        {name: Stream(steps=((1.0 + at, 0.6),)) for at, name in enumerate(USUAL)},
        set(USUAL),
    ),
    "forward for a third of a second": ({**USUAL, "wrist": Stream(steps=((3.0, 0.6), (3.34, -0.6)))}, {"wrist"}),
    "back for a third of a second": ({**USUAL, "wrist": Stream(steps=((3.0, -0.6), (3.34, 0.6)))}, {"wrist"}),
    "one of two": ({"base": Stream(), "wrist": Stream(steps=((3.0, 2.0),))}, {"wrist"}),
    "a stream that begins after the step": (
        {**USUAL, "wrist": Stream(steps=((1.0, 0.6),)), "states": Stream(first=2.0)},
        {"wrist"},
    ),
    "the last that is left": (
        {"base": Stream(length=3.0), "wrist": Stream(steps=((4.0, 0.6),)), "states": Stream(length=3.0)},
        set(),  # nobody is left to tell whether it was its clock alone: cut there
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_clock_of_one_stream_moved(name: str) -> None:
    streams, odd = CASES[name]
    found = judged(streams)
    named = {topic for topic in streams for what, _ in found.problems if what.startswith(topic)}
    assert named == odd, found
    assert len(found.cuts) == (not odd), found.cuts
    if not odd:
        assert spread_s(found, streams) < 0.02


@pytest.mark.parametrize("by", [-3600.0, -2.0, -0.6, 0.4, 2.0, 3600.0])
@pytest.mark.parametrize(
    "streams",
    [
        USUAL,
        {**USUAL, "wrist": Stream(pauses=((2.0, 4.5),))},
        {"base": Stream(pauses=((2.9, 4.5),)), "wrist": Stream(10.0, pauses=((1.0, 3.2),)), "states": Stream(100.0)},
        {**USUAL, "states": Stream(length=2.0), "commands": Stream(120.0, stamped=False)},
        {**USUAL, "commands": Stream(3.0, first=3.5)},
        {"base": Stream(jitter=0.05), "wrist": Stream(jitter=0.05), "states": Stream(jitter=0.05)},
    ],
)
def test_the_clock_of_all_moved(by: float, streams: dict[str, Stream]) -> None:
    found = judged(streams, ((3.05, by),))
    assert not found.problems and len(found.cuts) == 1, found
    assert spread_s(found, streams) < 0.12
    assert "back" in found.cuts[0][1] if by < 0 else "forward" in found.cuts[0][1]


@pytest.mark.parametrize(
    "streams",
    [
        {**USUAL, "wrist": Stream(stalls=((2.0, 3.5),))},
        {name: Stream(stalls=((2.0, 3.5),), rate=20.0) for name in USUAL},
        {**USUAL, "wrist": Stream(stalls=((2.0, 3.5),), pauses=((2.0, 3.2),))},  # the oldest of them were lost
        {**USUAL, "wrist": Stream(10.0, stalls=tuple((at, at + 0.9) for at in range(5)))},  # in batches
        {**USUAL, "base": Stream(pauses=((1.0, 2.5),)), "commands": Stream(1.0, stamped=False)},
        {
            **USUAL,
            "wrist": Stream(10.0, stalls=tuple((at, at + 0.9) for at in range(5))),
            "base": Stream(stalls=((1.0, 2.5),)),
        },
    ],
)
def test_what_a_network_holds_back_moves_no_clock(streams: dict[str, Stream]) -> None:
    found = judged(streams)
    assert not found.problems and not found.cuts, found
    assert spread_s(found, streams) < 0.02


@pytest.mark.parametrize("pace", [0.2, 0.5, 3.0])
def test_a_simulator_of_another_pace_that_pauses(pace: float) -> None:
    """Stamps are right whatever the arrivals do; messages without them are carried over, also through the pause."""
    streams = {**USUAL, "wrist": Stream(pauses=((2.0, 3.5),)), "commands": Stream(50.0, stamped=False)}
    made = []
    for name, stream in streams.items():
        true = stream.true()
        arrived = true / pace + np.where(true >= 4.0, 5.0, 0.0) + 0.004  # the simulator was paused for 5 s
        stamps = np.rint(true * 1e9).astype(np.int64) + SECOND
        received = np.rint((arrived + START_S) * 1e6).astype(np.int64) * 1000
        made.append(Recorded(name, stamps if stream.stamped else np.zeros_like(stamps), received))
    found = timeline(made)
    assert not found.problems and not found.cuts, found
    for name, stream in streams.items():
        assert np.abs(found.times[name] * 1e-9 - 1 - stream.true()).max() < 0.05 * max(1.0, pace)


def test_a_clock_set_while_the_network_held_messages_back() -> None:
    """What comes up at once was stamped before and after."""
    streams = {
        "base": Stream(10.0),
        "wrist": Stream(10.0, stalls=((0.5, 1.5),)),
        "states": Stream(stalls=((1.0, 2.0),)),
    }
    found = judged(streams, ((1.0, -0.6),))
    assert not found.problems and len(found.cuts) == 1 and spread_s(found, streams) < 0.1


def test_a_clock_set_after_a_few_messages() -> None:
    streams = {"base": Stream(10.0), "wrist": Stream(11.0), "states": Stream(26.5, jitter=0.015)}
    found = judged(streams, ((0.5, -3600.0),))
    assert not found.problems and len(found.cuts) == 1 and spread_s(found, streams) < 0.1


def test_a_few_stamps_ahead_are_left_out() -> None:
    one = recorded("wrist", Stream())
    stamps = one.stamps.copy()
    stamps[60:63] += 6 * SECOND // 10
    found = timeline([Recorded("wrist", stamps, one.received), recorded("base", Stream())])
    assert (found.times["wrist"] < 0).nonzero()[0].tolist() == [60, 61, 62] and found.wild["wrist"] == 3
    assert not found.problems and not found.cuts


STEPS = st.sampled_from([-3600.0, -2.0, -0.6, 0.6, 2.0, 3600.0])


Made = tuple[dict[str, Stream], tuple[tuple[float, float], ...]]  # streams, steps of all clocks


@st.composite
def streams_of(draw: st.DrawFn) -> Made:
    length = draw(st.floats(3.0, 8.0))
    found = {}
    for name in ("base", "wrist", "states", "commands"):
        start = draw(st.floats(0.2, length - 0.3))
        pause = ((start, start + draw(st.floats(0.1, 2.0))),) if draw(st.integers(0, 3)) == 0 else ()
        stamped = name != "commands" or draw(st.booleans())  # without stamps what was held back has no other time
        stall = ((start, start + draw(st.floats(0.1, 1.5))),) if stamped and draw(st.integers(0, 5)) == 0 else ()
        own = ((draw(st.floats(0.3, length - 0.3)), draw(STEPS)),) if draw(st.integers(0, 7)) == 0 else ()
        found[name] = Stream(
            draw(st.floats(10.0, 60.0)),
            length - draw(st.sampled_from([0.0, 0.0, 0.5, 1.5])),
            pause,
            stall,
            own,
            draw(st.sampled_from([0.0, 0.0, 0.0, 0.7])),
            draw(st.floats(0.0, 0.02)),
            stamped,
        )
    common = ((draw(st.floats(0.3, length - 0.3)), draw(STEPS)),) if draw(st.booleans()) else ()
    return found, common


@settings(max_examples=EXAMPLES, deadline=None, print_blob=True)
@given(streams_of())
def test_every_time_is_right_or_a_stream_is_named(case: Made) -> None:
    streams, common = case
    found = judged(streams, common)
    if not found.problems:
        assert spread_s(found, streams) < 0.25
    odd = {name for name, stream in streams.items() if stream.steps and stream.stamped}
    if not odd and not any(stream.stalls for stream in streams.values()):
        assert not found.problems
