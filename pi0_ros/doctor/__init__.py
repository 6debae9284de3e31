"""The checks of `pi0 doctor`: robot file, checkpoint, machine, topics. No ROS: what was heard is handed in."""
