"""Run a policy on a robot: the policy node, the controller and what watches them.

    ros2 launch pi0_ros policy.launch.py --show-args

Its arguments and processes are the entry "policy" of `pi0_ros/launching/launches.py`, which `pi0 up policy` reads too.
"""

from launch import LaunchDescription

from pi0_ros.launching.ros_launch import launch_description
from pi0_ros.nodes.look_around import look_around


def generate_launch_description() -> LaunchDescription:
    """Called by `ros2 launch`."""
    return launch_description("policy", look_around)
