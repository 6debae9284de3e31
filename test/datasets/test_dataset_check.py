"""Everything that would bite a trainer is found, and a good dataset is left in peace."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import motion
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pi0_ros.base.findings import Finding
from pi0_ros.cli.main import main
from pi0_ros.datasets.checks import check_dataset
from pi0_ros.datasets.checks.motion import lag_frames
from pi0_ros.datasets.folder import DatasetFolder

DATA = "data/chunk-000/file-000.parquet"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
VIDEO = "videos/observation.images.base/chunk-000/file-000.mp4"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return motion.make(tmp_path_factory.mktemp("check") / "good")


@pytest.fixture
def copy(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "copy"))


def found(path: Path, severity: str) -> str:
    """All findings of a severity in one text."""
    return "\n".join(f"{f.check}: {f.what}" for f in check_dataset(path) if f.severity == severity)


def edit_json(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def edit_rows(path: Path, column: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Change one column of a parquet file, which keeps its row groups."""
    file = pq.ParquetFile(path)
    table, groups = file.read(), [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    kind = table.schema.field(column).type
    values = np.array(table.column(column).to_pylist())
    place = table.schema.get_field_index(column)
    table = table.set_column(place, column, pa.array(change(values).tolist(), kind))
    with pq.ParquetWriter(path, table.schema) as writer:
        start = 0
        for length in groups:
            writer.write_table(table.slice(start, length), row_group_size=length)
            start += length


def test_a_good_dataset_passes(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not [finding for finding in check_dataset(good, full=True) if finding.severity != "note"]
    assert "state follows the action after 100 ms" in found(good, "note")
    assert lag_frames(DatasetFolder(good)) == pytest.approx(motion.LAG, abs=0.05)
    assert main(["dataset", "check", str(good)]) == 0
    assert "fit for training (0 errors, 0 warnings)" in capsys.readouterr().out


def test_findings_as_json_and_exit_status(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / VIDEO).unlink()
    assert main(["dataset", "check", str(copy), "--json"]) == 1
    findings = [Finding(**item) for item in json.loads(capsys.readouterr().out)]
    assert findings[0].severity == "error" and VIDEO in findings[0].what and findings[0].todo


def test_missing_and_stray_files(copy: Path) -> None:
    shutil.copy(copy / VIDEO, (copy / VIDEO).with_name("file-007.mp4"))
    assert "file-007.mp4 belongs to no episode" in found(copy, "warning")
    (copy / "meta/tasks.parquet").unlink()
    assert "tasks.parquet: missing" in found(copy, "error")
    (copy / DATA).unlink()
    assert f"{DATA} is missing" in found(copy, "error")
    assert "no meta/info.json" in found(copy / "meta", "error")


def test_numbers_that_do_not_add_up(copy: Path) -> None:
    edit_json(copy / "meta/info.json", lambda info: info.update(total_frames=155, fps=25))
    errors = found(copy, "error")
    assert "total_frames 155, there are 156" in errors
    assert "timestamp must be frame_index / 25" in errors


def test_time_that_is_compressed(copy: Path) -> None:
    edit_rows(copy / DATA, "timestamp", lambda t: t * 1.01)
    assert "rows are off their place by up to 29.50 ms, first in episode 0" in found(copy, "error")


def test_counters(copy: Path) -> None:
    edit_rows(copy / DATA, "index", lambda index: np.where(index > 99, index + 1, index))
    assert "index is 101 in row 100, expected 100" in found(copy, "error")


def test_a_hole_in_the_list_of_episodes(copy: Path) -> None:
    edit_rows(copy / EPISODES, "episode_index", lambda index: np.where(index == 2, 3, index))
    assert "row 2 of the episode list is episode 3" in found(copy, "error")


def test_nan(copy: Path) -> None:
    def spoil(values: np.ndarray) -> np.ndarray:
        values[70, 2] = np.nan
        return values

    edit_rows(copy / DATA, "action", spoil)
    assert "action holds NaN or infinity in 1 rows of episodes 1" in found(copy, "error")


def test_tasks(copy: Path) -> None:
    tasks = ["put it there", "Put it there. ", "nobody says this", ""]
    frame = pd.DataFrame({"task_index": range(4)}, index=pd.Index(tasks, name="task"))
    frame.to_parquet(copy / "meta/tasks.parquet")
    edit_json(copy / "meta/info.json", lambda info: info.update(total_tasks=4))
    assert "'put it there' and 'Put it there. ' differ in case" in found(copy, "warning")
    assert "no row uses task 2 'nobody says this'" in found(copy, "note")
    assert "empty" not in found(copy, "error")
    edit_rows(copy / DATA, "task_index", lambda index: np.full_like(index, 3))
    assert "task 3 is empty" in found(copy, "error")
    edit_rows(copy / DATA, "task_index", lambda index: np.full_like(index, 4))
    assert "task_index reaches 4, there are 4 tasks" in found(copy, "error")


def test_nested_names(copy: Path) -> None:
    edit_json(
        copy / "meta/info.json", lambda info: info["features"]["action"].update(names=[["a", "b", "c", "d", "e", "f"]])
    )
    assert "names of action are nested" in found(copy, "warning")


def test_videos_with_too_few_frames_or_shifted(copy: Path, tmp_path: Path) -> None:
    short = motion.make(tmp_path / "short", lengths=(60, 44, 50))
    shutil.copy(short / VIDEO, copy / VIDEO)
    assert f"{VIDEO} has 154 frames for 156 rows" in found(copy, "error")
    edit_rows(copy / EPISODES, "videos/observation.images.wrist/from_timestamp", lambda start: start + 0.01)
    assert "wrist/chunk-000/file-000.mp4: frames are up to 10.00 ms off their rows" in found(copy, "error")


def test_a_video_that_is_none(copy: Path) -> None:
    (copy / VIDEO).write_bytes(b"nothing")
    assert f"{VIDEO} can't be read" in found(copy, "error")


def test_black_and_frozen_cameras(tmp_path: Path) -> None:
    def draw(number: int, episode: int, camera: int) -> np.ndarray:
        if camera == 0:
            return np.zeros((48, 64, 3), np.uint8) if episode == 1 else motion.picture(number, episode, camera)
        return motion.picture(0 if episode == 2 else number, episode, camera)

    path = motion.make(tmp_path / "bad", draw=draw)
    assert "observation.images.base: black in 1 (of 3 episodes looked at)" in found(path, "error")
    assert "observation.images.wrist: the picture stands still while the joints move in 2" in found(path, "warning")


@pytest.mark.parametrize(
    ("name", "value", "severity", "text"),
    [
        ("mean", 0.3, "error", "action: mean of yaw is"),
        ("q99", 0.3, "warning", "action: the quantiles are no quantiles of all rows (q99 off by 30% of the range)"),
    ],
)
def test_wrong_statistics(copy: Path, name: str, value: float, severity: str, text: str) -> None:
    spread = float(np.ptp(DatasetFolder(copy).columns["action"][:, 0]))

    def spoil(stats: dict[str, Any]) -> None:
        stats["action"][name][0] += value * spread

    edit_json(copy / "meta/stats.json", spoil)
    assert text in found(copy, severity)


def test_statistics_that_are_missing_or_of_other_pictures(copy: Path) -> None:
    def spoil(stats: dict[str, Any]) -> None:
        del stats["action"]["q01"]
        stats["observation.state"]["count"] = [100]
        stats["observation.images.base"]["mean"] = [[[0.9]], [[0.9]], [[0.9]]]

    edit_json(copy / "meta/stats.json", spoil)
    assert "action: no q01" in found(copy, "warning")
    assert "observation.state: made from 100 rows, there are 156" in found(copy, "error")
    assert "observation.images.base: mean or deviation" in found(copy, "warning")
    (copy / "meta/stats.json").unlink()
    assert "stats.json is missing" in found(copy, "error")


Change = Callable[[int, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def _dead(episode: int, state: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return state * [1, 0, 1, 1, 1, 1], action


def _jump(episode: int, state: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    jumped = action.copy()
    jumped[30, 2] += 0.4 * (episode == 1)  # 2 rad/s at 20 fps are 0.1 rad per frame
    return state, jumped


@pytest.mark.parametrize(
    ("change", "severity", "text"),
    [
        (_dead, "warning", "observation.state: shoulder never changes"),
        (_jump, "warning", "action: elbow jumps 2 times by up to"),
        (lambda e, s, a: (s, s), "error", "the action is the state itself"),
        (lambda e, s, a: (s, np.vstack([s[1:], s[-1:]])), "note", "the action is the next frame's state"),
        (lambda e, s, a: (a, s), "warning", "the state follows the action after -100 ms: the state is ahead"),
        (lambda e, s, a: (s, np.full_like(a, 0.2)), "error", "action never changes"),
    ],
)
def test_motion(tmp_path: Path, change: Change, severity: str, text: str) -> None:
    assert text in found(motion.make(tmp_path / "moved", change=change), severity)


def test_waiting_and_short_episodes(tmp_path: Path) -> None:
    def wait(episode: int, state: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        still = np.repeat(action[:1], min(30, len(action)), axis=0)
        return state, np.vstack([still, action[: len(action) - len(still)]])

    path = motion.make(tmp_path / "waiting", lengths=(60, 50, 12), change=wait)
    warnings = found(path, "warning")
    assert "half of the episodes begin with 1.5 s or more without motion" in warnings
    assert "the action stands still in episodes 2" in warnings
    assert "shorter than 1 s: 2" in warnings
