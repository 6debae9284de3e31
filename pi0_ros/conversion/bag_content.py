"""What the messages of a recording show: pictures in which something can be seen, joints that move within limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from pi0_ros.bags.reader import Bag, BagError
from pi0_ros.base.findings import Finding, error, remedy, warning
from pi0_ros.conversion.bag_streams import TOGETHER, Recorded, Stream, read_streams
from pi0_ros.observation.camera_picture import decoder_of
from pi0_ros.observation.images import ImageError, PartError
from pi0_ros.observation.joint_messages import MessageError, decode_state, decode_trajectory
from pi0_ros.observation.picture_quality import BLURRED, BRIGHT, FLAT, contrast, is_black, sharpness
from pi0_ros.observation.trajectories import Trajectory
from pi0_ros.robot import Camera, CommandGroup, Robot, StateTopic
from pi0_ros.robot.message_types import CAMERA_TYPES
from pi0_ros.robot.space import space_of

SAME_S = 1.0  # a picture that stays the same for longer is worth a word
TAKE_ANYWAY = "leave it out, or --content accept takes it all the same"
LOOK = "look at it with `pi0 convert --explain BAG` and leave it out where the task cannot be seen"
LEFT_OUT = "rows that need them are left out"
NAMES = "mend the names in the robot file, if they differ; rows that need the others are left out"
NEXT_STATE = "`action: {source: next_state}` in the robot file takes what the robot did for the action"
WITHOUT = "leave it out, or leave that joint out of the robot file"
STILL = "`frozen_s` of the camera in the robot file makes gaps of such times"
KEPT = {"image": 8, "joints": 600}  # messages that are decoded
NOISES = 10.0  # so many standard deviations of its noise a joint that moves covers, at least
COUNTS = 3.0  # ... and so many of its sensor's smallest steps
MOVES = 0.02  # of a joint's range between its limits: a step of it is motion, whatever the noise
BEYOND = 0.1  # of that range: measured further outside, the unit is wrong
APART = 0.3  # of that range: command and state usually further apart, a sign or an offset is wrong


def kept_counts(topics: Mapping[str, str]) -> dict[str, int]:
    """How many messages of `topics` (topic -> type) are to be kept for looking at."""
    return {topic: KEPT["image" if kind in CAMERA_TYPES else "joints"] for topic, kind in topics.items()}


def look(bag: Bag, robot: Robot, topics: Mapping[str, str]) -> list[Finding]:
    """Decode some messages of the needed `topics`: an error makes the recording worth nothing, however well made."""
    found = read_streams(bag, topics, kept_counts(topics))
    return [*check_cameras(bag, found, robot), *check_joints(bag, found, robot)]


def moves(values: np.ndarray, neighbours: np.ndarray, span: float) -> bool:
    """Whether a joint's values [N] show motion and not the noise of a joint at rest.

    `neighbours` [M, 3]: values of messages that followed each other, which tell the noise; `span`: between the limits.
    """
    covered = float(np.ptp(values)) if len(values) else 0.0
    if len(neighbours) < 3:
        return covered > 1e-3 * span
    steps = np.abs(np.diff(neighbours, axis=1)).ravel()
    steps = steps[steps > 1e-9 * span]
    smallest = float(steps.min()) if len(steps) else 0.0
    second = neighbours[:, 0] - 2 * neighbours[:, 1] + neighbours[:, 2]  # holds hardly any motion
    noise = 1.4826 * float(np.median(np.abs(second))) / np.sqrt(6.0)
    return covered > max(1e-4 * span, NOISES * noise, min(COUNTS * smallest, MOVES * span))


def check_cameras(bag: Bag, found: Recorded, robot: Robot) -> Iterator[Finding]:
    """Decode some pictures of every camera."""
    for camera in robot.cameras:
        stream = found.streams.get(camera.topic)
        if stream is not None and stream.kept:
            yield from _camera(bag, stream, camera)


def _camera(bag: Bag, stream: Stream, camera: Camera) -> Iterator[Finding]:
    name, decode = f"camera {camera.name}", decoder_of(camera)
    pictures, problems = [], []
    for data in stream.kept:
        try:
            pictures.append(decode(bag.decode(stream.topic, data)))
        except PartError:  # of a video stream, whose key pictures are looked at
            continue
        except (ImageError, BagError) as problem:
            problems.append(str(problem))
    if problems:
        many = f"{len(problems)} of {len(stream.kept)} pictures looked at can't be decoded"
        yield (warning if pictures else error)("pictures", f"{name}: {many}: {problems[0]}", LEFT_OUT)
    if not pictures:
        return
    sizes = sorted({picture.shape[:2] for picture in pictures})
    if len(sizes) > 1:
        listed = ", ".join(f"{width}x{height}" for height, width in sizes)
        yield warning("pictures", f"{name}: its size changes ({listed})", "give `pi0 convert --resize WxH`")
    black = sum(map(is_black, pictures))
    some = f"in {black} of {len(pictures)} pictures"
    if black == len(pictures):
        yield error("pictures", f"{name} is black", remedy(TAKE_ANYWAY, "cap off? exposure? light?"))
    elif black:
        yield warning("pictures", f"{name} is black {some}", remedy(LOOK, "light or exposure changes"))
    elif np.median([picture.mean() for picture in pictures]) > BRIGHT:
        yield warning("pictures", f"{name} is overexposed", remedy(LOOK, "lower the exposure"))
    elif (spread := np.median([contrast(picture) for picture in pictures])) < FLAT:
        what = f"{name} shows hardly anything (contrast {spread:.1f} of 255)"
        yield warning("pictures", what, remedy(LOOK, "covered, or fogged?"))
    elif (sharp := max(map(sharpness, pictures))) < BLURRED:
        what = f"{name} is blurred (sharpness {sharp:.3f})"
        yield warning("pictures", what, remedy(LOOK, "focus it, clean the lens"))
    limit = camera.frozen_s or SAME_S
    if stream.same_s > 0.9 * stream.span_s and len(stream.stamps) > 2:
        what = f"{name} sends one and the same picture all the time"
        yield error("pictures", what, remedy(TAKE_ANYWAY, "restart its driver"))
    elif stream.same_s > limit:
        what = f"{name} sends one and the same picture for {stream.same_s:.1f} s"
        yield warning("pictures", what, remedy(STILL, "does its driver hang?"))


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
        rows: list[np.ndarray] = []
        problems, nothing = [], np.full(len(item.joints), np.nan)
        for data in stream.kept:
            try:
                rows.extend(_decode(item, bag.decode(item.topic, data)))
            except (MessageError, BagError) as problem:
                rows.append(nothing)
                problems.append(str(problem))
        if problems:
            many = f"{len(problems)} of {len(stream.kept)} messages looked at can't be used"
            usable = len(problems) < len(rows)
            yield (warning if usable else error)(
                "joints",
                f"{many}: {problems[0]}",
                NAMES,
            )
        if len(problems) == len(rows):
            continue
        whole = space_of([robot.joints[n] for n in robot.indices(item.joints)]).unwrapped(np.array(rows))
        if absent := ", ".join(name for name, ok in zip(item.joints, np.isfinite(whole).any(axis=0)) if not ok):
            what = f"none of {len(rows)} messages looked at on {item.topic} has {absent}"
            yield (error if len(stream.kept) == len(stream.stamps) else warning)("joints", what, NAMES)
        positions = not isinstance(item, StateTopic) or item.is_position
        for place, name in enumerate(item.joints):
            joint = robot.joints[robot.joint_names.index(name)]
            span, column = joint.span, whole[:, place]
            groups = column[: len(column) // TOGETHER * TOGETHER].reshape(-1, TOGETHER)
            groups = groups[np.isfinite(groups).all(axis=1)]
            column = column[np.isfinite(column)]  # messages may speak of some joints each
            if not len(column):
                continue
            (moved if kind == "state" else commanded)[name] = moves(column, groups, span)
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
        ends = (np.array([middle[kind][name]]) for kind in ("state", "command"))
        apart = float(np.abs(space_of([joint]).short_way(*ends))[0])
        if joint.kind != "gripper" and not joint.writes_rotation and apart > APART * joint.span:
            yield warning(
                "joints",
                f"command and state of {name} are {apart:.3g} {joint.unit} apart most of the time",
                "a sign, an offset or a unit differs",
            )


def _decode(item: StateTopic | CommandGroup, msg: object) -> np.ndarray:
    """The values of a message, float64 [N, joints]: a plan has many."""
    found = decode_state(item, msg) if isinstance(item, StateTopic) else decode_trajectory(item, msg)
    return found.positions if isinstance(found, Trajectory) else found[None]


def _motion(moved: dict[str, bool], commanded: dict[str, bool]) -> Iterator[Finding]:
    if moved and not any(moved.values()):
        if any(commanded.values()):
            what = "no joint moves although commands change"
            yield error("joints", what, remedy(TAKE_ANYWAY, "is the robot enabled? is the state live?"))
        else:
            yield warning("joints", "no joint moves, and no command changes", "nothing can be learned from it")
    elif commanded and not any(commanded.values()):
        what = "the command never changes although the robot moves"
        yield error("joints", what, remedy(NEXT_STATE, "record the topic that moves it"))
    elif dead := [name for name, flag in moved.items() if not flag and commanded.get(name)]:
        what = f"{', '.join(dead)} is commanded but does not move"
        yield warning("joints", what, remedy(WITHOUT, "is its motor on?"))
