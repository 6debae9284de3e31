"""The backend that the options ask for. torch is imported only for a policy in this process."""

from __future__ import annotations

from pi0_ros.inference.backend import Backend
from pi0_ros.inference.client import Client
from pi0_ros.inference.options import PolicyOptions
from pi0_ros.robot import Robot


def make_backend(options: PolicyOptions, *, robot: Robot) -> Backend:
    """Load the policy, or connect to the server (which may come, go and come back), for `robot`."""
    if options.backend == "zmq":
        return Client(options.server, timeout_s=options.timeout_s, robot=robot)
    from pi0_ros.policy.policy import load_policy

    return load_policy(options, robot=robot)
