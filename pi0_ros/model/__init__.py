"""The pi0, pi0.5 and pi0-FAST networks alone: tensors in, tensors out. torch.

Imported by: tokens, checkpoints, engine, policy, training, sim, nodes, cli.
Terms (docs/glossary.md): flow matching, flow time, action expert, prefix (model), guidance.
"""
