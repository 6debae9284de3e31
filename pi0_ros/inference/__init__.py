"""A policy wherever it runs: the one interface, its metadata and prefix, the loop, and the wire. No torch."""
