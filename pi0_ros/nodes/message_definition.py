"""The definition of a message type, told by its Python class: what a recording needs to be read where it is unknown."""

from __future__ import annotations

import re

from pi0_ros.nodes.messages import message_class

SEPARATOR = "=" * 80
PRIMITIVES = {"boolean": "bool", "octet": "byte", "float": "float32", "double": "float64"}  # as classes call them: IDL
_SEQUENCE = re.compile(r"sequence<(.+?)(?:, (\d+))?>$")
_ARRAY = re.compile(r"(.+)\[(\d+)\]$")
_TEXT = re.compile(r"(w?string)<(\d+)>$")


def definition_of(kind: str) -> str:
    """The text of the type (ros2msg), with those of the types inside it. `InputError` where it is not installed."""
    parts: dict[str, str] = {}
    pending = [kind]
    while pending:
        name = pending.pop(0)
        if name in parts:
            continue
        fields = message_class(name).get_fields_and_field_types()
        lines = [_field_type(text) for text in fields.values()]
        parts[name] = "".join(f"{line} {field}\n" for line, field in zip(lines, fields))
        pending += [full for line in lines if (full := _full(line)) is not None]
    first = parts.pop(kind)
    return first + "".join(f"{SEPARATOR}\nMSG: {name.replace('/msg/', '/')}\n{text}" for name, text in parts.items())


def _field_type(text: str) -> str:
    """`sequence<my_msgs/Finger, 5>` of a class as `my_msgs/Finger[<=5]` of a definition."""
    if found := _SEQUENCE.match(text):
        inner, most = found.groups()
        return f"{_field_type(inner)}[{f'<={most}' if most else ''}]"
    if found := _ARRAY.match(text):
        return f"{_field_type(found[1])}[{found[2]}]"
    if found := _TEXT.match(text):
        return f"{found[1]}<={found[2]}"
    return PRIMITIVES.get(text, text)


def _full(line: str) -> str | None:
    """The message type in a line's type, if it holds one."""
    name = line.partition("[")[0]
    return name.replace("/", "/msg/") if "/" in name else None
