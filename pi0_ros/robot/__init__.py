"""The robot file: what it says, how it is read, and how a model counts its joints. numpy and PyYAML.

Robot file: the one YAML file that describes a robot to nodes, converter, trainer and simulator.

Imported by: observation, control, inference, checkpoints, policy, doctor, bags, datasets, conversion, training, sim,
monitor, launching, view, benchmark, nodes, cli.
Terms (docs/glossary.md): robot file, scale, slot.
"""

from pi0_ros.robot.file import (
    RobotFileError,
    load_robot,
    robot_from_yaml,
    robot_to_yaml,
)
from pi0_ros.robot.types import Camera, CommandGroup, Joint, Robot, StateTopic

__all__ = [
    "Camera",
    "CommandGroup",
    "Joint",
    "Robot",
    "RobotFileError",
    "StateTopic",
    "load_robot",
    "robot_from_yaml",
    "robot_to_yaml",
]
