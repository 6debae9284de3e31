# Sourced by colcon's setup files: the command `pi0` is found.
_colcon_prepend_unique_value PATH "$COLCON_CURRENT_PREFIX/share/pi0_ros/bin"
