"""Checkpoints of every public pi0 format: described, loaded, converted, compared, and our own written."""
