"""What datasets of other authors call things, and how they count them: the key `dataset` of a robot file.

dataset:
  names: {observation.images.top: base_camera, main_elbow_flex: elbow}
  scale: {elbow: 57.29578}      # dataset = scale * value here + offset
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pi0_ros.base.strict_yaml import Section


@dataclass(frozen=True)
class DatasetNames:
    """`names`: (theirs, ours) of columns, cameras and joints. `scale`, `offset`: (joint, number), where not 1 and 0."""

    names: tuple[tuple[str, str], ...] = ()
    scale: tuple[tuple[str, float], ...] = ()
    offset: tuple[tuple[str, float], ...] = ()


AS_HERE = DatasetNames()


def read_dataset_names(file: Section, joints: list[str], cameras: list[str]) -> DatasetNames:
    """The key `dataset` of the robot file."""
    if "dataset" not in file:
        return AS_HERE
    section = Section(file.value["dataset"], ("dataset",), (), ("names", "scale", "offset"))
    names: dict[str, str] = {}
    if "names" in section:
        ours = ["observation.state", "action", *cameras, *joints]
        given = section.value["names"]
        theirs = tuple(given) if isinstance(given, dict) else ("what a dataset calls it: what it is called here",)
        item = Section(given, ("dataset", "names"), (), theirs)
        names = {name: item.choice(name, ours) for name in item.value}
    numbers: dict[str, dict[str, float]] = {"scale": {}, "offset": {}}
    for key, found in numbers.items():
        if key in section:
            item = Section(section.value[key], ("dataset", key), (), joints)
            found.update({joint: item.number(joint) for joint in item.value})
            if key == "scale" and 0.0 in found.values():
                section.wrong(key, "0 loses the position: write the dataset's value for one unit here")
    return DatasetNames(tuple(names.items()), *(tuple(found.items()) for found in numbers.values()))


def write_dataset_names(names: DatasetNames) -> dict[str, Any]:
    """The key `dataset`, where there is something to say; reads back as equal."""
    content: Mapping[str, Any] = {key: dict(value) for key, value in vars(names).items() if value}
    return {"dataset": dict(content)} if content else {}
