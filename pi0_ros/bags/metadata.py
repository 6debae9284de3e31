"""`metadata.yaml` of a recording: what it says of the messages, and the recorder's own `custom_data`.

It may be missing (power cut), wrong (reindexing loses `custom_data`) or broken. rosbag2 also keeps its text inside the
storage files, from where it is then taken; nothing is written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pi0_ros.base.errors import InputError

YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's parser is ten times faster where it is built in


class MetadataError(InputError):
    """A text that is no metadata of rosbag2."""


@dataclass(frozen=True)
class Metadata:
    """What a `metadata.yaml` says; all of it may be wrong."""

    custom_data: dict[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()  # names of the storage files
    counts: dict[str, int] = field(default_factory=dict)  # topic -> messages


def metadata_path(bag: Path) -> Path:
    """Where the `metadata.yaml` of the recording at `bag` (folder or file) would be."""
    return (bag if bag.is_dir() else bag.parent) / "metadata.yaml"


def read_metadata(bag: Path) -> Metadata | None:
    """The `metadata.yaml` beside the storage files, None without one. Raises `MetadataError` where it is broken."""
    path = metadata_path(bag)
    if not path.is_file():
        return None
    try:
        return parse_metadata(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise MetadataError(str(error)) from error


def parse_metadata(text: str) -> Metadata:
    """Metadata from YAML. Raises `MetadataError` where that is no YAML, or holds nothing of rosbag2."""
    try:
        content = yaml.load(text, Loader=YAML_LOADER)
    except yaml.YAMLError as error:
        raise MetadataError(f"not valid YAML: {' '.join(str(error).split())}") from error
    if isinstance(content, dict):
        content = content.get("rosbag2_bagfile_information", content)  # inside storage files the key is left out
    if not isinstance(content, dict) or not content:
        raise MetadataError("no metadata of rosbag2")
    custom = content.get("custom_data")
    counts: dict[str, int] = {}
    for item in _list(content.get("topics_with_message_count")):
        topic = item.get("topic_metadata") if isinstance(item, dict) else None
        if isinstance(topic, dict) and isinstance(item.get("message_count"), int):
            counts[str(topic.get("name"))] = item["message_count"]
    return Metadata(
        custom_data={str(key): str(value) for key, value in custom.items()} if isinstance(custom, dict) else {},
        files=tuple(Path(str(file)).name for file in _list(content.get("relative_file_paths"))),
        counts=counts,
    )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
