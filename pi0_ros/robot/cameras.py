"""The entries of `cameras` in a robot file."""

from __future__ import annotations

import re
from typing import Any

from pi0_ros.base.strict_yaml import Place, Section, nearest
from pi0_ros.robot.encodings import ENCODINGS
from pi0_ros.robot.entries import MAX_AGE_HINT, latency_of, stamp_of, topic_of
from pi0_ros.robot.lens import MAX_PIXELS, read_lens
from pi0_ros.robot.message_types import CAMERA_TYPES
from pi0_ros.robot.types import Camera

SLOTS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
SLOT_PATTERN = re.compile(r"\w[\w.-]*")  # LeRobot's features may be called rgb.head, cam-high or 2cam
ROTATIONS = (0, 90, 180, 270)
HINTS = {"slot": "the model's image slot, such as " + ", ".join(SLOTS), "max_age_s": MAX_AGE_HINT}


def read_camera(value: Any, place: Place) -> Camera:
    optional = ("frozen_s", "encoding", "rectify", "crop", "rotate", "depth", "stamp", "latency_s")
    item = Section(value, place, ("name", "topic", "type", "slot", "max_age_s"), optional, HINTS)
    slot = item.text("slot")
    if not SLOT_PATTERN.fullmatch(slot):
        item.wrong("slot", f"{slot!r} is no image slot{nearest(slot, SLOTS)}; the usual ones are {', '.join(SLOTS)}")
    name = item.name("name")
    if "/" in name:
        item.wrong("name", f"{name!r} becomes part of a dataset's file names: write it without /")
    kind = item.choice("type", CAMERA_TYPES)
    for key in ("encoding", "depth"):
        if kind != CAMERA_TYPES[0] and key in item:
            item.wrong(key, f"only raw pictures have it: write type {CAMERA_TYPES[0]}")
    return Camera(
        name=name,
        topic=topic_of(item),
        type=kind,
        slot=slot,
        max_age_s=item.seconds("max_age_s"),
        frozen_s=item.seconds("frozen_s") if "frozen_s" in item else None,
        encoding=item.choice("encoding", ENCODINGS) if "encoding" in item else "",
        rectify=read_lens(item.value["rectify"], (*item.place, "rectify")) if "rectify" in item else None,
        crop=_crop(item) if "crop" in item else None,
        rotate=_rotate(item) if "rotate" in item else 0,
        depth=_depth(item) if "depth" in item else None,
        stamp=stamp_of(item),
        latency_s=latency_of(item),
    )


def _crop(item: Section) -> tuple[int, int, int, int]:
    box = Section(item.value["crop"], (*item.place, "crop"), ("left", "top", "width", "height"))
    for key in ("left", "top", "width", "height"):
        least = 0 if key in ("left", "top") else 1
        if type(box.value[key]) is not int or not least <= box.value[key] <= MAX_PIXELS:
            box.wrong(key, f"{box.value[key]!r} is no whole number of pixels from {least} to {MAX_PIXELS}")
    return box.value["left"], box.value["top"], box.value["width"], box.value["height"]


def _rotate(item: Section) -> int:
    turn = item.value["rotate"]
    if type(turn) is not int or turn not in ROTATIONS:
        item.wrong("rotate", f"{turn!r} is not one of {', '.join(map(str, ROTATIONS))} (degrees clockwise)")
    return int(turn)


def _depth(item: Section) -> tuple[float, float]:
    span = Section(item.value["depth"], (*item.place, "depth"), ("near", "far"))
    near, far = span.positive("near"), span.positive("far")
    if near >= far:
        span.wrong("near", f"{near:g} m is not nearer than far, {far:g} m")
    return near, far
