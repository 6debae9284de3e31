"""The checks of `pi0 doctor`: robot file, checkpoint, machine, topics. No ROS: what was heard is handed in.

Imported by: nodes, cli.
Terms (docs/glossary.md): finding.
"""
