"""A stand-in for the package LIBERO: its modules, classes, methods and keys, and a world simple enough to be right."""
