"""Who may lead a robot that nobody has described yet instead of the policy: a person's topics, proposed as a comment.

Whether a person may lead is not the file's to guess, so nothing of this is in force until somebody takes the `# ` away.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from pi0_ros.robot.evidence import JOINT_STATE, JOY, TopicFacts
from pi0_ros.robot.message_types import COMMAND_TYPES, POSE_TYPES, TWIST_STAMPED
from pi0_ros.robot.propose_bases import ProposedBase
from pi0_ros.robot.propose_commands import leaders, proposed_group
from pi0_ros.robot.propose_hands import SIDES, ProposedHand
from pi0_ros.robot.propose_joints import LED, ProposedJoint
from pi0_ros.robot.propose_twists import OF_A_HAND, ProposedTwist
from pi0_ros.robot.proposed_lines import joint_lines, word

MADE = "/person"  # where joystick_node says them
NOBODY = "/to_be_found/person"  # stands where nothing was heard that could lead


class ProposedTakeover:
    """Who leads these joints, hands, the hand's twist and the base. A joystick leads all where others lead some."""

    def __init__(
        self,
        topics: Sequence[TopicFacts],
        joints: Sequence[ProposedJoint],
        hands: Sequence[ProposedHand],
        twist: ProposedTwist | None,
        base: ProposedBase | None,
    ) -> None:
        self._joints, self._hands, self._twist, self._base = tuple(joints), tuple(hands), twist, base
        self._of = len(joints) + len(hands) + (twist is not None) + (base is not None)
        led = [topic for topic in topics if LED.search(topic.topic) and topic.count]
        joys = [topic for topic in topics if topic.type == JOY]
        self._joy: TopicFacts | None = None
        self._where, self._who = NOBODY, "  # nobody was heard who says it"
        self._found = self._missing = 0
        self._lines = list(self._entries(led))
        if joys and self._missing:
            self._joy = min(joys, key=lambda topic: (not topic.count, len(topic.topic), topic.topic))
            self._where, self._who = MADE, "  # joystick_node says it, see below"
            self._lines = list(self._entries([]))
        speaks = [t.topic for t in led if t.type in COMMAND_TYPES and COMMAND_TYPES[t.type].speeds]
        self.unknown = [
            f"{topic} says how fast, but {hands[0].name} is led by poses: joystick_node makes them of a joystick's Joy"
            for topic in speaks
            if hands and base is None and self._joy is None
        ]

    def lines(self) -> Iterator[str]:
        """The comment; none where nobody was heard who could lead."""
        if not self._found and self._joy is None:
            return
        yield ""
        yield "# takeover:  # a person may lead by these instead of the policy, see docs/takeover.md"
        yield "#   topics:"
        yield from (f"#   {line}" for line in self._lines)
        if self._joy is not None:
            moves = [f"{hand.name}.{axis}" for hand in self._hands for axis in "xyz"]
            moves += [f"{hand.name}.angular.{axis}" for hand in self._hands for axis in "xyz"]
            moves += [name for speeds in (self._twist, self._base) if speeds is not None for name in speeds.joints]
            moves += [joint.name for joint in self._joints]
            axes = " ".join(f"{name}={n}" for n, name in enumerate(islice(moves, max(self._joy.numbers, 1))))
            topic = self._joy.topic
            heard = "" if topic == "/joy" else f" -r joy:={topic}"
            # A comment within the comment: whoever takes the `# ` from every line keeps it as one.
            yield f"# # {topic} is a joystick's: ros2 run pi0_ros joystick_node --ros-args -p robot:=THIS_FILE"
            yield f'# #   -p axes:="{axes}" -p hold_button:=0{heard}'

    def _entries(self, led: Sequence[TopicFacts]) -> Iterator[str]:
        """The entries of `topics`, by those who were heard."""
        rest = list(self._joints)
        for topic in (told := leaders(led)):
            group = proposed_group(topic, rest, alone=len(told) == 1)
            if group is not None:
                rest = [joint for joint in rest if joint not in group.joints]
                yield from self._stream(topic, "", topic.type)
                yield from joint_lines(group.joints, group.names, group.scales, self._of)
        if rest:
            yield from self._stream(None, "joints", JOINT_STATE)
            yield from joint_lines(rest, (), (), self._of)
        left = list(led)
        for hand in self._hands:
            says = _leader_of(hand, left, len(self._hands) > 1)
            left = [topic for topic in left if topic is not says]
            yield from self._stream(says, hand.name, POSE_TYPES[0], "" if says is None else _other_frame(hand, says))
            yield f"    joints: [{word(hand.name)}]"
        yield from self._speeds(left)

    def _speeds(self, left: Sequence[TopicFacts]) -> Iterator[str]:
        speeds = [topic for topic in left if topic.type in COMMAND_TYPES and COMMAND_TYPES[topic.type].speeds]
        for told, name in ((self._twist, "twist"), (self._base, "base")):
            if told is None:
                continue
            both = self._twist is not None and self._base is not None
            fit = [t for t in speeds if not both or bool(OF_A_HAND.search(t.topic)) == (told is self._twist)]
            says = min(fit, key=lambda topic: (-topic.count, topic.topic), default=None)
            speeds = [topic for topic in speeds if topic is not says]
            yield from self._stream(says, name, TWIST_STAMPED)
            yield f"    joints: [{', '.join(map(word, told.joints))}]"
            yield f"    names: [{', '.join(told.parts)}]"
            if told is self._twist and (says is None or says.type == TWIST_STAMPED):
                frame = (says.frame if says is not None else "") or told.told.frame
                yield f"    frame: {word(frame.lstrip('/') or 'base_link')}"

    def _stream(self, says: TopicFacts | None, name: str, kind: str, about: str = "") -> Iterator[str]:
        """Topic and type of an entry that somebody was heard to say, or nobody."""
        self._found, self._missing = self._found + (says is not None), self._missing + (says is None)
        yield f"  - topic: {says.topic}{about}" if says is not None else f"  - topic: {self._where}/{name}{self._who}"
        yield f"    type: {says.type if says is not None else kind}"


def _leader_of(hand: ProposedHand, left: Sequence[TopicFacts], sided: bool) -> TopicFacts | None:
    """The topic of a person's poses for one of several hands (`sided`), in its frame before others."""
    side = SIDES.search(hand.name)
    poses = [topic for topic in left if topic.type in POSE_TYPES]
    if sided and side is not None:
        poses = [topic for topic in poses if side[0] in topic.topic.lower()]
    return min(poses, key=lambda topic: (bool(_other_frame(hand, topic)), -topic.count, topic.topic), default=None)


def _other_frame(hand: ProposedHand, says: TopicFacts) -> str:
    frame, ours = says.frame.lstrip("/"), hand.frame or "base_link"
    return f"  # in {frame}, to be said in {ours}: another frame is refused" if frame and frame != ours else ""
