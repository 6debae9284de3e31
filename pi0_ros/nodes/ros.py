"""Starting rclpy: what the environment makes impossible is one sentence that names the variable."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import rclpy
from rclpy.signals import SignalHandlerOptions

from pi0_ros.base.errors import InputError
from pi0_ros.base.middleware import domain_of, profiles_variable


def start_ros(args: Sequence[str] | None = (), context: rclpy.Context | None = None, signals: bool = False) -> None:
    """`rclpy.init`, for `context` where there is one. `args`: None takes this process's; `signals`: rclpy's handlers,
    which would invalidate the context before last words are said. InputError where ROS cannot start."""
    domain_of(os.environ)
    profiles = profiles_variable(os.environ)
    if (file := os.environ.get(profiles, "")) and not Path(file).is_file():  # else the middleware's own settings hold
        raise InputError(f"{profiles} names {file}, and there is no such file")
    handlers = SignalHandlerOptions.ALL if signals else SignalHandlerOptions.NO
    try:
        rclpy.init(args=None if args is None else list(args), context=context, signal_handler_options=handlers)
    except RuntimeError as error:  # a log level, a name or a parameter that ROS cannot read, a folder it cannot make
        reason = str(error).partition(", at /")[0]
        if os.environ.get("ROS_SECURITY_ENABLE", "") == "true":
            reason += (
                "; ROS_SECURITY_ENABLE is true: is there an enclave for this in ROS_SECURITY_KEYSTORE, and can this "
                "ROS middleware encrypt? (the one of the Python wheels cannot)"
            )
        raise InputError(reason) from None
