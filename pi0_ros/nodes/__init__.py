"""Thin rclpy shells: parameters in, core called, messages out."""
