"""Grippers that are action servers, for a robot that nobody has described yet."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pi0_ros.robot.evidence import ACTION, TopicFacts
from pi0_ros.robot.goals import KNOWN
from pi0_ros.robot.propose_joints import GRIPPER, ProposedJoint
from pi0_ros.robot.proposed_lines import free_name, number, word

PARALLEL = "control_msgs/action/ParallelGripperCommand"


@dataclass(frozen=True)
class ProposedServer:
    """An action server and the gripper that it moves."""

    action: TopicFacts
    joint: ProposedJoint
    guessed: str = ""  # why this joint


def propose_servers(
    topics: Sequence[TopicFacts], joints: Sequence[ProposedJoint], unknown: list[str]
) -> list[ProposedServer]:
    """The servers of goals that are known, each with the gripper that is called most alike among `joints` that are
    left."""
    actions = [topic for topic in topics if ACTION in topic.type]
    for action in actions:
        if action.type not in KNOWN and GRIPPER.search(action.topic):
            kind = action.type.removesuffix(ACTION) if action.type != ACTION else "its type was not recorded"
            unknown.append(
                f"{action.topic} ({kind}): a gripper's action server? `server` and `field` are yours to write"
            )
    grippers = [joint for joint in joints if joint.kind == "gripper"]
    found: list[ProposedServer] = []
    for action in sorted((topic for topic in actions if topic.type in KNOWN), key=lambda topic: topic.topic):
        free = [joint for joint in grippers if all(joint is not other.joint for other in found)]
        if not free:
            unknown.append(f"{action.topic} ({action.type}): no gripper is left for this action server")
            continue
        words = action.topic.lower()
        joint = max(free, key=lambda joint: difflib.SequenceMatcher(None, joint.name.lower(), words).ratio())
        found.append(ProposedServer(action, joint, "which gripper it moves, by its name" if len(free) > 1 else ""))
    if found:
        unknown.append(
            "how hard the gripper may grasp: its goals' effort is 0, which some drivers take for none at all"
        )
        unknown.append(
            "goals of a teleoperation are in no recording: let it publish them on SERVER/sent, too (docs/new_robot.md)"
        )
    return found


def server_lines(server: ProposedServer, mark: str, taken: set[str]) -> Iterator[str]:
    """Its entry of `commands`."""
    action, joint = server.action, server.joint
    name = next((part for part in action.topic.strip("/").split("/") if GRIPPER.search(part)), "gripper")
    who = f"  # served by {', '.join(action.listeners)}" if action.listeners else ""
    yield f"  - name: {word(free_name(name.removesuffix('_controller'), taken))}"
    yield f"    server: {action.topic}{who}"
    yield f"    type: {action.type}"
    yield f"    joints: [{word(joint.name)}]" + (f"  {mark} {server.guessed}" if server.guessed else "")
    parallel = action.type == PARALLEL
    if parallel and joint.called != joint.name:
        yield f"    names: [{word(joint.called)}]  # what its messages call it"
    if joint.scale != 1.0:
        yield f"    scale: [{number(joint.scale)}]  {mark} as its state"
    field, value = ("command.effort", "[20.0]") if parallel else ("command.max_effort", "20.0")
    yield f"    # fixed: {{{field}: {value}}}  # how hard it may grasp, in the driver's unit (N)"
