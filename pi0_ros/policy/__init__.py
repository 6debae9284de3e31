"""Observation in, ActionChunk out, on this machine: transforms, network, and the way back. torch."""
