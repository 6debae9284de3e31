"""The simulator's spectator: lays out scenes and reads the score, over services and topics."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import rclpy
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.client import Client
from rclpy.executors import Executor
from rclpy.node import Node
from std_msgs.msg import String
from std_srvs.srv import Trigger

from pi0_ros.base.errors import InputError
from pi0_ros.nodes.messages import LATCHED
from pi0_ros.sim.world import CUBES, Start

SERVICE_LIMIT_S = 30.0
HOME = Start()


def spin_until(executor: Executor, condition: Callable[[], bool], limit_s: float) -> bool:
    """Spin until `condition` holds (True) or `limit_s` wall seconds have passed (False)."""
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end or not rclpy.ok():
            return False
        executor.spin_once(timeout_sec=0.05)
    return True


def call(executor: Executor, client: Client, request: Any, limit_s: float = SERVICE_LIMIT_S) -> Any:
    """Call a service while spinning; raises TimeoutError naming the service."""
    if not spin_until(executor, client.service_is_ready, limit_s):
        raise TimeoutError(f"service {client.srv_name} did not appear within {limit_s:.0f} s")
    future = client.call_async(request)
    if not spin_until(executor, future.done, limit_s):
        raise TimeoutError(f"service {client.srv_name} did not answer within {limit_s:.0f} s")
    return future.result()


class SimClient:
    """Drives the node `sim` from another process; `status` is the newest `/demo_arm/status`."""

    def __init__(self, node: Node, executor: Executor) -> None:
        self.executor = executor
        self.status: dict[str, Any] = {}
        self._reset = node.create_client(Trigger, "sim/reset")
        self._parameters = node.create_client(SetParameters, "sim/set_parameters")
        node.create_subscription(String, "demo_arm/status", self._on_status, LATCHED)

    def reset(self, seed: int, disturbance: float = 0.0, start: Start = HOME) -> None:
        """Lay out the scene of `seed`; returns when its status has arrived."""
        lying = " ".join(name for name in CUBES if name in start.tray)
        values = {
            "seed": ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=seed),
            "arm": ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=start.arm),
            "tray": ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=lying),
            "disturbance": ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=disturbance),
        }
        request = SetParameters.Request(
            parameters=[Parameter(name=name, value=value) for name, value in values.items()]
        )
        refused = [
            result.reason for result in call(self.executor, self._parameters, request).results if not result.successful
        ]
        if refused:
            raise InputError(f"the simulator refused seed {seed}: {'; '.join(refused)}")
        call(self.executor, self._reset, Trigger.Request())
        self.status = {}
        fresh = spin_until(
            self.executor,
            lambda: self.status.get("seed") == seed and self.status.get("time", 9.9) < 1.0,
            SERVICE_LIMIT_S,
        )
        if not fresh:
            raise TimeoutError("no /demo_arm/status after the reset: is the simulator running?")

    @property
    def seconds(self) -> float:
        """Simulated seconds since the scene was laid out."""
        return float(self.status.get("time", 0.0))

    def holds(self, colour: str) -> bool:
        """The named cube lies in the tray."""
        return colour in self.status.get("in_tray", ())

    @property
    def in_tray(self) -> tuple[str, ...]:
        """What lies in the tray."""
        return tuple(self.status.get("in_tray", ()))

    def _on_status(self, message: String) -> None:
        self.status = json.loads(message.data)
