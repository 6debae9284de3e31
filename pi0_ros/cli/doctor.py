"""Check robot file, checkpoint, machine and topics, and say what to do about each finding.

    pi0 doctor --robot my_robot
    pi0 doctor --robot my_robot --checkpoint runs/my_robot
    pi0 doctor --robot my_robot --live            (listens to the robot's topics; sends nothing)

Exit status 0 when nothing failed, 1 otherwise. Warnings do not fail.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pi0_ros.base.arguments import positive
from pi0_ros.base.errors import InputError
from pi0_ros.base.share import config_path
from pi0_ros.robot import Robot, RobotFileError, load_robot

if TYPE_CHECKING:
    from pi0_ros.nodes.topic_check import TopicReport

OK, WARN, FAIL = "ok", "warn", "FAIL"
COLOURS = {OK: "\033[32m", WARN: "\033[33m", FAIL: "\033[31m"}
WIDTH = 17  # of the subject column


@dataclass(frozen=True)
class Finding:
    """One line of the table; `remedy` says what to do about a WARN or FAIL."""

    level: str
    subject: str
    text: str
    remedy: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of `pi0 doctor`."""
    parser.add_argument("--robot", required=True, help="a name in config/robots, or the path of a robot file")
    parser.add_argument("--checkpoint", type=Path, help="the checkpoint that shall drive it, of any format")
    parser.add_argument("--tokenizer", default="", help="tokenizer file or folder, for a checkpoint without one")
    parser.add_argument("--live", action="store_true", help="also listen to the robot's topics")
    parser.add_argument("--seconds", type=positive, default=3.0, help="how long to listen (default 3)")
    parser.add_argument("--use-sim-time", action="store_true", help="ages against /clock")


def run(args: argparse.Namespace) -> int:
    """`pi0 doctor`: 0 when no finding is a FAIL."""
    if args.tokenizer and args.checkpoint is None:
        raise InputError(f"--tokenizer {args.tokenizer}: say with --checkpoint which checkpoint it is for")
    failed = False
    for finding in examine(args.robot, args.checkpoint, args.live, args.seconds, args.use_sim_time, args.tokenizer):
        failed |= finding.level == FAIL
        print(layout(finding, colour=sys.stdout.isatty()), flush=True)
    print("Something must be mended first." if failed else "Nothing stands in the way.")
    return int(failed)


def layout(finding: Finding, colour: bool = False) -> str:
    """A finding as table text, the remedy below it."""
    level = f"{finding.level:4s}"
    head = f"{COLOURS[finding.level]}{level}\033[0m" if colour else level
    lines = [f"{head}  {finding.subject:{WIDTH}s}  {finding.text}"]
    if finding.remedy:
        indent = " " * (WIDTH + 8)
        lines += textwrap.wrap(
            finding.remedy,
            initial_indent=f"{indent}-> ",
            subsequent_indent=f"{indent}   ",
            width=110,
            break_on_hyphens=False,
            break_long_words=False,
        )
    return "\n".join(lines)


def examine(
    robot_name: str,
    checkpoint: Path | None = None,
    live: bool = False,
    seconds: float = 3.0,
    use_sim_time: bool = False,
    tokenizer: str = "",
) -> Iterator[Finding]:
    """All findings, in the order in which they should be mended."""
    try:
        robot = load_robot(robot_name)
    except RobotFileError as error:
        yield Finding(FAIL, "robot file", str(error), "docs/new_robot.md shows a robot file line by line")
        return
    cameras = ", ".join(f"{camera.name} ({camera.slot})" for camera in robot.cameras)
    yield Finding(OK, "robot file", f"{robot.name}: {len(robot.joints)} joints; cameras {cameras}")
    if checkpoint is not None:
        yield check_checkpoint(robot, checkpoint, tokenizer)
    yield check_torch()
    has_ros = importlib.util.find_spec("rclpy") is not None
    yield check_ros(has_ros)
    yield check_profile(robot, dict(os.environ))
    if live and has_ros:
        from pi0_ros.nodes.topic_check import listen

        reports, problems = listen(robot, seconds, use_sim_time)
        for report in reports:
            yield check_topic(robot, report)
        yield check_observation(problems)


def check_checkpoint(robot: Robot, folder: Path, tokenizer: str = "") -> Finding:
    """The checkpoint is whole and was made for this robot."""
    try:
        from pi0_ros.checkpoints.checkpoint import load_spec
        from pi0_ros.inference.metadata import Metadata, check_robot
    except ImportError as error:
        return Finding(WARN, "checkpoint", f"not looked at: {error}", "run this on the machine of the policy process")
    try:
        spec = load_spec(folder, robot=robot, tokenizer=tokenizer)
        config = spec.config
        about = Metadata(
            folder.name, config.model, spec.robot, config.action_horizon, spec.fps, config.vision.image_size
        )
        check_robot(robot, about)
    except (ValueError, OSError) as error:
        return Finding(FAIL, "checkpoint", str(error))
    horizon_s = about.horizon / about.fps
    text = f"{folder}: {about.model}, {about.horizon} actions of {1 / about.fps:.3f} s"
    if horizon_s * robot.policy_rate_hz <= 1.0:
        return Finding(
            FAIL,
            "checkpoint",
            f"{text}: a chunk lasts {horizon_s:.2f} s, the next comes after {1 / robot.policy_rate_hz:.2f} s",
            f"raise policy_rate_hz of the robot file above {1 / horizon_s:.1f}",
        )
    return Finding(OK, "checkpoint", text)


