"""Texts and actions as tokens, token for token as the references make them. numpy, SentencePiece, tokenizers."""
