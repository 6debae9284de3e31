"""docs/architecture.md and docs/glossary.md say what is there: files, rooms, floors, terms."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest
from test_import_floors import FLOORS, ROS, TOP, imports_of, modules, room_of

from pi0_ros.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
ROOMS = {*FLOORS, *TOP}


def folder(room: str) -> Path:
    return ROOT / ("training" if room == "training" else f"pi0_ros/{room}")


def table() -> dict[str, list[str]]:
    """Room -> the cells of its row."""
    rows = [line.strip("|").split("|") for line in ARCHITECTURE.splitlines() if re.match(r"\| `\w+` \|", line)]
    return {row[0].strip(" `"): [cell.strip() for cell in row[1:]] for row in rows}


@pytest.mark.parametrize("page", ["docs/architecture.md", "docs/glossary.md", "README.md", "CONTRIBUTING.md"])
def test_every_file_that_is_named_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:[\w.]+/)+[\w*.]*)`", text)) | set(re.findall(r"`(\w+\.(?:py|toml|md))`", text))
    links = {(Path(page).parent / link).as_posix() for link in re.findall(r"\]\(([^)#:]+)\)", text)}
    own = {
        name
        for name in named
        if name.split("/")[0] in ("pi0_ros", "training", "docs", "test", "tools", "config", "launch")
    }
    missing = sorted(name for name in own | links if not list(ROOT.glob(name.rstrip("/"))))
    assert not missing
    assert page != "docs/architecture.md" or len(own) > 60


def test_every_room_is_described_with_what_it_may_import() -> None:
    rows = table()
    assert set(rows) == ROOMS
    for room, floor in FLOORS.items():
        assert set(re.findall(r"`(\w+)`", rows[room][1])) == floor.rooms, room


def test_the_drawing_shows_every_room_above_all_that_it_imports() -> None:
    drawing = ARCHITECTURE.split("```")[1].splitlines()
    height = {
        room: -n for n, line in enumerate(drawing) for room in re.split(r"\s+", line[12:50].strip()) if room in ROOMS
    }
    assert set(height) == ROOMS
    for room, floor in FLOORS.items():
        assert all(height[below] < height[room] for below in floor.rooms), room
    assert all(height[room] < height["nodes"] < height["cli"] for room in FLOORS)


@pytest.mark.parametrize(("line", "libraries"), [("- rclpy", ROS), ("- torch", {"torch"})])
def test_who_imports_ros_and_torch_is_said(line: str, libraries: set[str]) -> None:
    said = ARCHITECTURE.split(f"\n{line}")[1].split(".")[0]
    late = set(re.findall(r"\(`(\w+)`\)", said))
    found = {
        (room_of(module), imported.at_start)
        for module, path in modules().items()
        for imported in imports_of(path)
        if imported.module.split(".")[0] in libraries
    }
    at_start = {room for room, starting in found if starting}
    assert set(re.findall(r"`(\w+)`", said)) - late == at_start
    assert late == {room for room, _ in found} - at_start


def test_the_reference_names_every_command() -> None:
    table = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8").split("## Topics")[0]
    missing = [command for command in COMMANDS if not re.search(rf"`(?:pi0 )?{command}\b", table)]
    assert not missing


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_every_package_says_who_may_import_it_and_the_terms_it_uses(room: str) -> None:
    text = ast.get_docstring(ast.parse((folder(room) / "__init__.py").read_text(encoding="utf-8"))) or ""
    said = re.search(r"Imported by: (.*?)\.", text, flags=re.S)
    above = {other for other, floor in FLOORS.items() if room in floor.rooms}
    above |= {"nodes", "cli"} - {room} if room != "cli" else {"nobody"}
    above -= {"nodes"} if room == "nodes" else set()
    assert said and set(re.split(r"[,\s]+", said[1])) == above
    terms = re.search(r"Terms \(docs/glossary\.md\): (.*)\.$", text, flags=re.S)
    assert terms
    for term in re.split(r",\s+", " ".join(terms[1].split())):
        assert f"| {term} |" in GLOSSARY, term


def test_the_glossary_is_in_order() -> None:
    terms = [line.split("|")[1].strip() for line in GLOSSARY.splitlines() if line.startswith("| ")][1:]
    assert len(terms) > 35 and terms == sorted(terms, key=str.lower)


def test_bloom_reads_the_releases_of_the_changelog() -> None:
    changelog = pytest.importorskip("catkin_pkg.changelog")
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        from changelog import as_rst, releases  # type: ignore[attr-defined]
    finally:
        sys.path.remove(str(ROOT / "tools"))
    markdown = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert (ROOT / "CHANGELOG.rst").read_text(encoding="utf-8") == as_rst(markdown), "run python tools/changelog.py"
    read = changelog.get_changelog_from_path(ROOT / "CHANGELOG.rst")
    assert [version for version, _, _ in read.foreach_version()] == [head.split()[0] for head, _ in releases(markdown)]
    with pytest.raises(ValueError, match="YYYY-MM-DD"):
        releases("# Changelog\n\n## 0.9.0\n- x\n")


def test_what_where_to_add_names_is_in_the_files_that_it_names() -> None:
    section = ARCHITECTURE.split("## Where to add")[1]
    looked_up = 0
    for paragraph in re.split(r"\n\n(?=\*\*)", section):
        files = [ROOT / name for name in re.findall(r"`((?:pi0_ros|training|tools)/[\w/]+\.py)`", paragraph)]
        source = "\n".join(file.read_text(encoding="utf-8") for file in files)
        for symbol in re.findall(r"`([A-Za-z_]+(?:\.[a-z_]+)?)(?:\([^`]*)?`", paragraph):
            looked_up += 1
            assert re.search(rf"\b{symbol.rpartition('.')[2]}\b", source), f"{symbol} is in none of {files}"
    assert looked_up > 20
