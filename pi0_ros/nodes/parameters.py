"""Declaring a node's parameters from the table in `pi0_ros/launching/parameters.py`."""

from __future__ import annotations

from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from pi0_ros.launching.parameter import Changes, Parameter, ParameterError, describe
from pi0_ros.launching.parameters import NODES, table, unknown


def declare(node: Node, name: str) -> dict[str, Any]:
    """Declare the parameters of the table's node `name` on `node` and return their values.

    ParameterError for a value that is not allowed and for an unknown name that was given; rclpy refuses wrong types and
    ranges. From now on `node` refuses changes that the table does not allow, all but those of `Changes.UNCONFIGURED`:
    only the node knows when that is.
    """
    given = getattr(node, "_parameter_overrides", {})  # rclpy has no public way to see what was given
    for key in given:
        problem = unknown(name, key)
        if problem and not any(not unknown(other, key) for other in NODES):  # a file may speak to all nodes at once
            raise ParameterError(problem)
    parameters = table(name)
    values = {
        key: _plain(node.declare_parameter(key, p.default, _descriptor(p)).value) for key, p in parameters.items()
    }
    for key, value in values.items():
        parameters[key].check(value)
    node.add_on_set_parameters_callback(lambda changed: _allowed(parameters, changed))
    return values


def _descriptor(parameter: Parameter) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(description=describe(parameter), read_only=parameter.changes is Changes.AT_START)
    descriptor.dynamic_typing = bool(parameter.word)  # a number, or a word in its place
    if parameter.choices or parameter.word:
        descriptor.additional_constraints = parameter.takes
    if parameter.range is not None and (parameter.word or isinstance(parameter.default, float)):
        low, high = parameter.range
        descriptor.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
    elif parameter.range is not None:
        low, high = parameter.range
        descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
    return descriptor


def _allowed(parameters: dict[str, Parameter], changed: list[RosParameter]) -> SetParametersResult:
    for parameter in changed:
        if parameter.name in parameters:
            try:
                parameters[parameter.name].check(_plain(parameter.value))
            except ParameterError as error:
                return SetParametersResult(successful=False, reason=str(error))
    return SetParametersResult(successful=True)


def _plain(value: Any) -> Any:
    """Arrays of messages as lists."""
    return list(value) if hasattr(value, "typecode") or isinstance(value, tuple) else value
