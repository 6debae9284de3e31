"""Run mypy over the package as it is installed: `training/` as `pi0_ros.training`, which mypy cannot find by itself.

python tools/typecheck.py                       the package, bench/ and tools/
python tools/typecheck.py --no-incremental      arguments go to mypy
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TREE = ROOT / "build" / "typecheck"
AROUND = ("bench", "tools")


def lay_out(tree: Path) -> None:
    """Make `tree/pi0_ros` of links to every room, `training` among them."""
    package = tree / "pi0_ros"
    package.mkdir(parents=True, exist_ok=True)
    wanted = {path.name: path for path in (ROOT / "pi0_ros").iterdir() if path.name != "__pycache__"}
    wanted["training"] = ROOT / "training"
    for link in package.iterdir():
        if link.name in wanted or link.is_symlink():
            link.unlink()
    for name, path in wanted.items():
        (package / name).symlink_to(path)


def mypy(*targets: str) -> int:
    """Run mypy on `targets`, which find the package in `TREE`; returns its exit status."""
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml")]
    command += ["--cache-dir", str(ROOT / ".mypy_cache"), *targets, *sys.argv[1:]]
    return subprocess.run(command, cwd=TREE, env={**os.environ, "MYPYPATH": str(TREE), "PYTHONPATH": ""}).returncode


def main() -> int:
    """Check the package, then the programs around it, folder by folder: they import their neighbours by name."""
    lay_out(TREE)
    statuses = [mypy("-p", "pi0_ros")]
    for folder in sorted({path.parent for name in AROUND for path in (ROOT / name).rglob("*.py")}):
        statuses.append(mypy(*(str(path) for path in sorted(folder.glob("*.py")))))
    return max(statuses)


if __name__ == "__main__":
    sys.exit(main())
