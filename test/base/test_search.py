"""A user's folder may be a whole disk, or linked into itself: what is searched is bounded, and what is not is said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from bagmaker import Recipe, make_bag
from hypothesis import given
from hypothesis import strategies as st

from pi0_ros.bags.reader import BagError, find_bags
from pi0_ros.base.errors import InputError
from pi0_ros.base.search import Search
from pi0_ros.cli.view import open_source
from pi0_ros.robot import load_robot

ROOT = Path(__file__).parents[2]
ROBOT = load_robot("demo_arm")
# Those that walk what this package wrote itself, or the known folders of one dataset or checkpoint; none follows links
# to folders. Whoever looks for something in a folder that may hold anything uses `Search`.
OWN = {
    "base/disk.py", "benchmark/journal.py", "checkpoints/summary.py", "cli/checkpoint_convert.py",
    "conversion/ray_engine.py", "datasets/checks/rows.py", "datasets/facts.py", "training/saving.py",
}  # fmt: skip
WALKS = re.compile(r"\.rglob\(|os\.walk\(|glob\([^)]*\*\*|\.walk\(|os\.fwalk\(")


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recordings in a folder that leads back into itself in three ways, and to one of them by another name."""
    folder = tmp_path_factory.mktemp("linked")
    for name in ("monday/a", "tuesday/b"):
        make_bag(folder / name, ROBOT, Recipe(seconds=0.1))
    (folder / "again").symlink_to(folder)
    (folder / "monday" / "up").symlink_to("..")
    (folder / "tuesday" / "other").symlink_to(folder / "monday")
    (folder / "gone").symlink_to(folder / "nowhere")
    (folder / "itself").symlink_to("itself")
    return folder


def test_a_folder_that_is_linked_into_itself_is_searched_once(linked: Path) -> None:
    assert [path.relative_to(linked).as_posix() for path in find_bags([linked])] == ["monday/a", "tuesday/b"]
    source = open_source(linked, None, None)
    assert [listed.text for listed in source.listed()] == ["monday/a", "tuesday/b"]
    assert source.about()["facts"] == [["recordings", "2"]], "nothing was left out"


def test_a_recording_behind_a_link_has_the_name_it_was_found_by(linked: Path, tmp_path: Path) -> None:
    (tmp_path / "here").symlink_to(linked / "monday" / "a")
    assert [listed.text for listed in open_source(tmp_path, None, None).listed()] == ["here"]


def _pictures(folder: Path, count: int) -> Path:
    """Files that are no recordings."""
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:06d}.jpg").symlink_to("nothing")
    return folder


def test_a_hundred_thousand_files_are_searched(tmp_path: Path) -> None:
    _pictures(tmp_path / "a", 100_000)
    make_bag(tmp_path / "b", ROBOT, Recipe(seconds=0.1))
    assert find_bags([tmp_path]) == [tmp_path / "b"]


def test_what_lies_behind_the_limit_is_said(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("pi0_ros.bags.reader.Search", lambda: Search(most_entries=100))
    make_bag(tmp_path / "a" / "bag", ROBOT, Recipe(seconds=0.1))
    many = _pictures(tmp_path / "many", 200)
    with pytest.raises(BagError, match=r"all but 100 files and folders, from .*many on: not looked at; name the folde"):
        find_bags([tmp_path])  # a conversion without some of them would go unnoticed
    about = open_source(tmp_path, None, None).about()  # looking at the others is of use
    (told,) = [text for name, text in about["facts"] if name == "not searched"]
    assert told.startswith("all but 100") and ["recordings", "1"] in about["facts"]
    with pytest.raises(InputError, match=r"nothing to look at; .*; left out: all but 100"):
        open_source(many, None, None)


def test_what_lies_too_deep_or_cannot_be_read_is_said(tmp_path: Path) -> None:
    deep = tmp_path / "/".join("abcdefgh")
    deep.mkdir(parents=True)
    search = Search(deepest=5)
    assert search.find(tmp_path, lambda path: path.name == "h") == []
    assert search.left_out == [f"{tmp_path / 'a/b/c/d/e/f'}: deeper than 5 folders"]

    def wanted(path: Path) -> bool:
        if path.name == "c":
            raise PermissionError(13, "Permission denied")
        return path.name == "h"

    refused = Search()
    assert refused.find(tmp_path, wanted) == []
    assert refused.left_out == [f"{tmp_path / 'a/b/c'}: Permission denied"]


@given(
    parents=st.lists(st.integers(0, 30), min_size=1, max_size=12),
    links=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=6),
    most=st.integers(1, 40),
)
def test_every_folder_is_found_once_or_left_out_is_said(tmp_path_factory, parents, links, most) -> None:
    """Whatever leads where: with room for all nothing is missing, and a limit is never passed silently."""
    root = tmp_path_factory.mktemp("tree")
    folders = [root]
    for number, parent in enumerate(parents):
        folders.append(folders[parent % len(folders)] / f"f{number}")
        folders[-1].mkdir()
        (folders[-1] / "wanted").write_text(str(number))
    for number, (place, target) in enumerate(links):
        (folders[place % len(folders)] / f"link{number}").symlink_to(folders[target % len(folders)])
    whole, bounded = Search(), Search(most_entries=most)
    found = whole.find(root, lambda path: path.name == "wanted")
    assert sorted(int(path.read_text()) for path in found) == list(range(len(parents))) and not whole.left_out
    some = {path.resolve() for path in bounded.find(root, lambda path: path.name == "wanted")}
    assert some <= {path.resolve() for path in found}
    assert len(some) == len(found) or bounded.left_out
    assert len(bounded.left_out) <= 1


def test_nothing_else_walks_a_folder_of_unknown_content() -> None:
    rooms = [(ROOT / "pi0_ros", ""), (ROOT / "training", "training/")]
    walkers = {
        prefix + path.relative_to(room).as_posix()
        for room, prefix in rooms
        for path in room.rglob("*.py")
        if WALKS.search(path.read_text(encoding="utf-8"))
    }
    assert walkers == OWN
