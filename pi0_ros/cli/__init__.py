"""The `pi0` command: one file a command, parsing and printing only.

Imported by: nobody.
Terms (docs/glossary.md): finding.
"""
