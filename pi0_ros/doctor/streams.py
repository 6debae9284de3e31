"""Streams: types, publishers, rates, pauses, clocks. One cause gives one line, however many topics it shows in."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pi0_ros.base.findings import Finding, error, ok, warning
from pi0_ros.base.foreign import MAX_LINE_CHARS, shortened
from pi0_ros.doctor.graph import check_ends
from pi0_ros.doctor.heard import Heard, Session
from pi0_ros.doctor.names import hint
from pi0_ros.doctor.pauses import Pause, deafness, own_pause, pauses_beyond, shared, shared_pause
from pi0_ros.doctor.rivals import check_rivals
from pi0_ros.doctor.stamps import ANOTHER_CLOCK_S, check_stamps, unstamped
from pi0_ros.robot import Camera, CommandGroup, Robot

EARLY_S = 0.05  # a stamp further in the future is another clock's
TOGETHER_S = 0.1  # topics whose stamps are off by the same, to this, have one cause
ENDED_S = 1.0  # before the others a topic fell silent
SLOW = 0.75  # of the rate that is needed


def check_streams(session: Session) -> list[Finding]:
    """All findings about the topics as streams; an `ok` for each topic about which there is none."""
    if not any(heard.arrivals or heard.types or heard.servers for heard in session.topics.values()):
        return [_nobody(session)]
    found = list(unstamped(list(session.topics.values())))
    alike = _off_alike(session)
    if alike:
        found.append(_skew(session, alike))
    limits = {topic: max_age_s(session.robot, topic) for topic in session.topics}
    pauses = pauses_beyond(session, limits)
    if together := shared(session, pauses):
        found.append(shared_pause(session, together))
    found += deafness(session, limits)
    alone = {pause.topic: pause for pause in pauses if pause not in together}
    for heard in session.topics.values():
        own = [
            *check_ends(session, heard),
            *_stream(session, heard, heard in alike, alone.get(heard.topic)),
        ]
        served = heard.item.server if isinstance(heard.item, CommandGroup) else None
        found += own or [ok(served.name if served is not None else heard.topic, _summary(session, heard))]
    return found


def _nobody(session: Session) -> Finding:
    """No topic of the robot is there: one cause, one line."""
    others = ", ".join(session.other_nodes)
    near = next((clause for topic in session.topics if (clause := hint(session, topic))), "")
    if not session.live:
        has = shortened(", ".join(sorted(session.there)), MAX_LINE_CHARS) or "nothing"
        what = f"none of the {len(session.topics)} topics of the robot file is in the recording, which has {has}"
        return error("domain", what, f"{near}correct the topics in the robot file, or record them")
    if not others:
        what = f"no other node in ROS_DOMAIN_ID {session.domain}, so no topic of the robot"
        todo = "start the drivers; on other machines set the same ROS_DOMAIN_ID and ROS_AUTOMATIC_DISCOVERY_RANGE"
    else:
        there = shortened(others, MAX_LINE_CHARS)
        what = f"none of the {len(session.topics)} topics of the robot file is there; nodes that are: {there}"
        todo = f"{near}start the robot's drivers, or correct the topics in the robot file (`ros2 topic list`)"
    return error("domain", what, todo)


def _stamped(session: Session) -> list[Heard]:
    return [heard for heard in session.topics.values() if heard.ages and not heard.command]


def _off_alike(session: Session) -> list[Heard]:
    """Topics whose stamps are off by the same: all that have stamps, or some, if it is not for another clock."""
    stamped = _stamped(session)
    off = [heard for heard in stamped if _off(session.robot, heard)]
    ages = [heard.age_s for heard in off]
    if len(off) < 2 or np.ptp(ages) >= TOGETHER_S:
        return []
    return off if len(off) == len(stamped) or abs(ages[0]) < ANOTHER_CLOCK_S else []


def max_age_s(robot: Robot, topic: str) -> float:
    """The maximum age of a camera or state topic; of a command none counts."""
    observed = {*(camera.topic for camera in robot.cameras), *robot.state_topics}
    return robot.max_ages_s[topic] if topic in observed else float("inf")


def _off(robot: Robot, heard: Heard) -> bool:
    return bool(heard.ages) and not -EARLY_S <= heard.age_s <= max_age_s(robot, heard.topic)


def _skew(session: Session, topics: list[Heard]) -> Finding:
    """One line for the topics whose stamps are off by the same."""
    offset_s = float(np.median([heard.age_s for heard in topics]))
    when = f"{offset_s:.2f} s in the past" if offset_s > 0 else f"{-offset_s:.2f} s in the future"
    if len(topics) < len(_stamped(session)):
        what = f"the stamps of {', '.join(heard.topic for heard in topics)} are {when}, those of others are right"
        todo = "synchronise the clock of the machine that sends them (chrony or PTP), then look again"
        return error("clock", what, todo)
    if abs(offset_s) > ANOTHER_CLOCK_S:
        what = f"the stamps of all {len(topics)} topics are of another clock than this machine's"
        return error("clock", what, "simulated time? give --use-sim-time, and use_sim_time:=true to every node")
    what = f"the stamps of all {len(topics)} topics are {when}: the clocks of two machines differ"
    return error("clock", what, "synchronise them (chrony or PTP on both), then look again")


def _stream(session: Session, heard: Heard, skewed: bool, pause: Pause | None) -> Iterator[Finding]:
    """`pause`: its own; one that all topics share is said elsewhere, as is what `skewed` clocks explain."""
    if not heard.arrivals:
        if heard.item.type in heard.types and not heard.command:
            yield error(
                heard.topic, "a publisher, but no message", "is the sensor running? see the QoS line, if there is one"
            )
        elif not session.live and not heard.command:
            yield error(
                heard.topic,
                "no message in the recording",
                f"{hint(session, heard.topic)}record it, or correct this topic in the robot file",
            )
        return
    if heard.unreadable:
        many = f"{heard.unreadable} of {len(heard.arrivals)} messages can't be used: {heard.complaints[0]}"
        yield (error if 2 * heard.unreadable > len(heard.arrivals) else warning)(
            heard.topic, many.replace(f": {heard.topic}: ", ": "), "correct the robot file's names or the publisher"
        )
    if never := session.never(heard.topic):
        what, _, todo = never.removeprefix(f"{heard.topic}: ").partition(": ")
        yield error(heard.topic, what, todo)
    yield from check_rivals(session, heard)
    if heard.command:
        return
    if moving := list(check_stamps(heard, _partial(heard))):
        yield from moving
    elif not skewed and _off(session.robot, heard):
        yield aged(session.robot, heard)
    yield from _rate(session, heard, pause)


def _partial(heard: Heard) -> bool:
    """Whether its messages say some joints each."""
    return bool(heard.values) and not np.isfinite(np.array(heard.values)).all()


def aged(robot: Robot, heard: Heard) -> Finding:
    limit = max_age_s(robot, heard.topic)
    if abs(heard.age_s) > ANOTHER_CLOCK_S:
        what = "its stamps are of another clock than this machine's"
        return error(
            "clock", f"{heard.topic}: {what}", "use_sim_time:=true for all or for none, or stamp with the wall clock"
        )
    if heard.age_s < 0:
        what = f"{heard.topic}: its stamps are {-heard.age_s:.2f} s in the future"
        return error("clock", what, "synchronise the clocks (chrony), or let its driver stamp at capture")
    # even the newest is older than a busy machine makes it: then it is the clock
    check = "clock" if min(heard.ages) > ENDED_S else "age"
    what = f"{heard.topic}: {heard.age_s * 1e3:.0f} ms old on arrival (max_age_s allows {limit * 1e3:.0f} ms)"
    return error(check, what, "synchronise the clocks (chrony), stamp at capture, or raise its max_age_s")


def _rate(session: Session, heard: Heard, pause: Pause | None) -> Iterator[Finding]:
    """Too slow for its own age limit, for the policy, or for what datasets are made at; pauses."""
    if len(heard.arrivals) < 2:
        if session.live:
            yield error("rate", f"{heard.topic}: one message only", "is the sensor running?")
        return
    robot, rate, limit = session.robot, heard.rate_hz, max_age_s(session.robot, heard.topic)
    silent_s = max(other.arrivals[-1] for other in session.topics.values() if other.arrivals) - heard.arrivals[-1]
    if silent_s > max(ENDED_S, 2.0 * limit):
        what = f"{heard.topic}: no message any more in the last {silent_s:.1f} s, while others came"
        yield error("rate", what, "its driver stopped or lost its device: restart it, look at its cable")
        return
    late = heard.age_s if heard.ages and not _off(robot, heard) else 0.0
    if rate * (limit - max(late, 0.0)) < 1.0:
        what = f"{heard.topic}: {rate:.1f} Hz, so its newest message is at times older than max_age_s ({limit:g} s)"
        yield error(
            "rate", what, f"speed it up to more than {1 / max(limit - late, 1e-3):.0f} Hz, or raise its max_age_s"
        )
    elif heard.camera and rate < SLOW * robot.dataset_fps:
        what = f"{heard.topic}: {rate:.1f} Hz, the policy was trained at dataset_fps {robot.dataset_fps:g}"
        yield warning("rate", what, "raise the camera's rate (light, USB bandwidth, image transport)")
    elif pause is not None:
        yield own_pause(heard, pause, limit)


def _summary(session: Session, heard: Heard) -> str:
    if isinstance(heard.item, CommandGroup):
        if not session.live:
            return f"{len(heard.arrivals)} commands"
        if heard.servers:
            return f"goals to {', '.join(heard.servers)}"
        listeners = ", ".join(sorted({end.node for end in heard.subscribers}))
        return f"heard by {listeners}"
    text = f"{heard.rate_hz:.1f} Hz"
    if heard.ages:
        text += f", {heard.age_s * 1e3:.0f} ms old (limit {max_age_s(session.robot, heard.topic) * 1e3:.0f} ms)"
    if isinstance(heard.item, Camera) and heard.looks:
        look = heard.looks[-1]
        text += f", grey {look.mean:.0f}, sharpness {look.sharpness:.2f}"
    return text
