"""What every room stands on: errors, strict YAML, files on disk, printing. The standard library and PyYAML."""
