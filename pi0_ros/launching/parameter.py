"""What a ROS parameter is: its type, what it takes, when it may change, and its words. No ROS here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import yaml

from pi0_ros.base.errors import InputError

Value = bool | int | float | str | list[int] | list[str]


class ParameterError(InputError):
    """A parameter's name or value is wrong; the message names it and says what is right."""


class Changes(Enum):
    """When a parameter may be set."""

    AT_START = "at start only"
    UNCONFIGURED = "while the node is unconfigured"  # of a lifecycle node
    ALWAYS = "at any time"


@dataclass(frozen=True)
class Parameter:
    """One parameter; its default's type is its type. An empty list is written `[""]` or `[-1]`, so that it has one.

    With a `word` it is a number, and this word may stand in its place.
    """

    name: str
    default: Value
    text: str  # what it means; begins in lower case, no full stop
    unit: str = ""
    range: tuple[float, float] | None = None  # of numbers, both ends allowed
    choices: tuple[str, ...] = ()  # of strings
    changes: Changes = Changes.AT_START
    word: str = ""

    @property
    def kind(self) -> str:
        """Its type in words, as a reader of the documentation knows it."""
        if isinstance(self.default, list):
            return "integers" if isinstance(self.default[0], int) else "strings"
        if self.word:
            return "number or word"
        return {bool: "bool", int: "integer", float: "number", str: "string"}[type(self.default)]

    @property
    def takes(self) -> str:
        """What may be given, in words."""
        if self.choices:
            return f"one of {', '.join(choice or '(empty)' for choice in self.choices)}"
        words = {"bool": "true or false", "integer": "a whole number", "number": "a number", "string": "text"}
        words["number or word"] = f"{self.word} or a number"
        limits = f" from {self.range[0]} to {self.range[1]}" if self.range else ""
        return words.get(self.kind, f"a list of {self.kind}") + limits

    def check(self, value: Any) -> None:
        """ParameterError unless the node would take `value`."""
        if not self._fits(value):
            raise ParameterError(f"parameter {self.name} is {value!r}: it takes {self.takes}")

    def read(self, text: str) -> bool | int | float | str:
        """The value that `text` stands for on a command line; ParameterError for what it does not take."""
        kind = float if self.word and text != self.word else type(self.default)
        try:
            if kind is bool:
                value: Any = {"true": True, "1": True, "false": False, "0": False}[text.lower()]
            else:
                value = kind(text) if kind in (int, float) else text
        except (KeyError, ValueError):
            value = text
        self.check(value)
        return value

    def _fits(self, value: Any) -> bool:
        if isinstance(self.default, list):
            return isinstance(value, list) and all(type(item) is type(self.default[0]) for item in value)
        if self.word:
            if type(value) not in (int, float):
                return bool(value == self.word)
        elif type(value) is not type(self.default):
            return False
        if self.choices and value not in self.choices:
            return False
        # NaN lies in no range.
        return self.range is None or isinstance(value, str) or self.range[0] <= value <= self.range[1]


def describe(parameter: Parameter) -> str:
    """Unit, meaning and what is allowed, in one line of text."""
    text = f"{parameter.unit}, {parameter.text}" if parameter.unit else parameter.text
    if not all(choice in parameter.text for choice in parameter.choices):
        text += f" ({', '.join(choice for choice in parameter.choices if choice)})"
    return text


def yaml_value(value: Value) -> str:
    """A parameter's value as one word of YAML that ROS reads as the same type."""
    return yaml.safe_dump(value, default_flow_style=True, width=1000).partition("\n")[0]
