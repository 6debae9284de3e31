"""Robot files.

    pi0 robot new --urdf my_robot.urdf --out my_robot.yaml           a first one, while its drivers run, or from a bag
    pi0 robot check my_robot.yaml                                    what is wrong with it, or what it means
    pi0 robot convert datasets/svla_so101 --out so101.yaml           a first one, from a dataset of another author

`pi0 robot ACTION --help` shows the options of each.
"""

from __future__ import annotations

from pi0_ros.cli import robot_check, robot_convert, robot_new

ACTIONS = {
    "new": (robot_new, "write a first robot file from a URDF and from living or recorded topics"),
    "check": (robot_check, "say in words what a robot file means, or all that is wrong with it"),
    "convert": (robot_convert, "write a first robot file from a dataset of another author"),
}
