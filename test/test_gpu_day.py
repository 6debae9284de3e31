"""`bench/gpu_day.py` runs from start to end, in miniature, and goes on where it stopped."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def gpu_day(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "bench" / "gpu_day.py"), "--out", str(out), "--device", "cpu", "--small"]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_all_stages_in_miniature(tmp_path: Path) -> None:
    first = gpu_day(tmp_path, "--stages", "ceilings", "correctness")
    assert first.returncode == 0, first.stderr
    early = json.loads((tmp_path / "gpu_day.json").read_text())
    done = gpu_day(tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu_day.json").read_text())
    assert found["ceilings"] == early["ceilings"] and "== ceilings" not in done.stdout
    for name in ("pi0", "pi05"):
        made = found["correctness"][name]
        assert made["acceptance"]["accepted"] and all(one["same_twice"] for one in made["guidance"].values())
        rungs = [row["rung"] for row in found["inference"] if row["model"] == name and row["views"] == 2]
        assert len(rungs) == 3 and all(row["error"] < 0.02 for row in found["inference"])
        kinds = {row["kind"]: row for row in found["training"] if row["model"] == name}
        assert (
            kinds["full"]["finite"] and kinds["full"]["trained_parameters"] > kinds["expert only"]["trained_parameters"]
        )
        assert kinds["LoRA"]["finite"] and kinds["LoRA"]["trained_parameters"] < kinds["full"]["trained_parameters"]
    report = (tmp_path / "report.md").read_text()
    assert "### A training step" in report and "Not measured" not in report
    assert (tmp_path / "chunk.png").stat().st_size > 5000


def test_the_page_is_made_from_the_results() -> None:
    from performance_page import PAGE, page

    assert PAGE.read_text(encoding="utf-8") == page(), "run `python bench/performance_page.py`"


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    alone = gpu_day(tmp_path, "--stages", "inference")
    assert alone.returncode == 2 and "needs the ceilings" in alone.stderr
