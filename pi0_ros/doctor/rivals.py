"""Whether two publishers of joints speak in turns: the values leap to and fro as no motion does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pi0_ros.base.findings import Finding, error, warning
from pi0_ros.doctor.heard import Heard, Session
from pi0_ros.robot import CommandGroup, Joint, StateTopic

LEAP = 0.03  # of a joint's range: between two messages it goes there
BACK = 0.3  # of the leap: with the next it is there again
FAST = 2.0  # times the joint's greatest velocity: no motion is
NEXT_S = 0.1  # messages that are further apart may be two places of one motion
OFTEN = 0.1  # of all messages
WHOLE = 0.99  # of the messages say all joints: else each publisher may say joints of its own


def check_rivals(session: Session, heard: Heard) -> Iterator[Finding]:
    """Two who say the same joints, by what they say or by the graph."""
    if not heard.values or heard.camera or (isinstance(heard.item, StateTopic) and not heard.item.is_position):
        return
    values, names = np.array(heard.values), sorted(end.node for end in heard.publishers)
    items = session.robot.state_topics[heard.topic] if isinstance(heard.item, StateTopic) else (heard.item,)
    known = {joint.name: joint for joint in session.robot.joints}
    joints = [known[name] for item in items for name in getattr(item, "joints", ())]
    whole = float(np.isfinite(values).all(axis=1).mean())
    if heard.command and len(names) > 1:
        return  # which is said of them as it is
    if found := leaping(joints, values, np.array(heard.times), isinstance(heard.item, CommandGroup)):
        yield leaps(heard.topic, found, names)
    elif isinstance(heard.item, StateTopic) and len(names) > 1 and whole > WHOLE:
        what = f"{heard.topic} has {len(names)} publishers, and its messages say all joints: {', '.join(names)}"
        yield warning("publishers", what, "end all but one: the joints would leap from one's values to the other's")


def leaps(topic: str, joints: Sequence[str], publishers: Sequence[str]) -> Finding:
    """The finding; `publishers` by their nodes, as far as they are known."""
    who = f" (its publishers: {', '.join(publishers)})" if len(publishers) > 1 else ""
    what = f"{topic}: {', '.join(joints)} leap to and fro between two places with every message{who}"
    return error("publishers", what, "two publishers speak in turns: end one of them, then look or record again")


def leaping(joints: Sequence[Joint], values: np.ndarray, times: np.ndarray, commands: bool = False) -> list[str]:
    """The joints that do, of messages [N, J] at times [N] in s; NaN where a message does not speak of a joint.

    `commands`: of these a gripper's are steps.
    """
    found = []
    for joint, column in zip(joints, values.T):
        told = np.isfinite(column)
        if told.sum() < 10 or not np.isfinite(joint.span) or joint.continuous or joint.writes_rotation or joint.speed:
            continue
        if commands and joint.kind == "gripper":
            continue
        steps, gaps = np.diff(column[told]), np.diff(times[told])
        fastest = joint.velocity if np.isfinite(joint.velocity) else 0.0
        far = (np.abs(steps) > LEAP * joint.span) & (np.abs(steps) > FAST * fastest * gaps) & (gaps < NEXT_S)
        there, back = steps[:-1], steps[1:]
        both = far[:-1] & far[1:] & (there * back < 0) & (np.abs(there + back) < BACK * np.abs(there))
        if both.mean() > OFTEN:
            found.append(joint.name)
    return found
