"""A recording, heard as if it were live."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from pi0_ros.bags.reader import Bag, BagError
from pi0_ros.doctor.heard import Session
from pi0_ros.observation.streams import ObservationBuffer, StaleError
from pi0_ros.robot import Robot

MOST_MESSAGES = 60_000  # looked at, from the beginning: minutes of a robot; what is wrong is wrong from the start


def hear_bag(path: Path, robot: Robot) -> Session:
    """Listen to a recording of `robot`. Raises `BagError`."""
    robot = robot.recorded
    session, buffer = Session(robot, live=False), ObservationBuffer(robot)
    with Bag(path) as bag:
        topics = [topic for topic, kind in robot.topics.items() if _type_of(bag, topic) == kind]
        for topic in robot.topics.keys() - set(topics):
            if (recorded := _type_of(bag, topic)) is not None:
                raise BagError(f"{path}: {topic} holds {recorded}, the robot file says {robot.topics[topic]}")
        session.there = {topic: info.type for topic, info in bag.info.topics.items() if info.count}
        received_ns = 0
        for topic, received_ns, data in islice(bag.raw(set(topics)), MOST_MESSAGES):
            message = bag.decode(topic, data)
            session.take(topic, message, received_ns)
            buffer.push_message(topic, message, received_ns)
    try:
        buffer.observe(buffer.latest_ns() or received_ns, robot.prompt)
    except StaleError as error:
        session.problems = error.problems
    return session


def _type_of(bag: Bag, topic: str) -> str | None:
    info = bag.info.topics.get(topic)
    return info.type if info is not None and info.count else None
