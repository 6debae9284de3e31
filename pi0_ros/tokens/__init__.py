"""Texts and actions as tokens, token for token as the references make them. numpy, SentencePiece, tokenizers.

Imported by: checkpoints, policy, training, sim, nodes, cli.
Terms (docs/glossary.md): task, subtask.
"""
