"""A recording describes every type that is installed, whether or not it is one of ROS 2's common ones."""

from __future__ import annotations

import importlib

import pytest

pytest.importorskip("rclpy")

from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from pi0_ros.nodes.message_definition import definition_of

STORE = get_typestore(Stores.ROS2_JAZZY)
PACKAGES = ("std_msgs", "geometry_msgs", "sensor_msgs", "trajectory_msgs", "nav_msgs", "diagnostic_msgs", "shape_msgs")
OF_EMPTY = "structure_needs_at_least_one_member"  # in classes of messages without fields


def test_the_definition_told_by_a_class_is_the_types_own() -> None:
    kinds = [
        f"{package}/msg/{name}"
        for package in PACKAGES
        for name in vars(importlib.import_module(f"{package}.msg"))
        if f"{package}/msg/{name}" in STORE.fielddefs
    ]
    assert len(kinds) > 80
    for kind in kinds:
        told = get_types_from_msg(definition_of(kind), kind)
        assert kind in told
        for name, (_, fields) in told.items():
            assert fields_of(fields) == fields_of(STORE.fielddefs[name][1]), name


def fields_of(fields: list) -> list[str]:
    """Without what only classes have; a char is a byte in them."""
    return [repr(field).replace("'char'", "'uint8'") for field in fields if field[0] != OF_EMPTY]
