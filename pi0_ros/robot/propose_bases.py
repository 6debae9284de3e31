"""A mobile base for a robot that nobody has described yet: the speeds that its twists and its odometry speak of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pi0_ros.robot.evidence import TopicFacts
from pi0_ros.robot.message_types import COMMAND_TYPES, STATE_TYPES, TWIST_PARTS
from pi0_ros.robot.propose_joints import LED
from pi0_ros.robot.propose_twists import OF_A_HAND
from pi0_ros.robot.proposed_lines import free_name, number, silence_lines, state_lines, unsaid_end, word

ODOMETRY = "nav_msgs/msg/Odometry"
ALWAYS = ("linear.x", "angular.z")  # a base that only drives and turns has no others
CALLED = {"linear.x": "base_forward", "linear.y": "base_sideways", "angular.z": "base_turn"}
MOVES = 1e-3  # m/s, rad/s: slower is standing still
USUAL = {"linear": 0.3, "angular": 0.6}  # m/s, rad/s, where nothing was seen
MARGIN = 1.25


@dataclass(frozen=True)
class ProposedBase:
    """The speeds of one base, by the parts of its twists."""

    told: TopicFacts  # who is told
    says: TopicFacts | None  # who says how fast it goes
    parts: tuple[str, ...]

    @property
    def joints(self) -> tuple[str, ...]:
        """What the robot file calls the parts."""
        return tuple(CALLED.get(part, f"base_{part.replace('.', '_')}") for part in self.parts)

    def fastest(self, part: str) -> float:
        """The largest speed that was told or seen, 0 where none was."""
        tracks = [topic.tracks.get(part) for topic in (self.told, self.says) if topic is not None]
        return max((track.most for track in tracks if track is not None), default=0.0)


def propose_base(topics: Sequence[TopicFacts], unknown: list[str]) -> ProposedBase | None:
    """The base that is told its speeds on a topic which is heard or listened to; None where there is none."""
    speeds = [topic for topic in topics if topic.type in COMMAND_TYPES and COMMAND_TYPES[topic.type].speeds]
    told = [t for t in speeds if (t.count or t.listeners) and not LED.search(t.topic) and not OF_A_HAND.search(t.topic)]
    said = [topic for topic in topics if topic.type in STATE_TYPES and topic.type == ODOMETRY and topic.count]
    if not told:
        unknown += [
            f"{topic.topic} ({topic.type}): no topic tells this base its speeds, so it is left out" for topic in said
        ]
        return None
    first, *others = sorted(told, key=lambda t: (not t.listeners, not t.count, len(t.topic), t.topic))
    for other in others:
        unknown.append(f"{other.topic} says twists, too: {first.topic} was taken for what drives the base")
    said.sort(key=lambda t: (-t.rate_hz, len(t.topic), t.topic))
    says = said[0] if said else None
    for topic in said[1:]:
        unknown.append(f"{topic.topic} says how fast the base goes, too: {said[0].topic} was taken")
    base = ProposedBase(first, says, TWIST_PARTS)
    parts = tuple(part for part in TWIST_PARTS if part in ALWAYS or base.fastest(part) > MOVES and part == "linear.y")
    if strange := [part for part in TWIST_PARTS if part not in parts and base.fastest(part) > MOVES]:
        unknown.append(f"{first.topic} or its odometry also has {', '.join(strange)}: not among the joints")
    if says is None:
        unknown.append("how fast the base goes: no odometry was heard, /odom stands there")
    unknown += unsaid_end(first, "the base")
    return ProposedBase(first, says, parts)


def base_joint_lines(base: ProposedBase, mark: str) -> Iterator[str]:
    """Its entries of `joints`."""
    for part, name in zip(base.parts, base.joints):
        seen = MARGIN * base.fastest(part)
        velocity = max(float(f"{seen:.3g}"), 0.01) if seen > MOVES else USUAL[part.split(".")[0]]
        why = "a quarter more than was told or seen" if seen > MOVES else "it did not move"
        yield f"  - name: {word(name)}"
        yield f"    unit: {'m/s' if part.startswith('linear') else 'rad/s'}"
        yield "    kind: speed"
        yield f"    limits: {{velocity: {number(velocity)}, acceleration: {number(2 * velocity)}}}  {mark} {why}"
        yield "    action: absolute"


def base_state_lines(base: ProposedBase, mark: str) -> Iterator[str]:
    """Its entry of `state`."""
    yield from state_lines(base.says, f"/odom  {mark} it was not heard", ODOMETRY)
    yield from _which(base)


def base_command_lines(base: ProposedBase, mark: str, taken: set[str]) -> Iterator[str]:
    """Its entry of `commands`."""
    who = f"  # heard by {', '.join(base.told.listeners)}" if base.told.listeners else ""
    yield f"  - name: {free_name('base', taken)}"
    yield f"    topic: {base.told.topic}{who}"
    yield f"    type: {base.told.type}"
    yield from _which(base)
    yield from silence_lines(base.told, 0.5, mark)


def _which(base: ProposedBase) -> Iterator[str]:
    yield f"    joints: [{', '.join(map(word, base.joints))}]"
    yield f"    names: [{', '.join(base.parts)}]"
