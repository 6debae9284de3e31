"""The backend that the options ask for. torch is imported only for a policy in this process."""

from __future__ import annotations

from pi0_ros.base.disk import expanded
from pi0_ros.base.errors import InputError
from pi0_ros.inference.backend import Backend
from pi0_ros.inference.client import Client
from pi0_ros.inference.failover import Failover
from pi0_ros.inference.keys import read_client_keys
from pi0_ros.inference.openpi import read_token
from pi0_ros.inference.options import PolicyOptions
from pi0_ros.robot import Robot


def make_backend(options: PolicyOptions, *, robot: Robot) -> Backend:
    """Load the policy, or connect to the server (which may come, go and come back), for `robot`."""
    if options.backend == "zmq":
        keys = read_client_keys(expanded(options.keys)) if options.keys else None
        clients: list[Client] = []
        try:
            for address in options.servers:
                clients.append(Client(address, options.timeout_s, robot, keys, options.image_coding))
        except InputError:
            for client in clients:
                client.close()
            raise
        return Failover(clients, options.timeout_s)
    if options.backend == "openpi":
        from pi0_ros.inference.openpi_client import OpenpiClient

        token = read_token(expanded(options.token_file)) if options.token_file else ""
        return OpenpiClient(options.server, robot, timeout_s=options.timeout_s, token=token)
    from pi0_ros.policy.policy import load_policy

    return load_policy(options, robot=robot)
