"""Stamped messages in, observations out: streams on one time axis, and camera pictures. numpy; no ROS.

Imported by: inference, checkpoints, policy, doctor, bags, datasets, conversion, training, sim, monitor, launching,
view, benchmark, nodes, cli.
Terms (docs/glossary.md): observation, tick.
"""
