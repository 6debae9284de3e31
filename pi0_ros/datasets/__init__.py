"""LeRobot datasets of any author: layout, reading, writing, merging, checking, drawing. No bag, no ROS.

Imported by: conversion, training, sim, view, benchmark, nodes, cli.
Terms (docs/glossary.md): episode, frame, staged episode.
"""

import os

# Arrow's own pools keep whole segments, so that memory would grow with a recording's length. Read at Arrow's first use.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
