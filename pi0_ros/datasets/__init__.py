"""LeRobot datasets of any author: layout, reading, writing, merging, checking, drawing. No bag, no ROS.

Imported by: conversion, training, sim, nodes, cli.
Terms (docs/glossary.md): episode, frame, staged episode.
"""
