"""What every room stands on: errors, strict YAML, files on disk, printing. The standard library and PyYAML.

Imported by: robot, observation, control, inference, model, tokens, checkpoints, engine, policy, doctor, bags, datasets,
conversion, training, sim, monitor, launching, view, benchmark, nodes, cli.
Terms (docs/glossary.md): finding.
"""
