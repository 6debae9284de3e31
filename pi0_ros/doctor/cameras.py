"""Cameras: whether something can be seen, whether it is alive, and whether each is the one that its name says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations

import numpy as np

from pi0_ros.base.findings import Finding, error, note, warning
from pi0_ros.doctor.heard import Heard, Look, Session
from pi0_ros.doctor.joints import Series
from pi0_ros.observation.picture_quality import BLURRED, BRIGHT, FLAT
from pi0_ros.robot import Camera, Robot, StateTopic

DARK = 30.0  # nearly all of the picture is darker than this grey level
TWINS = 4.0  # grey levels by which two cameras' pictures differ, on average, that are one camera's
SAME_TIME_S = 0.3  # apart, two pictures are taken for simultaneous
STEP = 0.04  # of a joint's range: between two pictures the arm moved by this
CHANGED = 8.0  # grey levels: a block of the picture that changed
BUSY, TIMES = 0.2, 2.0  # of a wrist's picture more than this changes, and this many times as much as of a base's
CERTAIN = 0.6  # so much of a "base" picture changes when nearly all of it moves: no doubt
FROZEN_S, EDGE_S, FROZEN_STEP = 1.0, 0.2, 0.12  # one picture for so long, the arm going on within; of a joint's range
TURNS, UNLIKE = 6, 12.0  # pictures, and grey levels, from which two pictures in turns are told
SURE = 3  # pairs of pictures with motion between them that are needed to tell


def check_cameras(session: Session) -> list[Finding]:
    """All findings about the pictures; nothing about cameras that were not heard."""
    cameras = [heard for heard in session.of(Camera) if heard.looks]
    joints = session.joints(StateTopic)
    found = [finding for heard in cameras for finding in _one(session.robot, heard, joints)]
    twins = list(_twins(cameras))
    return [*found, *twins, *([] if twins else _exchanged(session.robot, cameras, joints)), *_not_told(cameras)]


def _not_told(cameras: list[Heard]) -> Iterator[Finding]:
    """What no picture shows by itself."""
    if cameras:
        what = "whether pictures are turned, mirrored, or have red and blue exchanged was not judged: no picture tells"
        yield note("pictures", what, "look at them beside those of the training data (`pi0 view`)")


def _one(robot: Robot, heard: Heard, joints: Mapping[str, Series]) -> Iterator[Finding]:
    if seen := list(_seen(heard)):
        yield from seen
    else:  # a black picture does not change either
        yield from _in_turns(heard)
        yield from _frozen(robot, heard, joints)


def _seen(heard: Heard) -> Iterator[Finding]:
    """What stands between the camera and what it should see."""
    assert isinstance(heard.item, Camera)
    name, looks = f"camera {heard.item.name}", heard.looks
    black = sum(look.black for look in looks)
    grey = float(np.median([look.mean for look in looks]))
    if black == len(looks):
        yield error("black", f"{name} is black", "take off the cap, open the exposure, put on the light")
    elif black:
        yield warning("black", f"{name} is black in {black} of {len(looks)} pictures", "light or exposure changes")
    elif grey > BRIGHT:
        yield error("exposure", f"{name} is overexposed (mean grey {grey:.0f} of 255)", "lower its exposure or gain")
    elif max(look.bright for look in looks) < DARK:
        what = f"{name} is underexposed (95 % of it are darker than {max(look.bright for look in looks):.0f} of 255)"
        yield warning("exposure", what, "raise its exposure, put on the light")
    elif (spread := float(np.median([look.contrast for look in looks]))) < FLAT:
        yield warning("contrast", f"{name} shows hardly anything (contrast {spread:.1f} of 255)", "covered, or fogged?")
    elif (sharp := max(look.sharpness for look in looks)) < BLURRED:
        yield warning(
            "blurred", f"{name} is blurred (sharpness {sharp:.3f}, usual above {BLURRED})", "focus it, clean the lens"
        )


def _frozen(robot: Robot, heard: Heard, joints: Mapping[str, Series]) -> Iterator[Finding]:
    """One picture for longer than the robot file allows, or, where it allows all, while the arm moves."""
    assert isinstance(heard.item, Camera)
    limit, name = heard.item.frozen_s, heard.item.name
    what = f"camera {name} has sent one and the same picture for {heard.same_s:.1f} s"
    todo = "restart its driver (it hangs, though its stamps are fresh)"
    if limit is not None and heard.same_s > limit:
        yield error("frozen", f"{what}, limit {limit:g} s", todo)
    elif limit is None and len(heard.looks) > 2:
        span = heard.looks[-1].t_s - heard.looks[0].t_s
        begin, end = heard.same
        whole = heard.same_s >= 0.9 * span and _motion(robot, joints, begin, end) > STEP
        part = heard.same_s > FROZEN_S and _motion(robot, joints, begin + EDGE_S, end - EDGE_S) > FROZEN_STEP
        if whole or part:
            yield error("frozen", f"{what} while the arm moved", todo)


def _in_turns(heard: Heard) -> Iterator[Finding]:
    """Pictures of two cameras, or of two settings, on one topic."""
    assert isinstance(heard.item, Camera)
    looks, todo = heard.looks, "two publishers on one topic: end one of them; or a driver that changes its settings"
    if len({look.size for look in looks}) > 1:
        yield error("publishers", f"camera {heard.item.name} sends pictures of different sizes", todo)
    elif len(looks) >= TURNS:
        next_one = np.median([_difference(one, other) for one, other in zip(looks, looks[1:])])
        after_it = np.median([_difference(one, other) for one, other in zip(looks, looks[2:])])
        if next_one > UNLIKE and next_one > 3.0 * after_it:
            yield error("publishers", f"camera {heard.item.name} shows two different pictures in turns", todo)


def _twins(cameras: list[Heard]) -> Iterator[Finding]:
    """Two cameras that show the same at the same time."""
    for one, other in combinations(cameras, 2):
        assert isinstance(one.item, Camera) and isinstance(other.item, Camera)
        apart = [_difference(look, match) for look in one.looks if (match := _beside(look, other.looks)) is not None]
        if apart and np.median(apart) < TWINS and not all(look.black for look in one.looks):
            what = f"cameras {one.item.name} and {other.item.name} show the same picture"
            yield error(
                "twins", what, f"{other.topic} or {one.topic} has the wrong device: correct the driver's settings"
            )


def _exchanged(robot: Robot, cameras: list[Heard], joints: Mapping[str, Series]) -> Iterator[Finding]:
    """A wrist camera in whose picture little moves when the arm does, and a base camera in whose picture all does."""
    shares = {heard.topic: shares_changed(robot, heard, joints) for heard in cameras}
    told = {topic: float(np.median(values)) for topic, values in shares.items() if len(values) >= SURE}
    wrists = [heard for heard in cameras if heard.topic in told and _is_wrist(heard)]
    bases = [heard for heard in cameras if heard.topic in told and not _is_wrist(heard)]
    for wrist in wrists:
        for base in bases:
            still, busy = told[wrist.topic], told[base.topic]
            if busy > BUSY and busy > TIMES * still:
                assert isinstance(wrist.item, Camera) and isinstance(base.item, Camera)
                what = (
                    f"cameras {wrist.item.name} and {base.item.name} look exchanged: when the arm moves, {still:.0%} "
                    f"of {wrist.item.name} changes and {busy:.0%} of {base.item.name}"
                )
                level = error if busy > CERTAIN and still < busy / 3 else warning
                yield level("swapped", what, f"exchange the topics {wrist.topic} and {base.topic} in the robot file")


def shares_changed(robot: Robot, heard: Heard, joints: Mapping[str, Series]) -> list[float]:
    """What share of the picture changed, of every two pictures between which the arm moved."""
    found, last = [], heard.looks[0]
    for look in heard.looks[1:]:
        if look.thumb.shape != last.thumb.shape:
            last = look
        elif _motion(robot, joints, last.t_s, look.t_s) > STEP:
            found.append(float((np.abs(look.thumb - last.thumb).max(axis=2) > CHANGED).mean()))
            last = look
    return found


def _motion(robot: Robot, joints: Mapping[str, Series], begin: float, end: float) -> float:
    """How far the joint that moved most went between two times, as a fraction of its range; grippers move no camera."""
    most = 0.0
    for joint in robot.joints:
        if joint.kind != "gripper" and joint.name in joints and np.isfinite(span := joint.span):
            times, values = joints[joint.name]
            went = float(np.interp(end, times, values) - np.interp(begin, times, values))
            most = max(most, abs(went) / span)
    return most


def _beside(look: Look, others: list[Look]) -> Look | None:
    nearest = min(others, key=lambda other: abs(other.t_s - look.t_s))
    return nearest if abs(nearest.t_s - look.t_s) < SAME_TIME_S else None


def _difference(one: Look, other: Look) -> float:
    if one.thumb.shape != other.thumb.shape:
        return float("inf")
    return float(np.abs(one.thumb - other.thumb).mean())


def _is_wrist(heard: Heard) -> bool:
    assert isinstance(heard.item, Camera)
    return "wrist" in heard.item.slot
