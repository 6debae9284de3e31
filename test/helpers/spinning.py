"""Test nodes that are served in a thread of their own while a test acts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node


@contextmanager
def spinning(context: rclpy.Context, *nodes: Node) -> Iterator[None]:
    """Spin `nodes` until the block ends; then they are destroyed."""
    executor = SingleThreadedExecutor(context=context)
    for node in nodes:
        executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    try:
        yield
    finally:
        executor.shutdown()
        thread.join(10.0)
        for node in nodes:
            node.destroy_node()
