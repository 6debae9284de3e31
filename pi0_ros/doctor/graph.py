"""The two ends of a topic: whether they are there, of one type, of QoS that fits, and the only ones."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from pi0_ros.base.findings import Finding, error, warning
from pi0_ros.doctor.heard import Endpoint, Heard, Session
from pi0_ros.doctor.names import hint
from pi0_ros.doctor.speed_driver import check_driver
from pi0_ros.doctor.trajectory_controller import check_controller
from pi0_ros.robot import Camera, CommandGroup
from pi0_ros.robot.types import Server

OURS = Endpoint("the policy's nodes", "")  # what this package's nodes offer on a topic: see pi0_ros/nodes/messages.py
LISTENS = Endpoint("the policy's nodes", "", reliability="best_effort")  # and what they ask for of a sensor
SHOWN = "controller"  # the node of ours that may be a publisher of commands


def misfit(publisher: Endpoint, subscriber: Endpoint) -> str:
    """Why this subscriber hears nothing of this publisher, in QoS words; empty where they fit."""
    found = []
    if subscriber.reliability == "reliable" and publisher.reliability == "best_effort":
        found.append("asks for RELIABLE, BEST_EFFORT is offered")
    if subscriber.durability == "transient_local" and publisher.durability == "volatile":
        found.append("asks for TRANSIENT_LOCAL, VOLATILE is offered")
    if publisher.deadline_s > subscriber.deadline_s:
        offered = "none" if math.isinf(publisher.deadline_s) else f"{publisher.deadline_s:g} s"
        found.append(f"asks for a deadline of {subscriber.deadline_s:g} s, {offered} is offered")
    return "; ".join(found)


def misfits(
    publishers: Sequence[Endpoint], subscribers: Sequence[Endpoint]
) -> Iterator[tuple[Endpoint, Endpoint, str]]:
    """Every pair that does not fit, with why."""
    for publisher in publishers:
        for subscriber in subscribers:
            if why := misfit(publisher, subscriber):
                yield publisher, subscriber, why


def check_ends(session: Session, heard: Heard) -> Iterator[Finding]:
    """Findings about the ends of one topic; live only."""
    if not session.live:
        return
    if isinstance(heard.item, CommandGroup) and heard.item.server is not None:
        yield from _server(heard, heard.item.server)
        return
    topic, wanted = heard.topic, heard.item.type
    ends, other = ("subscriber", "robot driver") if heard.command else ("publisher", "driver")
    if not heard.types:
        level = warning if heard.command else error
        yield level(
            topic,
            f"no {ends}",
            f"{hint(session, topic)}start the {other}, or correct this topic in the robot file (`ros2 topic list`); "
            "other machines need the same ROS_DOMAIN_ID",
        )
        return
    if wrong := [kind for kind in heard.types if kind != wanted]:
        who = sorted({end.node for end in (*heard.publishers, *heard.subscribers) if end.type in wrong})
        yield error(
            "type",
            f"{topic} is {', '.join(wrong)} ({', '.join(who)}), not {wanted}",
            "correct `type` in the robot file",
        )
        return
    yield from _qos(heard)
    yield from _publishers(heard)
    if isinstance(heard.item, CommandGroup):
        for node, settings in sorted(heard.settings.items()):
            yield from check_controller(heard.item, node, settings)
            yield from check_driver(session.robot, heard.item, node, settings)


def _server(heard: Heard, server: Server) -> Iterator[Finding]:
    """Of a gripper that is an action server; nobody has to listen to the topic that tells what it was sent."""
    if not heard.servers:
        todo = "start the gripper's driver, or correct `server` in the robot file (`ros2 action list -t`)"
        yield error(server.name, "no action server", todo)
    elif wrong := {node: kind for node, kind in heard.servers.items() if kind != server.type}:
        what = f"{server.name} is {', '.join(wrong.values())} ({', '.join(wrong)}), not {server.type}"
        yield error("type", what, "correct `type` in the robot file")
    elif len(heard.servers) > 1:
        yield error(server.name, f"is served by {', '.join(heard.servers)}", "end all but one of them")
    yield from _publishers(heard)


def _qos(heard: Heard) -> Iterator[Finding]:
    ours = () if any(SHOWN in end.node for end in heard.publishers) else (OURS,)
    publishers = [*heard.publishers, *(ours if heard.command else ())]
    subscribers = [*heard.subscribers, *(() if heard.command else (LISTENS,))]
    unheard: dict[tuple[str, str], tuple[Endpoint, list[str]]] = {}
    for publisher, subscriber, why in misfits(publishers, subscribers):
        unheard.setdefault((subscriber.node, why), (subscriber, []))[1].append(publisher.node)
    for (_, why), (subscriber, nodes) in unheard.items():
        what = f"{heard.topic}: {subscriber.node} hears nothing of {', '.join(nodes)}: it {why}"
        yield error(
            "qos", what, f"set the QoS of {subscriber.node}'s subscription (or of the publisher) so that they fit"
        )


def _publishers(heard: Heard) -> Iterator[Finding]:
    """Several who send what only one may."""
    names = sorted(end.node for end in heard.publishers)
    if heard.command:
        rivals = list(names)
        if own := next((name for name in names if name.rpartition("/")[2] == SHOWN), ""):
            rivals.remove(own)  # one controller may be there
        if rivals:
            what = f"{heard.topic} is {'also ' if len(names) > 1 else ''}sent by {', '.join(rivals)}"
            # one alone may be the teleoperation by which a person moves the arm for these checks
            level = error if len(names) > 1 else warning
            yield level("publishers", what, "end or disconnect it before the policy runs: the robot would jump")
    elif isinstance(heard.item, Camera) and len(names) > 1:
        what = f"{heard.topic} is sent by {len(names)} publishers: {', '.join(names)}"
        yield error("publishers", what, "end all but one: their pictures would come in turns")