def check_torch() -> Finding:
    """torch and its GPU; only the policy process needs them."""
    if importlib.util.find_spec("torch") is None:
        return Finding(
            WARN, "torch", "not installed", "only the policy process needs it: pip install torch there, or backend:=zmq"
        )
    import torch

    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        return Finding(OK, "torch", f"{torch.__version__}, {torch.cuda.get_device_name(0)}, {memory:.0f} GiB")
    return Finding(
        WARN,
        "torch",
        f"{torch.__version__}, no GPU",
        "enough for the demo's small model; a full pi0 needs a GPU, here or behind `pi0 serve` and backend:=zmq",
    )


def check_ros(has_ros: bool) -> Finding:
    """rclpy is importable, and where it comes from."""
    if not has_ros:
        return Finding(
            FAIL,
            "ROS 2",
            "rclpy cannot be imported",
            "source /opt/ros/<distro>/setup.bash, or use .venv of `make`",
        )
    try:
        source = f"wheels, rclpy {importlib.metadata.version('ros-rclpy')}"
    except importlib.metadata.PackageNotFoundError:
        source = os.environ.get("ROS_DISTRO", "rclpy, distribution unknown")
    domain = os.environ.get("ROS_DOMAIN_ID", "0")
    rmw = os.environ.get("RMW_IMPLEMENTATION", "the default middleware")
    return Finding(OK, "ROS 2", f"{source}; ROS_DOMAIN_ID {domain}; {rmw}")


def check_profile(robot: Robot, environment: dict[str, str]) -> Finding:
    """Fast DDS's shared memory is large enough for raw images, as far as the environment tells."""
    raw = [camera.topic for camera in robot.cameras if camera.type == "sensor_msgs/msg/Image"]
    if environment.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp") != "rmw_fastrtps_cpp":
        return Finding(OK, "image transport", "not Fast DDS: its profile is not needed")
    old = environment.get("ROS_DISTRO", "jazzy") in ("humble", "iron", "jazzy")
    variable = "FASTRTPS_DEFAULT_PROFILES_FILE" if old else "FASTDDS_DEFAULT_PROFILES_FILE"
    file = environment.get(variable, "")
    if file and not Path(file).is_file():
        return Finding(FAIL, "image transport", f"{variable}={file}: no such file", "correct or unset the variable")
    if file or not raw:
        return Finding(OK, "image transport", f"{variable}={file}" if file else "no raw images")
    return Finding(
        WARN,
        "image transport",
        f"{variable} is not set here: raw images from this shell lose fragments",
        f"for every camera driver: export {variable}={config_path('fastdds_profiles.xml')}",
    )


def check_topic(robot: Robot, report: TopicReport) -> Finding:
    """One topic of the robot file, as it was heard."""
    ends, other = ("subscriber", "robot driver") if report.command else ("publisher", "driver")
    if not report.types:
        return Finding(
            WARN if report.command else FAIL,
            report.topic,
            f"no {ends}",
            f"start the {other}, or correct this topic in the robot file (`ros2 topic list`); other machines need the "
            "same ROS_DOMAIN_ID",
        )
    if report.wanted_type not in report.types:
        found = ", ".join(report.types)
        return Finding(FAIL, report.topic, f"is {found}, not {report.wanted_type}", "correct `type` in the robot file")
    if report.command:
        if others := sorted(report.publishers - {"controller"}):
            return Finding(WARN, report.topic, f"also sent by {', '.join(others)}", "stop them before the policy runs")
        return Finding(OK, report.topic, f"heard by {', '.join(sorted(report.subscribers))}")
    if not report.arrivals:
        return Finding(
            FAIL, report.topic, "a publisher, but no message", "is the sensor running? do both ends' QoS agree?"
        )
    limit_s = max_age_s(robot, report.topic)
    text = f"{report.rate_hz:.1f} Hz, {report.age_s * 1e3:.0f} ms old (limit {limit_s * 1e3:.0f} ms)"
    if report.age_s > limit_s or report.age_s < -0.05:
        return Finding(FAIL, report.topic, text, "synchronise clocks (chrony), stamp at capture, or raise max_age_s")
    if len(report.arrivals) > 1 and report.rate_hz * limit_s < 1.0:
        return Finding(
            WARN, report.topic, text, f"max_age_s needs more than {1 / limit_s:.0f} Hz: speed it up or raise it"
        )
    return Finding(OK, report.topic, text)


def max_age_s(robot: Robot, topic: str) -> float:
    """The maximum age of a camera or state topic."""
    limits = {camera.topic: camera.max_age_s for camera in robot.cameras}
    return (limits | {item.topic: item.max_age_s for item in robot.state})[topic]


def check_observation(problems: list[str]) -> Finding:
    """All streams together gave an observation."""
    if problems:
        return Finding(FAIL, "observation", "; ".join(problems), "the policy would wait for this")
    return Finding(OK, "observation", "complete: this is what the policy will see")
