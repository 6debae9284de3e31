"""LeRobot datasets of any author: layout, reading, writing, merging, checking, drawing. No bag, no ROS."""
