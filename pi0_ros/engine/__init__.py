"""The inference engine: the same chunks as the plain model's, at the speed of the machine. torch, and triton late.

Imported by: policy, nodes, cli.
Terms (docs/glossary.md): flow time, prefix (model), guidance.
"""
