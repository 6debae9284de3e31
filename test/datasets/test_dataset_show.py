"""What is said and drawn of a dataset: facts, pictures with something in them, and one page without outside links."""

from __future__ import annotations

import base64
import json
import re
import shutil
from io import BytesIO
from pathlib import Path

import motion
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bagmaker import Recipe, make_bag
from PIL import Image

from pi0_ros.cli.main import main
from pi0_ros.datasets.folder import DatasetFolder
from pi0_ros.datasets.html_report import Link, Part, Table, write_page
from pi0_ros.datasets.pictures import contact_sheet
from pi0_ros.datasets.plots import stream_ages, traces

STREAM = {
    "topic": "/demo_arm/joint_states", "messages": 100, "rate_hz": 50.0, "stamp_fallbacks": 0, "age_p50_s": 0.005,
    "age_p95_s": 0.014, "age_max_s": 0.16, "repeats": 3, "skips": 10,
}  # fmt: skip
BAGS = (
    {
        "bag": "bags/a", "status": "converted", "reason": "", "duration_s": 3.0, "streams": [STREAM],
        "episodes": [{"frames": 60}], "gaps": [{"at_s": 1.0, "length_s": 0.4, "why": "joint_states too old"}],
    },
    {"bag": "bags/<b>", "status": "rejected", "reason": "no message on /x", "duration_s": 1.0, "streams": []},
)  # fmt: skip


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return motion.make(tmp_path_factory.mktemp("show") / "towels", bags=BAGS)


