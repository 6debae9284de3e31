"""Record episodes of a teleoperated robot as rosbags: by the keys of `pi0 record` or the recorder's services.

    ros2 launch pi0_ros record.launch.py --show-args

Its arguments and processes are the entry "record" of `pi0_ros/launching/launches.py`, which `pi0 up record` reads too.
"""

from launch import LaunchDescription

from pi0_ros.launching.ros_launch import launch_description
from pi0_ros.nodes.look_around import look_around


def generate_launch_description() -> LaunchDescription:
    """Called by `ros2 launch`."""
    return launch_description("record", look_around)
