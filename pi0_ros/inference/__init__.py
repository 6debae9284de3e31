"""A policy wherever it runs: the one interface, its metadata and prefix, the loop, and the wire. No torch.

Imported by: checkpoints, policy, doctor, training, sim, launching, benchmark, nodes, cli.
Terms (docs/glossary.md): policy, action prefix, real-time chunking (RTC), subtask.
"""
