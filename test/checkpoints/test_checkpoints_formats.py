"""A format is a row of one table; what no row reads is an error, never read as another format."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import reference

import pi0_ros.checkpoints.locate
from pi0_ros.checkpoints import load
from pi0_ros.checkpoints.convert import TARGETS
from pi0_ros.checkpoints.formats import FORMATS, Asked, Format, open_source, read_around
from pi0_ros.checkpoints.locate import Located, locate
from pi0_ros.checkpoints.safetensors_files import CheckpointError


def test_the_table_holds_what_locate_tells_and_nothing_else():
    tree = ast.parse(Path(pi0_ros.checkpoints.locate.__file__).read_text())
    made = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "Located"]
    first = [call.args[0] for call in made]
    told = [part for node in first for part in ((node.body, node.orelse) if isinstance(node, ast.IfExp) else (node,))]
    assert {ast.literal_eval(node) for node in told} == set(FORMATS)


def test_a_format_that_no_row_reads_is_an_error():
    found = locate(reference.ROOT / "pi0")
    source = open_source(found, Asked())
    other = Located("theirs", found.path, found.weights)
    for work in (lambda: open_source(other, Asked()), lambda: read_around(other, source, Asked())):
        with pytest.raises(
            CheckpointError, match="pi0: checkpoints of the format 'theirs' cannot be read; known are pi0_"
        ):
            work()


def test_a_row_is_all_that_loading_asks(monkeypatch):
    found = locate(reference.ROOT / "pi0")
    known, asked = FORMATS[found.format], []
    row = Format("theirs", known.weights, lambda *given: asked.append(given[2]) or known.around(*given))
    monkeypatch.setitem(FORMATS, "theirs", row)
    monkeypatch.setattr(load, "locate", lambda path: Located("theirs", found.path, found.weights))
    config = {"vision": {"num_heads": 4}}
    assert load.describe_checkpoint(found.path, config=config, base="other").format == "theirs"
    assert asked == [Asked(base="other")]
    with pytest.raises(CheckpointError, match="no checkpoint of LeRobot"):
        load.describe_checkpoint(found.path, config=config, lerobot_release="0.4")


def test_what_is_written_can_be_read():
    assert {target.title for target in TARGETS.values()} <= {row.title for row in FORMATS.values()}
