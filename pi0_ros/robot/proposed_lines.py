"""Lines of a proposed robot file that several of its lists have in common."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence

import yaml

from pi0_ros.robot.evidence import TopicFacts
from pi0_ros.robot.propose_joints import ProposedJoint

PLAIN = re.compile(r"[A-Za-z_][\w./-]*", re.ASCII)


def word(text: str) -> str:
    """A text as YAML reads it back, in lists, too: in quotes where it must be."""
    return text if PLAIN.fullmatch(text) and yaml.safe_load(text) == text else json.dumps(text)


def free_name(name: str, taken: set[str]) -> str:
    """`name`, or where that is taken one with a number; taken from now on."""
    found = (
        name
        if name not in taken
        else next(f"{name}_{n}" for n in range(2, len(taken) + 3) if f"{name}_{n}" not in taken)
    )
    taken.add(found)
    return found


def joint_lines(
    joints: Sequence[ProposedJoint], names: Sequence[str], scales: Sequence[float], of: int, mark: str = ""
) -> Iterator[str]:
    """The keys joints, names and scale of an entry, where they say something."""
    if len(joints) < of or mark or not names:
        yield f"    joints: [{', '.join(word(joint.name) for joint in joints)}]{mark}"
    if names and any(name != joint.name for name, joint in zip(names, joints)):
        yield f"    names: [{', '.join(map(word, names))}]  # what its messages call them"
    if any(scale != 1.0 for scale in scales):
        yield f"    scale: [{', '.join(number(scale) for scale in scales)}]  # message = scale * value here"


def number(value: float) -> str:
    """As short as it is exact to 7 digits, so that YAML reads it as a number."""
    text = f"{value:.7g}"
    return text if "e" not in text else f"{value:.9f}"


def silence_lines(told: TopicFacts, usual_s: float, mark: str) -> Iterator[str]:
    """The key of a speed's command that says for how long its driver keeps one."""
    if math.isinf(told.stops_s):
        yield "    hold: true  # its driver says that it never stops by itself"
    elif math.isnan(told.stops_s):
        yield f"    max_age_s: {usual_s:g}  {mark} after how long without a command its driver stops"
    else:
        yield f"    max_age_s: {number(told.stops_s)}  # after so long without a command its driver stops"


def unsaid_end(told: TopicFacts, who: str) -> Iterator[str]:
    """A sentence where it is not known that a speed's driver stops when nobody commands."""
    if math.isinf(told.stops_s):
        yield f"{who}'s driver goes on for ever with the last command: give it a timeout"
    elif math.isnan(told.stops_s):
        yield f"whether {who}'s driver stops by itself when nobody commands: give it a timeout"


def state_lines(says: TopicFacts | None, absent: str, kind: str) -> Iterator[str]:
    """The stream of an entry of `state`; where nobody says it the topic `absent` of this `kind`, to be mended."""
    if says is None:
        yield f"  - topic: {absent}"
        yield f"    type: {kind}"
        yield "    max_age_s: 0.2"
    else:
        yield f"  - topic: {says.topic}" + (f"  # {says.rate_hz:.0f} Hz" if says.rate_hz else "")
        yield f"    type: {says.type}"
        yield f"    max_age_s: {max(0.1, round(3.5 / says.rate_hz, 2)) if says.rate_hz else 0.2:g}"
