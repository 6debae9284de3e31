"""All checks in the order in which their findings should be mended."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from pi0_ros.base.findings import Finding, error, note, ok
from pi0_ros.doctor.cameras import check_cameras
from pi0_ros.doctor.checkpoint import Facts, check_latency, check_memory, examine_checkpoint
from pi0_ros.doctor.following import Following, check_following, comparable, moved
from pi0_ros.doctor.heard import Session
from pi0_ros.doctor.joints import Fault, Series, misplaced
from pi0_ros.doctor.machine import (
    check_profile,
    check_ros,
    check_torch,
    gpu_memory,
    host_memory,
    load_now,
    overloaded,
)
from pi0_ros.doctor.statistics import check_shown
from pi0_ros.doctor.streams import SLOW, check_streams
from pi0_ros.robot import Camera, CommandGroup, Robot, RobotFileError, StateTopic, load_robot


def examine(
    robot_name: str,
    checkpoint: Path | None = None,
    tokenizer: str = "",
    listen: Callable[[Robot], Session] | None = None,
) -> Iterator[Finding]:
    """All findings. `listen`, if any, hears the robot's topics for a while."""
    try:
        robot = load_robot(robot_name)
    except RobotFileError as problem:
        for sentence in (str(problem), *problem.details.splitlines()):
            yield error("robot file", sentence, "docs/new_robot.md shows a robot file line by line")
        return
    yield from examine_robot(robot, checkpoint, tokenizer, listen)


def examine_robot(
    robot: Robot, checkpoint: Path | None = None, tokenizer: str = "", listen: Callable[[Robot], Session] | None = None
) -> Iterator[Finding]:
    """The same for a robot file that was read."""
    cameras = ", ".join(f"{camera.name} ({camera.slot})" for camera in robot.cameras) or "none"
    yield ok("robot file", f"{robot.name}: {len(robot.joints)} joints; cameras {cameras}")
    facts: Facts | None = None
    if checkpoint is not None:  # before listening: reading would keep messages waiting
        found, facts = examine_checkpoint(robot, checkpoint, tokenizer)
        yield from found
    session = listen(robot) if listen is not None else None
    gpu = gpu_memory()
    yield check_torch(gpu, facts.weights_bytes if facts is not None else 0)
    if facts is not None:
        yield from check_memory(facts, gpu or host_memory())
    found = []
    if session is None or session.live:
        found.append(check_ros(importlib.util.find_spec("rclpy") is not None))
        found.append(_proven(check_profile(robot, dict(os.environ)), session))
    if session is not None:
        found += check_session(session, facts)
    yield from overloaded(found, load_now(session.waited_share)) if session is not None and session.live else found


def check_session(session: Session, facts: Facts | None = None) -> Iterator[Finding]:
    """Everything that can be told from what was heard."""
    robot = session.robot
    streams = check_streams(session)
    yield from streams
    if any(finding.check == "domain" for finding in streams):
        return
    state, command = session.joints(StateTopic), session.joints(CommandGroup)
    following = check_following(robot, state, command)
    placed = {name: series for name, series in state.items() if name not in following.beside}
    places = misplaced(robot, placed, following.slopes)
    yield from [fault.finding for fault in places if not _explained(fault, following)]
    told = {name for fault in places if fault.finding.check == "units" for name in fault.joints}
    yield from [fault.finding for fault in following.faults if not _said(fault, told)]
    yield from check_cameras(session)
    yield from _not_judged(robot, state, command, following)
    if facts is not None:
        yield from check_latency(facts, session.latency_p99_s)
        if facts.state is not None and not told:
            yield from check_shown(robot, facts.state, state)
    yield from _observation(session, streams)


def _not_judged(
    robot: Robot, state: Mapping[str, Series], command: Mapping[str, Series], following: Following
) -> Iterator[Finding]:
    """What the motion did not tell, if anything."""
    still = not any(moved(joint, state[joint.name][1]) for joint in robot.joints if joint.name in state)
    led = following.faults or following.slopes or following.unclear
    if state and (still or not command or (comparable(robot, state, command) and not led)):
        yield note(
            "motion",
            "signs, order, scale and which camera is which were not judged: the arm did not move by commands meanwhile",
            "teleoperate it while this listens (--seconds 10), or look at a recording with --bag",
        )
    elif following.apart:
        yield note(
            "motion",
            f"order, sign, scale, zero of {', '.join(following.unclear)} were not judged: their states and their "
            "commands are of other times (stamps of a simulation beside the time of arrival?)",
            "let both be told by one clock: use_sim_time where the commands are sent or recorded, or `stamp: arrival` "
            "for the state topic in the robot file",
        )
    elif following.unclear:
        yield note(
            "motion",
            f"sign, scale, zero of {', '.join(following.unclear)} were not judged: too short a motion, a pause in it, "
            "too few commands, or more than they explain (a long lag, an arm that is held or put elsewhere)",
            "let it move to and fro while this listens (--seconds 10)",
        )


def _explained(place: Fault, following: Following) -> bool:
    """Whether a joint is outside its limits for a cause that its motion names: one cause, one line."""
    checks = {finding.check for finding in following.findings}
    if "velocities" in checks:
        return True
    return place.finding.check == "limits" and ("order" in checks or all(map(following.explains, place.joints)))


def _proven(profile: Finding, session: Session | None) -> Finding:
    """Of a profile that is not set here: only a note where the cameras come as fast as they should."""
    if session is None or profile.severity != "warning":
        return profile
    fast = all(heard.rate_hz >= SLOW * session.robot.dataset_fps for heard in session.of(Camera))
    return note(profile.check, profile.what, profile.todo) if fast else profile


def _said(fault: Fault, told: set[str]) -> bool:
    """Whether the places said the same cause: of a unit in the state one line is enough."""
    return fault.finding.check in ("units", "scale", "zero") and set(fault.joints) <= told


def _observation(session: Session, streams: list[Finding]) -> Iterator[Finding]:
    if not session.problems:
        yield ok("observation", "complete: this is what the policy will see")
    elif not any(finding.severity == "error" for finding in streams):  # else they have said why
        yield error("observation", "; ".join(session.problems), "the policy would wait for this")
