"""Bags converted on a Ray cluster give the dataset of one machine."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from bagmaker import Recipe, make_bag

from pi0_ros.conversion.convert import convert
from pi0_ros.conversion.jobs import Job
from pi0_ros.conversion.options import Options
from pi0_ros.conversion.ray_engine import _convert_and_pack, run_on_ray
from pi0_ros.conversion.report import BagReport
from pi0_ros.conversion.staging import Staging
from pi0_ros.datasets.layout import DatasetError
from pi0_ros.robot import load_robot

ROBOT = load_robot("demo_arm")


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def bags(tmp_path: Path) -> list[Path]:
    lengths = (1.2, 0.3, 1.6, 1.4)  # the second is too short
    return [make_bag(tmp_path / f"bags/{n}", ROBOT, Recipe(seconds=s, size=(32, 32))) for n, s in enumerate(lengths)]


@pytest.fixture
def cluster() -> Iterator[None]:
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
    yield
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.ray
def test_same_dataset_as_on_one_machine(tmp_path: Path, bags: list[Path], cluster: None) -> None:
    engine = partial(run_on_ray, tasks=2)
    convert(bags, tmp_path / "one", ROBOT)
    report = convert(bags, tmp_path / "ray", ROBOT, engine=engine)
    assert [bag.status for bag in report.bags] == ["converted", "rejected", "converted", "converted"]
    assert files(tmp_path / "ray") == files(tmp_path / "one")
    assert convert(bags, tmp_path / "dry", ROBOT, engine=engine, dry_run=True).bags == report.bags
    # what was finished before a stop is not converted again, wherever it was done
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr("pi0_ros.conversion.convert.write_dataset", lambda *_: 1 / 0)
        convert(bags, tmp_path / "stopped", ROBOT, engine=engine)
    finished = {path.name: path.stat().st_mtime_ns for path in Staging(tmp_path / "stopped").episodes.rglob("*.mp4")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pi0_ros.conversion.ray_engine._unpack", lambda *_: 1 / 0)
        convert(bags, tmp_path / "stopped", ROBOT, engine=engine)
    assert len(finished) == 2 and files(tmp_path / "stopped") == files(tmp_path / "one")


def test_tasks_find_bags_of_a_relative_path(tmp_path: Path, bags: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """They run in another folder than the command; the report says what the command was given."""
    job = Job(Path("bags/0"), tmp_path / "parts", ROBOT, Options())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    report, packed = _convert_and_pack(job, bags[0])
    assert (report.bag, report.status) == ("bags/0", "converted")
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert BagReport.from_dict(json.loads(archive.read("report.json"))) == report


@pytest.mark.ray
def test_no_cluster(tmp_path: Path, bags: list[Path]) -> None:
    pytest.importorskip("ray")
    with pytest.raises(DatasetError, match="no Ray cluster at 127.0.0.1:1"):
        convert(bags, tmp_path / "out", ROBOT, engine=partial(run_on_ray, address="127.0.0.1:1"))


def test_without_ray(tmp_path: Path, bags: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(DatasetError, match=r"pip install 'pi0_ros\[ray\]'"):
        convert(bags, tmp_path / "out", ROBOT, engine=run_on_ray)
