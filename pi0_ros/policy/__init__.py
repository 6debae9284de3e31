"""Observation in, ActionChunk out, on this machine: transforms, network, and the way back. torch.

Imported by: training, sim, nodes, cli.
Terms (docs/glossary.md): policy, action chunk, guidance.
"""