def test_a_broken_video_is_one_line(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = shutil.copytree(dataset, tmp_path / "broken")
    video = next((broken / "videos").rglob("*.mp4"))
    for left in (video.read_bytes()[:3000], b""):
        video.write_bytes(left)
        assert main(["dataset", "plot", str(broken), "--out", str(tmp_path / "out")]) == 2
        said = capsys.readouterr().err
        assert str(video) in said and "can't be read: Invalid data found" in said and "`pi0 dataset check`" in said


def test_a_column_of_numbers_stands_to_the_right_with_its_head_and_no_other(tmp_path: Path) -> None:
    rows = [("yaw", "0.5", "15"), ("roll", "-1.2e-3", "no chunk"), ("grip", "", "3")]
    write_page(tmp_path / "page.html", "t", [Part("p", [Table(("joint", "error", "chunks"), rows)])])
    page = (tmp_path / "page.html").read_text()
    assert (
        '<th class="number">error' in page and '<td class="number">0.5' in page and '<td class="number">-1.2e-3' in page
    )
    assert "<th>chunks" in page and "<td>15" in page and "<td>3" in page


def test_info(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dataset", "info", str(dataset)]) == 0
    said = capsys.readouterr().out
    for text in (
        "LeRobotDataset v3.0",
        "demo_arm, robot file demo_arm inside",
        "3 episodes, 156 frames at 20 fps",
        "observation.images.base 48x64x3, h264 yuv420p",
        "language_persistent",
        "idle in 9.6% of the frames",
        "2 bags: 1 converted, 0 skipped, 1 rejected; 1 gaps",
        "1 x no message on /x",
        '"put the red cube in the tray"',
    ):
        assert text in said, text
    assert re.search(r"elbow +rad +0\.6\d* ", said)


def test_info_as_json(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dataset", "info", str(dataset), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["tasks"] == {"put the red cube in the tray": 2, "put the green cube in the tray": 1}
    assert (summary["episodes"], summary["frames"], summary["marks"]) == (3, 156, {"idle": 0.0962})
    actions = DatasetFolder(dataset).columns["action"]
    assert np.allclose(summary["ranges"]["action"]["max"], actions.max(axis=0), atol=1e-5)


def test_older_formats_and_foreign_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = motion.make(tmp_path / "old", v21=True)
    assert main(["dataset", "info", str(old)]) == 0
    assert "LeRobotDataset v2.1" in capsys.readouterr().out
    assert main(["dataset", "check", str(old)]) == 0
    assert "read v3.0 only" in capsys.readouterr().out
    assert main(["dataset", "info", str(tmp_path)]) == 2
    assert "no meta/info.json" in capsys.readouterr().err
    info = json.loads((old / "meta/info.json").read_text())
    (old / "meta/info.json").write_text(json.dumps({**info, "codebase_version": "v9"}))
    assert main(["dataset", "info", str(old)]) == 2
    assert "codebase_version v9; these are known" in capsys.readouterr().err


def test_a_folder_named_by_a_dot_and_a_feature_that_says_nothing(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(dataset, tmp_path / "towels")
    monkeypatch.chdir(tmp_path / "towels")
    assert main(["dataset", "plot", ".", "--episode", "0"]) == 0
    assert (tmp_path / "towels_plots/episode_000000_traces.png").is_file()
    info = json.loads(Path("meta/info.json").read_text())
    info["features"]["action"].pop("dtype")
    Path("meta/info.json").write_text(json.dumps(info))
    assert main(["dataset", "info", "."]) == 2
    assert "feature action has no dtype" in capsys.readouterr().err


def test_pictures_inside_the_data_files(tmp_path: Path) -> None:
    """LeRobot's image mode: a column of PNG files instead of videos."""
    path = motion.make(tmp_path / "images", lengths=(20,), prompts=("red",))
    info = json.loads((path / "meta/info.json").read_text())
    key = "observation.images.base"
    info["features"][key] = {**info["features"][key], "dtype": "image"}
    (path / "meta/info.json").write_text(json.dumps(info))
    file = path / "data/chunk-000/file-000.parquet"
    cells = []
    for number in range(20):
        buffer = BytesIO()
        Image.fromarray(motion.picture(number, 0, 0)).save(buffer, "PNG")
        cells.append({"bytes": buffer.getvalue(), "path": None})
    table = pq.read_table(file)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(table.append_column(key, pa.array(cells, kind)), file)
    folder = DatasetFolder(path)
    assert folder.image_keys == (key,) and folder.video_keys == ("observation.images.wrist",)
    (frame,) = folder.frames(folder.entries[0], key, [13])
    assert np.array_equal(frame, motion.picture(13, 0, 0))


def test_plots_and_the_page(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dataset", "plot", str(dataset), "--episode", "1", "--out", str(tmp_path / "p"), "--html"]) == 0
    assert "6 pictures of 1 of 3 episodes" in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "p").iterdir()}
    assert names == {
        *("episode_000001_traces.png", "episode_000001_base.png", "episode_000001_wrist.png"),
        *("values_state.png", "values_action.png", "streams.png", "report.html"),
    }
    page = (tmp_path / "p/report.html").read_text()
    embedded = re.findall(r'src="data:image/(png|jpeg);base64,([^"]+)"', page)
    assert len(embedded) == 6
    for _, data in embedded:
        assert np.asarray(Image.open(BytesIO(base64.b64decode(data)))).std() > 10
    assert not re.search(r"(src|href)=\"(?!data:|#)|https?://|@import|url\(", page)  # opens without a network
    assert '<a href="#episode-1">' in page and 'id="episode-1"' in page and "#episode-0" not in page
    assert "&lt;b&gt;" in page and "<b>" not in page
    assert "gap of 0.40 s at 1.00 s: joint_states too old" in page


def test_a_wrong_episode_is_named(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dataset", "plot", str(dataset), "--episode", "3", "--out", str(tmp_path)]) == 2
    assert "no episode 3; there are 3, counted from 0" in capsys.readouterr().err


def test_traces_show_the_numbers_of_the_episode(dataset: Path) -> None:
    folder = DatasetFolder(dataset)
    figure = traces(folder, folder.entries[1])
    axes = next(axes for axes in figure.axes if axes.get_title(loc="left") == "elbow (rad)")
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert np.array_equal(lines["state"].get_ydata(), folder.columns["observation.state"][60:104, 2])
    assert np.array_equal(lines["action"].get_ydata(), folder.columns["action"][60:104, 2])
    assert lines["state"].get_xdata()[-1] == pytest.approx(43 / 20)
    assert [text.get_text() for text in figure.axes[0].texts] == ["grasp"]
    low, high = axes.get_ylim()
    assert high - low >= 0.2 * np.ptp(folder.columns["action"][:, 2])


def test_stream_ages_show_the_limit_where_it_is_near() -> None:
    figure = stream_ages({"bags": list(BAGS)}, {"/demo_arm/joint_states": 0.15})
    assert figure is not None
    (axes,) = figure.axes
    assert axes.get_title(loc="left") == "/demo_arm/joint_states   (limit 150 ms)"
    assert {float(line.get_ydata()[0]) for line in axes.get_lines()} == {5.0, 14.0, 160.0, 150.0}
    assert stream_ages({"bags": [BAGS[1]]}, {}) is None


def test_contact_sheet() -> None:
    pictures = [np.full((48, 64, 3), 20 * number, np.uint8) for number in range(5)]
    sheet = np.asarray(contact_sheet(pictures, [f"{n} s" for n in range(5)], columns=3))
    height, width = 180, 240  # of a picture on the sheet
    assert sheet.shape == (2 * (height + 22) + 4, 3 * (width + 4) + 4, 3)
    assert sheet[4 + height // 2, 4 + width // 2, 0] == 0
    assert sheet[4 + height + 22 + height // 2, 4 + width + 4 + width // 2, 0] == 80


def test_a_page_is_written_whole(tmp_path: Path) -> None:
    table = Table(("a", "b"), [(1, "x & y"), ("2.5%", Link("here", "there"))])
    write_page(tmp_path / "page.html", "<title>", [Part("one", ["text", table], "there")])
    page = (tmp_path / "page.html").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert "&lt;title&gt;" in page and "x &amp; y" in page
    assert '<td class="number">1</td>' in page and '<td class="number">2.5%</td>' in page


def test_convert_draws_on_request(tmp_path: Path) -> None:
    bag = make_bag(tmp_path / "bag", motion.ROBOT, Recipe(seconds=1.5))
    words = ["convert", str(bag), str(tmp_path / "out"), "--robot", "demo_arm", "--plots", str(tmp_path / "plots")]
    assert main(words) == 0
    page = (tmp_path / "plots/report.html").read_text()
    assert "/demo_arm/joint_states" in page and "All are drawn below." in page
