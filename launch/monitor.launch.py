"""Watch a robot and its policy: markers, health, browser view, RViz.

    ros2 launch pi0_ros monitor.launch.py --show-args

Its arguments and processes are the entry "monitor" of `pi0_ros/launching/launches.py`, read by `pi0 up monitor` too.
"""

from launch import LaunchDescription

from pi0_ros.launching.ros_launch import launch_description
from pi0_ros.nodes.look_around import look_around


def generate_launch_description() -> LaunchDescription:
    """Called by `ros2 launch`."""
    return launch_description("monitor", look_around)
