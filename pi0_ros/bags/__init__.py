"""Recordings on disk: reading, writing and salvaging rosbag2 files. No ROS."""
