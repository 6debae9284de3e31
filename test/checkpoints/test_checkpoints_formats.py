"""A format is a row of one table; what no row reads is an error, never read as another format."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import reference

import pi0_ros.checkpoints.locate
from pi0_ros.checkpoints import describe
from pi0_ros.checkpoints.convert import TARGETS
from pi0_ros.checkpoints.formats import FORMATS, Asked, Format, open_source, read_around
from pi0_ros.checkpoints.locate import Located, locate
from pi0_ros.checkpoints.safetensors_files import CheckpointError

ROOT = Path(__file__).resolve().parents[2]


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
    monkeypatch.setattr(describe, "locate", lambda path: Located("theirs", found.path, found.weights))
    config = {"vision": {"num_heads": 4}}
    assert describe.describe_checkpoint(found.path, config=config, base="other").format == "theirs"
    assert asked == [Asked(base="other")]
    with pytest.raises(CheckpointError, match="no checkpoint of LeRobot"):
        describe.describe_checkpoint(found.path, config=config, lerobot_release="0.4")


def test_what_is_written_can_be_read():
    assert {target.title for target in TARGETS.values()} <= {row.title for row in FORMATS.values()}


_NO_TORCH = """
import sys
sys.modules["torch"] = None  # importing it fails
from pi0_ros.checkpoints.describe import describe
found = describe(sys.argv[1], config={"vision": {"num_heads": 4}} if sys.argv[2] else None)
print(found.format, found.config.model)
"""


@pytest.mark.parametrize(
    ("folder", "told"),
    [
        ("pi0_ros/sim/checkpoint", "pi0_ros pi0"),
        ("test/fixtures/reference/lerobot/pi0", "lerobot pi0"),
        ("test/fixtures/reference/lerobot/pi05", "lerobot pi05"),
        ("test/fixtures/reference/pi0/model.safetensors", "openpi_torch pi0"),
        ("test/fixtures/reference/pi0/checkpoint", "openpi_jax pi0"),
    ],
)
def test_a_description_needs_no_torch(folder, told):
    """A robot's computer without torch can ask what a checkpoint is, and asking takes no seconds."""
    config = "" if told.startswith(("pi0_ros", "openpi_jax")) else "heads"
    run = [sys.executable, "-c", _NO_TORCH, str(ROOT / folder), config]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, told), done.stderr
