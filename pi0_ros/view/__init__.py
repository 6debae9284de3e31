"""What is looked at afterwards: datasets, recordings, evaluations and training runs, as pages of a small web server.

Imported by: nodes, cli.
Terms (docs/glossary.md): episode, frame, takeover.
"""
