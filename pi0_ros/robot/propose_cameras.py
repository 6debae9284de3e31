"""Cameras for a robot that nobody has described yet: which pictures, what they are called, which slot they fill."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pi0_ros.base.errors import InputError
from pi0_ros.base.strict_yaml import nearest
from pi0_ros.robot.cameras import SLOTS
from pi0_ros.robot.encodings import PIXELS
from pi0_ros.robot.evidence import TopicFacts
from pi0_ros.robot.message_types import CAMERA_TYPES
from pi0_ros.robot.proposed_lines import word

WRIST = re.compile(r"wrist|hand|gripper|eef|ee_|tool", re.IGNORECASE)
RIGHT = re.compile(r"right", re.IGNORECASE)
NOT_COLOUR = re.compile(r"depth|infra|(^|/)ir(/|$)|disparity|confidence|mask|thermal", re.IGNORECASE)
DEPTH_ENCODINGS = ("16UC1", "32FC1", "mono16")
PLAIN = re.compile(r"^(image|img|raw|rect|color|colour|rgb|camera|compressed)(_?(raw|rect|color|mono|image))*$")
RECTIFIED = ("image_rect", "image_rect_raw", "image_rect_color")
NOISY = 0.05  # of the bytes of two pictures of a real camera differ at least
STREAMS = ("theora", "h265", "hevc", "zstd", "av1", "vp8", "vp9")


@dataclass(frozen=True)
class ProposedCamera:
    """A camera as the robot file shall have it."""

    name: str
    topic: TopicFacts
    slot: str
    told: bool  # the slot, by whoever asked


def propose_cameras(topics: Sequence[TopicFacts], slots: Mapping[str, str], unknown: list[str]) -> list[ProposedCamera]:
    """The cameras in colour; of one that is sent twice the compressed pictures. `slots`: camera -> slot, told.

    `InputError` for a told camera that is not there.
    """
    kept = list(_colour(topics, unknown))
    names: list[str] = []
    for topic in kept:
        name = _name(topic.topic)
        names.append(name if name not in names else f"{name}_{len(names) + 1}")
    for name in slots:
        if name not in names:
            there = ", ".join(names) or "none"
            raise InputError(f"--slot: no camera is called {name!r}{nearest(name, names)}; there are {there}")
    free = [slot for slot in SLOTS if slot not in slots.values()]
    found = []
    for topic, name in zip(kept, names):
        wrist = bool(WRIST.search(topic.topic))
        liked = SLOTS[2] if wrist and RIGHT.search(topic.topic) else SLOTS[1] if wrist else SLOTS[0]
        slot = slots.get(name) or (liked if liked in free else free[0] if free else "")
        if not slot:
            unknown.append(f"what to do with camera {topic.topic}: pi0 has three image slots, so it is left out")
            continue
        free = [other for other in free if other != slot]
        found.append(ProposedCamera(name, topic, slot, name in slots))
    return found


def _colour(topics: Sequence[TopicFacts], unknown: list[str]) -> Iterator[TopicFacts]:
    pictures = [topic for topic in topics if topic.type in CAMERA_TYPES and topic.count]
    for topic in pictures:
        others = {other.topic for other in pictures if other is not topic}
        bases = {other.removesuffix("/compressed") for other in others}
        base = topic.topic.removesuffix("/compressed")
        if NOT_COLOUR.search(topic.topic) or topic.encoding in DEPTH_ENCODINGS:
            unknown.append(f"what to do with {topic.topic}, not in colour: left out (`depth` makes it a picture)")
        elif any(word in f"{topic.topic} {topic.encoding}".lower() for word in STREAMS):
            unknown.append(f"what to do with {topic.topic}, a stream ({topic.encoding or topic.type}): left out")
        elif (
            topic.type == CAMERA_TYPES[0]
            and f"{topic.topic}/compressed" in others
            or base.endswith("image_raw")
            and bases & {base.replace("image_raw", name) for name in RECTIFIED}
        ):
            continue
        else:
            yield topic


def _name(topic: str) -> str:
    """What a camera is called: the last word of its topic that says more than camera or image."""
    parts = [part for part in topic.strip("/").split("/") if not PLAIN.match(part)]
    name = re.sub(r"(_(camera|cam|image|raw|color))+$", "", parts[-1]) if parts else "camera"
    return name or "camera"


def camera_lines(camera: ProposedCamera, mark: str) -> Iterator[str]:
    """The entry of the robot file; `mark` begins what was guessed."""
    topic = camera.topic
    width, height = topic.size
    seen = [f"{topic.rate_hz:.0f} Hz"] if topic.rate_hz else []
    seen += [f"{width} x {height} {topic.encoding}".strip()] if width else [topic.encoding] if topic.encoding else []
    yield f"  - name: {word(camera.name)}"
    yield f"    topic: {topic.topic}" + (f"  # {', '.join(seen)}" if seen else "")
    yield f"    type: {topic.type}"
    yield f"    slot: {word(camera.slot)}" + ("" if camera.told else f"  {mark} by the topic's name")
    yield f"    max_age_s: {max(0.15, round(3.5 / topic.rate_hz, 2)) if topic.rate_hz else 0.25:g}"
    if topic.repeats or topic.least_changed < NOISY:
        yield f"    # frozen_s: 1.0  {mark} left out, as for a simulator: its pictures have no noise"
    else:
        yield f"    frozen_s: 1.0  {mark} a real camera, by the noise of its pictures"
    if topic.type == CAMERA_TYPES[0] and topic.encoding.startswith("8UC") and topic.encoding not in PIXELS:
        yield f"    encoding: bgr8  {mark} the driver does not say the order of the colours"
