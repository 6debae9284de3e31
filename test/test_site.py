"""The documentation is a site without a broken link, and building it would say so of one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mkdocs")
pytest.importorskip("material")
ROOT = Path(__file__).resolve().parents[1]


def build(project: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=300)


def test_every_page_is_in_the_site_and_every_link_leads_somewhere(tmp_path: Path) -> None:
    done = build(ROOT, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {page.stem for page in (ROOT / "docs").glob("*.md")} <= {page.stem for page in tmp_path.glob("*.html")}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[x](nowhere.md)", "nowhere.md"),
        ("[x](safety.md#no-such-heading)", "no-such-heading"),
        ("[x](../config/nothing.yaml)", "nothing.yaml"),
    ],
)
def test_a_broken_link_breaks_the_build(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "safety.md", tmp_path / "docs")
    (tmp_path / "docs" / "index.md").write_text(f"# Start\n\n{text}\n")
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "site_hooks.py", tmp_path / "tools")
    settings = (ROOT / "mkdocs.yml").read_text().partition("nav:")[0]
    (tmp_path / "mkdocs.yml").write_text(settings)
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0 and says in done.stdout + done.stderr
