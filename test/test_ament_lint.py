"""What ROS's build farm checks, with this project's rules; ruff checks more. Skipped without ament's linters.

ament_copyright is left out: the licence is in LICENSE and package.xml, once, and not in every file.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CODE = [str(ROOT / name) for name in ("pi0_ros", "training", "launch", "test", "tools", "bench", "setup.py")]
# Those of pydocstyle that ament ignores by itself, and ours: one line, or a summary in the first line.
PEP257 = "D100 D101 D102 D103 D104 D105 D106 D107 D203 D205 D209 D212 D213 D400 D401 D402 D403 D404 D406 D407 D413 D415"


def test_flake8() -> None:
    flake8 = pytest.importorskip("ament_flake8.main")
    status, errors = flake8.main_with_errors(argv=["--config", str(ROOT / "setup.cfg"), *CODE])
    assert status == 0, "\n".join(errors)


def test_pep257() -> None:
    pep257 = pytest.importorskip("ament_pep257.main")
    assert pep257.main(argv=["--ignore", *PEP257.split(), "--", *CODE]) == 0


def test_xmllint() -> None:
    xmllint = pytest.importorskip("ament_xmllint.main")
    if shutil.which("xmllint") is None:
        pytest.skip("needs xmllint")
    assert xmllint.main(argv=[str(ROOT / "package.xml")]) == 0
