"""Write a first robot file from a URDF and from topics, living or recorded, and say what nobody told.

    pi0 robot new --urdf my_robot.urdf --out my_robot.yaml                     while the robot's drivers run
    pi0 robot new --bag bags/first --urdf my_robot.urdf --out my_robot.yaml
    pi0 robot new --angles deg --gripper hand --slot top=base_0_rgb --without /depth/image --prompt "fold the towel"

Joints, limits and kinds come from the URDF (where none is given, from robot_description); rates, units, names and who
takes commands from the topics. It only listens. What was guessed is marked in the file with `# guessed: ...`. On a
terminal it asks for what no topic says; options answer beforehand, and without a terminal nothing is asked.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pi0_ros.base.arguments import positive
from pi0_ros.base.errors import InputError
from pi0_ros.base.middleware import domain_of
from pi0_ros.monitor.kinematics import Urdf, parse_urdf
from pi0_ros.robot import robot_from_yaml
from pi0_ros.robot.cameras import SLOT_PATTERN
from pi0_ros.robot.evidence import JointFacts, TopicFacts
from pi0_ros.robot.proposal import Proposal, Wishes, propose

SECONDS = 5.0
UNNAMED = "my_robot"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 robot new`."""
    parser.add_argument("--urdf", type=Path, help="the robot's URDF (default: what robot_description says)")
    parser.add_argument("--bag", type=Path, help="a recording, looked at instead of living topics")
    parser.add_argument("--name", dest="text", help="what the robot shall be called (default: as its URDF says)")
    parser.add_argument("--prompt", help="the default instruction (default: what was heard)")
    parser.add_argument("--seconds", type=positive, help=f"how long to listen (default {SECONDS:g})")
    parser.add_argument(
        "--angles", choices=("auto", "rad", "deg"), default="auto", help="the unit of angles in messages (default auto)"
    )
    parser.add_argument("--gripper", action="append", default=[], metavar="JOINT", help="a joint that is a gripper")
    parser.add_argument(
        "--without", action="append", default=[], metavar="NAME", help="a joint or topic to be left out"
    )
    parser.add_argument(
        "--slot", type=_slot, action="append", default=[], metavar="CAMERA=SLOT", help="the model's slot of a camera"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to (default: printed)")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE where it exists")


def run(args: argparse.Namespace) -> int:
    """`pi0 robot new`."""
    if args.overwrite and args.out is None:
        raise InputError("--overwrite replaces the file of --out: give that, too")
    if args.out is not None and not args.out.parent.is_dir():
        raise InputError(f"{args.out}: there is no folder {args.out.parent}")
    if args.out is not None and args.out.exists() and not args.overwrite:
        raise InputError(f"{args.out} exists: give --overwrite, or another name")
    urdf = _read(args.urdf) if args.urdf is not None else None
    topics, description, said = _survey(args)
    if urdf is None and description:
        urdf = parse_urdf(description, "robot_description")
    wishes = Wishes(
        name=_name(args.text or (urdf.name if urdf is not None else "") or UNNAMED),
        prompt=said if args.prompt is None else args.prompt.strip(),
        urdf=str(args.urdf.resolve()) if args.urdf is not None else "",
        angles=args.angles,
        grippers=tuple(args.gripper),
        without=tuple(args.without),
        slots=dict(args.slot),
    )
    joints = _facts(urdf) if urdf is not None else []
    proposal = propose(joints, topics, wishes)
    if sys.stdin.isatty() and sys.stderr.isatty():
        wishes = _ask(wishes, proposal, asked_prompt=args.prompt is None)
        proposal = propose(joints, topics, wishes)
    robot_from_yaml(proposal.text, str(args.out or "the proposed robot file"))  # what it cannot read it must not write
    if args.out is None:
        print(proposal.text, end="")
        return 0
    args.out.write_text(proposal.text, encoding="utf-8")
    print("Nobody told, so look at these in the file, and at each `# guessed:`")
    for sentence in proposal.unknown:
        print(f"- {sentence}")
    print(f"written: {args.out}\nnext: pi0 robot check {args.out}; pi0 doctor --robot {args.out} --live")
    return 0


def _slot(text: str) -> tuple[str, str]:
    camera, equals, slot = text.partition("=")
    if not equals or not camera or not SLOT_PATTERN.fullmatch(slot):
        raise argparse.ArgumentTypeError(f"{text!r}: expected CAMERA=SLOT, such as top=base_0_rgb")
    return camera, slot


def _survey(args: argparse.Namespace) -> tuple[list[TopicFacts], str, str]:
    if args.bag is not None:
        if args.seconds is not None:
            raise InputError("--seconds says how long to listen to living topics: not with --bag")
        from pi0_ros.bags.survey import survey_bag

        return survey_bag(args.bag)
    from pi0_ros.nodes.survey import DISCOVERY_S, survey_topics

    seconds, domain = args.seconds or SECONDS, domain_of(os.environ)
    print(f"listening in ROS_DOMAIN_ID {domain}, for {seconds + DISCOVERY_S:g} s at most", file=sys.stderr)
    if not any(heard := survey_topics(seconds)) and args.urdf is None:
        raise InputError(f"no robot is heard in ROS_DOMAIN_ID {domain}: start its driver, or give --bag or --urdf")
    return heard


def _ask(wishes: Wishes, proposal: Proposal, asked_prompt: bool) -> Wishes:
    """Ask a person for what no topic says; an empty answer leaves the guess."""
    if wishes.name == UNNAMED and (name := _answer("What is the robot called?", UNNAMED)):
        wishes = replace(wishes, name=_name(name))
    if asked_prompt and (prompt := _answer("What shall it do, if nobody says otherwise?", wishes.prompt or "nothing")):
        wishes = replace(wishes, prompt=prompt)
    slots = dict(wishes.slots)
    for camera, slot in proposal.cameras.items():
        if camera not in slots and (answer := _answer(f"Which slot of the model does camera {camera} fill?", slot)):
            if not SLOT_PATTERN.fullmatch(answer):
                raise InputError(f"{answer!r} is no slot: write one such as {slot}")
            slots[camera] = answer
    return replace(wishes, slots=slots)


def _answer(question: str, guess: str) -> str:
    print(f"{question} [{guess}] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip()


def _name(text: str) -> str:
    return re.sub(r"\s+", "_", text.strip())


def _read(path: Path) -> Urdf:
    try:
        return parse_urdf(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def _facts(urdf: Urdf) -> Sequence[JointFacts]:
    """The joints that move by themselves: those that mimic another are moved with it."""
    found = []
    for joint in urdf.free_joints:
        lower, upper = (joint.lower, joint.upper) if joint.lower < joint.upper else (-math.inf, math.inf)
        found.append(JointFacts(joint.name, joint.kind, float(lower), float(upper), float(joint.velocity)))
    return found
