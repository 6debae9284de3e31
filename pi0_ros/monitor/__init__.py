"""From messages to pictures: forward kinematics, planned and executed paths, RViz markers, the browser scene.

Imported by: launching, nodes, cli.
Terms (docs/glossary.md): plan.
"""
