"""The simulated arm with its trained policy, running on (the scored demo is `pi0 demo`).

    ros2 launch pi0_ros demo.launch.py --show-args

Its arguments and processes are the entry "demo" of `pi0_ros/launching/launches.py`, which `pi0 up demo` reads too.
"""

from launch import LaunchDescription

from pi0_ros.launching.ros_launch import launch_description
from pi0_ros.nodes.look_around import look_around


def generate_launch_description() -> LaunchDescription:
    """Called by `ros2 launch`."""
    return launch_description("demo", look_around)
