"""Whether two publishers of joints speak in turns: the values leap to and fro as no motion does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pi0_ros.base.findings import Finding, error
from pi0_ros.doctor.heard import Heard, Session
from pi0_ros.robot import StateTopic

LEAP = 0.03  # of a joint's range: between two messages it goes there
BACK = 0.3  # of the leap: with the next it is there again
OFTEN = 0.1  # of all messages
WHOLE = 0.9  # of the messages say all joints: else each publisher may say joints of its own


def check_rivals(session: Session, heard: Heard) -> Iterator[Finding]:
    """Two who say the same joints, by the graph or by what they say."""
    if not heard.values or heard.camera:
        return
    values = np.array(heard.values)
    names = sorted(end.node for end in heard.publishers)
    whole = float(np.isfinite(values).all(axis=1).mean())
    if isinstance(heard.item, StateTopic) and len(names) > 1 and whole > WHOLE:
        yield several_senders(heard.topic, names)
    elif len(names) <= 1 and (leaping := _leaping(session, heard, values)):
        what = f"{heard.topic}: {', '.join(leaping)} leap to and fro between two places with every message"
        yield error("publishers", what, "two publishers speak in turns: end one of them, then look or record again")


def several_senders(topic: str, names: Sequence[str]) -> Finding:
    """Of a state topic whose messages say all joints, by the nodes that send them."""
    what = f"{topic} is sent by {len(names)} publishers, and each says all joints: {', '.join(names)}"
    return error("publishers", what, "end all but one: the joints would leap from one's values to the other's")


def _leaping(session: Session, heard: Heard, values: np.ndarray) -> list[str]:
    items = session.robot.state_topics[heard.topic] if isinstance(heard.item, StateTopic) else (heard.item,)
    joints = {joint.name: joint for joint in session.robot.joints}
    found = []
    for place, name in enumerate(name for item in items for name in getattr(item, "joints", ())):
        joint, column = joints[name], values[:, place]
        column = column[np.isfinite(column)]
        if len(column) < 10 or not np.isfinite(joint.span) or joint.continuous or joint.writes_rotation:
            continue
        steps = np.diff(column)
        there, back = steps[:-1], steps[1:]
        leaps = (np.minimum(np.abs(there), np.abs(back)) > LEAP * joint.span) & (there * back < 0)
        leaps &= np.abs(there + back) < BACK * np.abs(there)
        if leaps.mean() > OFTEN:
            found.append(name)
    return found
