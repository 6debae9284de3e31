"""Observation in, ActionChunk out: transforms, normalisation, checkpoints and the backends that run the model."""
