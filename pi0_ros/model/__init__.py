"""The pi0, pi0.5 and pi0-FAST networks alone: tensors in, tensors out. torch."""
