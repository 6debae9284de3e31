"""The `pi0` command: one file a command, parsing and printing only."""
