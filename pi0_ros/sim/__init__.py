"""The simulated arm, its cameras, its task and its scripted demonstrator. MuJoCo and numpy; no ROS.

Imported by: nodes, cli.
Terms (docs/glossary.md): task, auxiliary loss.
"""
