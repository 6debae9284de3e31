"""A public score: trials of a policy in the simulator LIBERO, by openpi's protocol, with intervals.

LIBERO itself is imported at one place, `libero.py`; everything else knows the few methods of `simulator.py`.

Imported by: nodes, cli.
Terms (docs/glossary.md): trial, suite, action chunk.
"""
