"""Recordings on disk: reading, writing and salvaging rosbag2 files. No ROS.

Imported by: doctor, conversion, nodes, cli.
Terms (docs/glossary.md): bag, salvage.
"""
