"""Recordings on disk: reading, writing and salvaging rosbag2 files. No ROS.

Imported by: doctor, conversion, view, nodes, cli.
Terms (docs/glossary.md): bag, salvage.
"""
