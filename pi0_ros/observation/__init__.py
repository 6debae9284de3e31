"""Stamped messages in, observations out: streams on one time axis, and camera pictures. numpy; no ROS."""
