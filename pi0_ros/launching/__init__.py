"""What each launch file starts, and starting it where ROS 2's own launch is absent.

Imported by: nodes, cli.
Terms (docs/glossary.md): robot file.
"""
