"""Numbers and ROS names on a command line, checked while it is read: argparse names the option that is wrong."""

from __future__ import annotations

import argparse
import math
import re

_NAME = "[A-Za-z_][A-Za-z0-9_]*"
NAMESPACE = f"({_NAME}(/{_NAME})*)?"  # of nodes, without the slashes around it; also none


def namespace(text: str) -> str:
    """A namespace of ROS nodes, such as left or /lab/left; "" for none."""
    if not re.fullmatch(NAMESPACE, text.strip("/")):
        raise argparse.ArgumentTypeError(f"{text!r}: write letters, digits and _ only, for example left")
    return text


def ros_name(text: str) -> str:
    """The name of a ROS topic or node, with or without a slash before it."""
    if not re.fullmatch(f"/?{_NAME}(/{_NAME})*", text):
        raise argparse.ArgumentTypeError(f"{text!r}: ROS names are of letters, digits and _, with / between them")
    return text


def count(text: str) -> int:
    """A whole number of at least 1."""
    return _whole(text, 1)


def whole(text: str) -> int:
    """A whole number of at least 0, such as a seed."""
    return _whole(text, 0)


def positive(text: str) -> float:
    """A finite number above 0, such as seconds."""
    if not 0 < (number := _number(text)) < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number above 0")
    return number


def not_negative(text: str) -> float:
    """A finite number of at least 0."""
    if not 0 <= (number := _number(text)) < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of 0 or more")
    return number


def fraction(text: str) -> float:
    """A number from 0 to 1."""
    if not 0 <= (number := _number(text)) <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 0 to 1")
    return number


def span(text: str) -> tuple[float, float]:
    """Two finite numbers of at least 0, `LEAST:MOST`, or one that is both."""
    least, colon, most = text.partition(":")
    numbers = _number(least), _number(most if colon else least)
    if not 0 <= numbers[0] <= numbers[1] < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: expected LEAST:MOST, numbers of 0 or more such as 0.05:0.3")
    return numbers


def port(text: str) -> int:
    """A TCP port."""
    if (number := _whole(text, 1)) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a port, 1 to 65535")
    return number


def _whole(text: str, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if not least <= number < 2**63:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from {least} on")
    return number


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
