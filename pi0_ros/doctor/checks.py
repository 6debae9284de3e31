"""The checks of `pi0 doctor`, one function each: a finding that says what is wrong and what to do."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from pathlib import Path

from pi0_ros.base.errors import InputError
from pi0_ros.base.findings import Finding, error, ok, warning
from pi0_ros.base.middleware import PROFILES, profiles_variable
from pi0_ros.base.share import config_path
from pi0_ros.doctor.topic_report import TopicReport
from pi0_ros.robot import Robot


def check_checkpoint(robot: Robot, folder: Path, tokenizer: str = "") -> Finding:
    """The checkpoint is whole and was made for this robot."""
    try:
        from pi0_ros.checkpoints.checkpoint import load_spec
        from pi0_ros.inference.metadata import Metadata, check_robot
    except ImportError as problem:
        return warning("checkpoint", f"not looked at: {problem}", "run this on the machine of the policy process")
    try:
        spec = load_spec(folder, robot=robot, tokenizer=tokenizer)
        config = spec.config
        about = Metadata(
            folder.name, config.model, spec.robot, config.action_horizon, spec.fps, config.vision.image_size
        )
        check_robot(robot, about)
    except (InputError, OSError) as problem:
        return error("checkpoint", str(problem))
    horizon_s = about.horizon / about.fps
    text = f"{folder}: {about.model}, {about.horizon} actions of {1 / about.fps:.3f} s"
    if horizon_s * robot.policy_rate_hz <= 1.0:
        return error(
            "checkpoint",
            f"{text}: a chunk lasts {horizon_s:.2f} s, the next comes after {1 / robot.policy_rate_hz:.2f} s",
            f"raise policy_rate_hz of the robot file above {1 / horizon_s:.1f}",
        )
    return ok("checkpoint", text)


def check_torch() -> Finding:
    """torch and its GPU; only the policy process needs them."""
    if importlib.util.find_spec("torch") is None:
        return warning(
            "torch", "not installed", "only the policy process needs it: pip install torch there, or backend:=zmq"
        )
    import torch

    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        return ok("torch", f"{torch.__version__}, {torch.cuda.get_device_name(0)}, {memory:.0f} GiB")
    return warning(
        "torch",
        f"{torch.__version__}, no GPU",
        "enough for the demo's small model; a full pi0 needs a GPU, here or behind `pi0 serve` and backend:=zmq",
    )


def check_ros(has_ros: bool) -> Finding:
    """rclpy is importable, and where it comes from."""
    if not has_ros:
        return error(
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
    return ok("ROS 2", f"{source}; ROS_DOMAIN_ID {domain}; {rmw}")


def check_profile(robot: Robot, environment: dict[str, str]) -> Finding:
    """Fast DDS's shared memory is large enough for raw images, as far as the environment tells."""
    raw = [camera.topic for camera in robot.cameras if camera.type == "sensor_msgs/msg/Image"]
    if environment.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp") != "rmw_fastrtps_cpp":
        return ok("image transport", "not Fast DDS: its profile is not needed")
    variable = profiles_variable(environment)
    file = environment.get(variable, "")
    if file and not Path(file).is_file():
        return error("image transport", f"{variable}={file}: no such file", "correct or unset the variable")
    if file or not raw:
        return ok("image transport", f"{variable}={file}" if file else "no raw images")
    return warning(
        "image transport",
        f"{variable} is not set here: raw images from this shell lose fragments",
        f"for every camera driver: export {variable}={config_path(PROFILES)}",
    )


def check_topic(robot: Robot, report: TopicReport) -> Finding:
    """One topic of the robot file, as it was heard."""
    ends, other = ("subscriber", "robot driver") if report.command else ("publisher", "driver")
    if not report.types:
        finding = warning if report.command else error
        return finding(
            report.topic,
            f"no {ends}",
            f"start the {other}, or correct this topic in the robot file (`ros2 topic list`); other machines need the "
            "same ROS_DOMAIN_ID",
        )
    if report.wanted_type not in report.types:
        found = ", ".join(report.types)
        return error(report.topic, f"is {found}, not {report.wanted_type}", "correct `type` in the robot file")
    if report.command:
        if others := sorted(report.publishers - {"controller"}):
            return warning(report.topic, f"also sent by {', '.join(others)}", "stop them before the policy runs")
        return ok(report.topic, f"heard by {', '.join(sorted(report.subscribers))}")
    if not report.arrivals:
        return error(report.topic, "a publisher, but no message", "is the sensor running? do both ends' QoS agree?")
    limit_s = max_age_s(robot, report.topic)
    text = f"{report.rate_hz:.1f} Hz, {report.age_s * 1e3:.0f} ms old (limit {limit_s * 1e3:.0f} ms)"
    if report.age_s > limit_s or report.age_s < -0.05:
        return error(report.topic, text, "synchronise clocks (chrony), stamp at capture, or raise max_age_s")
    if len(report.arrivals) > 1 and report.rate_hz * limit_s < 1.0:
        return warning(report.topic, text, f"max_age_s needs more than {1 / limit_s:.0f} Hz: speed it up or raise it")
    return ok(report.topic, text)


def max_age_s(robot: Robot, topic: str) -> float:
    """The maximum age of a camera or state topic."""
    limits = {camera.topic: camera.max_age_s for camera in robot.cameras}
    return (limits | {item.topic: item.max_age_s for item in robot.state})[topic]


def check_observation(problems: list[str]) -> Finding:
    """All streams together gave an observation."""
    if problems:
        return error("observation", "; ".join(problems), "the policy would wait for this")
    return ok("observation", "complete: this is what the policy will see")
