"""docs/protocol.md says the numbers and names that the code has."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from pathlib import Path

from pi0_ros.base.foreign import MAX_JOINTS, MAX_POINTS, MAX_PROMPT_CHARS
from pi0_ros.inference import protocol, server
from pi0_ros.inference.metadata import Metadata
from pi0_ros.inference.prefix import RtcSettings

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")


def test_the_page_has_the_numbers_of_the_code() -> None:
    assert f"Version {protocol.VERSION}." in PAGE and f'"pi0": {protocol.VERSION}' in PAGE
    bounds = next(line for line in re.split(r"\n\n", PAGE) if line.startswith("Bounds"))
    for number in (
        protocol.MAX_FRAMES,
        protocol.MAX_HEADER_BYTES,
        protocol.MAX_BYTES,
        MAX_PROMPT_CHARS,
        MAX_POINTS,
        MAX_JOINTS,
    ):
        assert re.search(rf"\b{number}\b", bounds), number


def test_the_page_has_the_names_of_the_code() -> None:
    for name in (
        *protocol.TYPES,
        *protocol.DTYPES,
        *(f.name for f in fields(Metadata)),
        *(f.name for f in fields(RtcSettings)),
    ):
        assert f"`{name}`" in PAGE, name
    table = re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \|$", PAGE.split("| code |")[1], re.MULTILINE)
    calls = [node for node in ast.walk(ast.parse(Path(server.__file__).read_text())) if isinstance(node, ast.Call)]
    sent = {
        argument.value
        for call in calls
        if getattr(call.func, "attr", getattr(call.func, "id", "")) in ("_refuse", "error_message")
        for argument in call.args[:2]
        if isinstance(argument, ast.Constant) and re.fullmatch(r"\w+", str(argument.value))
    }
    assert set(table) == sent and len(sent) > 4
