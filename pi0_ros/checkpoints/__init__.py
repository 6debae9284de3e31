"""Checkpoints of every public pi0 format: described, loaded, converted, compared, and our own written.

Imported by: policy, doctor, training, sim, nodes, cli.
Terms (docs/glossary.md): checkpoint, sidecar, description, normalisation statistics, adapter.
"""
