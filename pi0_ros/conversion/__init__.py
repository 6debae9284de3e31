"""From recordings to episodes to a dataset: judging, cutting, aligning, in parallel, with a report.

Imported by: view, nodes, cli.
Terms (docs/glossary.md): bag, episode, staged episode, tick.
"""
