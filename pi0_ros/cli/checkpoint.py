"""Look at, convert and compare checkpoints: of this package, of LeRobot and of openpi.

    pi0 checkpoint info ~/pi05_droid                 what it is, and what a robot file must say to use it
    pi0 checkpoint convert ~/pi05_droid ~/droid --to pi0_ros --robot franka_droid
    pi0 checkpoint verify ~/pi05_droid ~/droid       do both give the same actions?

`pi0 checkpoint ACTION --help` shows the options of each; docs/checkpoints.md lists the public checkpoints.
"""

from __future__ import annotations

from pi0_ros.cli import checkpoint_convert, checkpoint_info, checkpoint_verify

ACTIONS = {
    "info": (checkpoint_info, "say what a checkpoint is and what a robot file needs to use it"),
    "convert": (checkpoint_convert, "write a checkpoint in another format"),
    "verify": (checkpoint_verify, "compare the actions, weights, statistics and settings of two checkpoints"),
}
