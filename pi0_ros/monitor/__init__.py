"""From messages to pictures: forward kinematics, planned and executed paths, RViz markers, the browser scene.

Imported by: view, launching, nodes, cli.
Terms (docs/glossary.md): plan.
"""
