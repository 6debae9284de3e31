"""What openpi's clients and servers call a robot's cameras and state: the key `openpi` below `policy`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pi0_ros.base.strict_yaml import Section

UNITS = ("robot", "model")
AXES = ("hwc", "chw")


@dataclass(frozen=True)
class OpenpiNames:
    """The keys of openpi's observations, `observation/image` for {"observation": {"image": ...}}, too."""

    units: str = "robot"  # state and actions in the robot's units, or as the model counts joints
    state: tuple[tuple[str, int], ...] = ()  # key, how many joints of the state; empty: all in observation/state
    images: tuple[tuple[str, str], ...] = ()  # camera, key; a camera not listed: observation/<camera>
    axes: str = "hwc"  # of the images that are sent; both are understood

    def state_keys(self, joints: int) -> tuple[tuple[str, int], ...]:
        """The keys that hold the state of so many joints, in order, each with its number of joints."""
        return self.state or (("observation/state", joints),)

    def image_key(self, camera: str) -> str:
        """The key of one camera's image."""
        return dict(self.images).get(camera, f"observation/{camera}")


def read_openpi_names(policy: Section, joints: int, cameras: Sequence[str]) -> OpenpiNames:
    """The key `openpi` of the robot file's `policy`; `joints` are those of the state."""
    if "openpi" not in policy:
        return OpenpiNames()
    place = (*policy.place, "openpi")
    item = Section(policy.value["openpi"], place, (), ("units", "state", "images", "axes"))
    state, images = {}, {}
    if "state" in item:
        keys = [str(key) for key in item.value["state"]] if isinstance(item.value["state"], dict) else ["KEY"]
        counts = Section(item.value["state"], (*place, "state"), keys)
        state = {key: counts.count(key) for key in keys}
        if sum(state.values()) != joints:
            item.wrong("state", f"holds {sum(state.values())} joints, the state has {joints}: correct the numbers")
    if "images" in item:
        names = Section(item.value["images"], (*place, "images"), (), cameras)
        images = {camera: names.text(camera) for camera in cameras if camera in names}
        if len(set(images.values())) < len(images):
            item.wrong("images", "two cameras have one key: give each its own")
    return OpenpiNames(
        item.choice("units", UNITS, "robot"),
        tuple(state.items()),
        tuple(images.items()),
        item.choice("axes", AXES, "hwc"),
    )


def write_openpi_names(names: OpenpiNames) -> dict[str, Any]:
    """The key `openpi`, where it says something; reads back as equal."""
    entries: dict[str, Any] = {}
    if names.units != "robot":
        entries["units"] = names.units
    if names.state:
        entries["state"] = dict(names.state)
    if names.images:
        entries["images"] = dict(names.images)
    if names.axes != "hwc":
        entries["axes"] = names.axes
    return {"openpi": entries} if entries else {}
