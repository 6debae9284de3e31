"""Libraries that only some processes need."""

from __future__ import annotations

import importlib.util

from pi0_ros.base.errors import mendable

NEEDS: dict[str, tuple[str, ...]] = {  # node -> libraries without which it does not start
    "recorder": ("rosbags", "lz4"),
    "flight": ("rosbags", "lz4"),
    "viewer": ("viser", "yourdfpy"),
    "sim": ("mujoco",),
    "demonstrator": ("mujoco",),
}
LOCAL_POLICY = ("torch", "safetensors", "sentencepiece")


def missing(node: str, local_policy: bool = False) -> list[str]:
    """What to say of each library that this node needs and that is not installed."""
    needed = (*NEEDS.get(node, ()), *(LOCAL_POLICY if node == "policy" and local_policy else ()))
    absent = [library for library in needed if importlib.util.find_spec(library) is None]
    return [mendable(ModuleNotFoundError(name=library)) or library for library in absent]
