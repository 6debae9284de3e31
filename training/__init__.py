"""From a dataset to a fine-tuned policy: config, loader, loop, objective, state, statistics, evaluation. torch; no ROS.

Imported by: sim, view, nodes, cli.
Terms (docs/glossary.md): auxiliary loss, flow matching.
"""
