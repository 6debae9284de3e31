"""Starting rclpy: what the environment makes impossible is one sentence that names the variable."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import rclpy
from rclpy.signals import SignalHandlerOptions

from pi0_ros.base.errors import InputError
from pi0_ros.base.middleware import domain_of, profiles_variable
from pi0_ros.launching.processes import ros_environment


def start_ros(args: Sequence[str] | None = (), context: rclpy.Context | None = None) -> None:
    """`rclpy.init`, for `context` where there is one. `args`: None takes this process's. Raises InputError.

    Without rclpy's signal handlers: they would invalidate the context before last words are said, and every wait would
    then end in ExternalShutdownException.
    """
    domain_of(os.environ)
    profiles = profiles_variable(os.environ)
    if (file := os.environ.get(profiles, "")) and not Path(file).is_file():  # else the middleware's own settings hold
        raise InputError(f"{profiles} names {file}, and there is no such file")
    try:
        words = None if args is None else list(args)
        rclpy.init(args=words, context=context, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:  # a log level, a name or a parameter that ROS cannot read, a folder it cannot make
        reason = str(error).partition(", at /")[0]
        if os.environ.get("ROS_SECURITY_ENABLE", "") == "true":
            reason += (
                "; ROS_SECURITY_ENABLE is true: is there an enclave for this in ROS_SECURITY_KEYSTORE, and can this "
                "ROS middleware encrypt? (the one of the Python wheels cannot)"
            )
        raise InputError(reason) from None


def find_quickly() -> None:
    """From the next context on this process finds others as the nodes do that a launcher starts: within a second."""
    environment = ros_environment()
    profiles = profiles_variable(environment)
    os.environ.setdefault(profiles, environment[profiles])
