"""Thin rclpy shells: parameters in, core called, messages out.

Imported by: cli.
Terms (docs/glossary.md): arming, tick, action chunk.
"""
