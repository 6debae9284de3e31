"""What the messages of a recording show: pictures in which something can be seen, joints that move within limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pi0_ros.bags.reader import Bag, BagError
from pi0_ros.base.findings import Finding, error, warning
from pi0_ros.conversion.bag_streams import Recorded, Stream
from pi0_ros.datasets.pictures import contrast, is_black, sharpness
from pi0_ros.observation.camera_picture import decoder_of
from pi0_ros.observation.images import ImageError
from pi0_ros.observation.streams import MessageError, decode_command, decode_state
from pi0_ros.robot import Camera, CommandGroup, Robot, StateTopic

BRIGHT, FLAT = 250.0, 2.0  # mean grey level, standard deviation of it
BLURRED = 0.02  # of `sharpness`: details of less than about 2 % of the picture's width are gone
SAME_S = 1.0  # a picture that stays the same for longer is worth a word
MOVES = 0.02  # of a joint's range between its limits
BEYOND = 0.1  # of that range: measured further outside, the unit is wrong
APART = 0.3  # of that range: command and state usually further apart, a sign or an offset is wrong


def check_cameras(bag: Bag, found: Recorded, robot: Robot) -> Iterator[Finding]:
    """Decode some pictures of every camera."""
    for camera in robot.cameras:
        stream = found.streams.get(camera.topic)
        if stream is not None and stream.kept:
            yield from _camera(bag, stream, camera)


def _camera(bag: Bag, stream: Stream, camera: Camera) -> Iterator[Finding]:
    name = f"camera {camera.name}"
    try:
        decode = decoder_of(camera)
        pictures = [decode(bag.decode(stream.topic, data)) for data in stream.kept]
    except (ImageError, BagError) as problem:
        yield error("pictures", f"{name}: {problem}", "let the driver publish what the message says")
        return
    sizes = sorted({picture.shape[:2] for picture in pictures})
    if len(sizes) > 1:
        listed = ", ".join(f"{width}x{height}" for height, width in sizes)
        yield error("pictures", f"{name}: its size changes ({listed})", "fix the driver's resolution")
    black = sum(map(is_black, pictures))
    some = f"in {black} of {len(pictures)} pictures"
    if black == len(pictures):
        yield error("pictures", f"{name} is black", "cap off? exposure? light?")
    elif black:
        yield warning("pictures", f"{name} is black {some}", "light or exposure changes")
    elif np.median([picture.mean() for picture in pictures]) > BRIGHT:
        yield warning("pictures", f"{name} is overexposed", "lower the exposure")
    elif (spread := np.median([contrast(picture) for picture in pictures])) < FLAT:
        yield warning("pictures", f"{name} shows hardly anything (contrast {spread:.1f} of 255)", "covered, or fogged?")
    elif (sharp := max(map(sharpness, pictures))) < BLURRED:
        yield warning("pictures", f"{name} is blurred (sharpness {sharp:.3f})", "focus it, clean the lens")
    limit = camera.frozen_s or SAME_S
    if stream.same_s > 0.9 * stream.span_s and len(stream.stamps) > 2:
        yield error("pictures", f"{name} sends one and the same picture all the time", "restart its driver")
    elif stream.same_s > limit:
        yield warning(
            "pictures", f"{name} sends one and the same picture for {stream.same_s:.1f} s", "does its driver hang?"
        )


def check_joints(bag: Bag, found: Recorded, robot: Robot) -> Iterator[Finding]:
    """Decode states and commands: names, limits, motion, and whether they belong together."""
    middle: dict[str, dict[str, float]] = {"state": {}, "command": {}}
    commanded: dict[str, bool] = {}
    moved: dict[str, bool] = {}
    items: Sequence[tuple[str, StateTopic | CommandGroup]] = [
        *(("state", item) for item in robot.state),
        *(("command", group) for group in robot.commands),
    ]
    for kind, item in items:
        stream = found.streams.get(item.topic)
        if stream is None or not stream.kept:
            continue
        try:
            values = np.array([_decode(item, bag.decode(item.topic, data)) for data in stream.kept])
        except (MessageError, BagError) as problem:
            yield error("joints", str(problem), "mend the robot file, or what publishes the topic")
            continue
        positions = not isinstance(item, StateTopic) or item.field == "position"
        for place, name in enumerate(item.joints):
            joint = robot.joints[robot.joint_names.index(name)]
            span, column = joint.upper - joint.lower, values[:, place]
            (moved if kind == "state" else commanded)[name] = bool(np.ptp(column) > MOVES * span)
            if not positions or joint.action == "velocity" and kind == "command":
                continue
            middle[kind][name] = float(np.median(column))
            outside = max(joint.lower - column.min(), column.max() - joint.upper)
            if outside > BEYOND * span:
                yield warning(
                    "joints",
                    f"{kind} of {name} reaches from {column.min():.3g} to {column.max():.3g} {joint.unit}, its limits "
                    f"are {joint.lower:g} to {joint.upper:g}",
                    "degrees for radians? `scale` in the robot file converts",
                )
    yield from _motion(moved, commanded)
    for name in middle["state"].keys() & middle["command"].keys():
        joint = robot.joints[robot.joint_names.index(name)]
        apart = abs(middle["state"][name] - middle["command"][name])
        if joint.kind != "gripper" and apart > APART * (joint.upper - joint.lower):
            yield warning(
                "joints",
                f"command and state of {name} are {apart:.3g} {joint.unit} apart most of the time",
                "a sign, an offset or a unit differs",
            )


def _decode(item: StateTopic | CommandGroup, msg: object) -> np.ndarray:
    return decode_state(item, msg) if isinstance(item, StateTopic) else decode_command(item, msg)


def _motion(moved: dict[str, bool], commanded: dict[str, bool]) -> Iterator[Finding]:
    if moved and not any(moved.values()):
        if any(commanded.values()):
            yield error("joints", "no joint moves although commands change", "is the robot enabled? is the state live?")
        else:
            yield error("joints", "no joint moves", "nothing can be learned from it")
    elif commanded and not any(commanded.values()):
        yield error("joints", "the command never changes although the robot moves", "record the topic that moves it")
    elif dead := [name for name, flag in moved.items() if not flag and commanded.get(name)]:
        yield warning("joints", f"{', '.join(dead)} is commanded but does not move", "is its motor on?")
