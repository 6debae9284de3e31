"""Run mypy over the package as it is installed: `training/` as `pi0_ros.training`, which mypy cannot find by itself.

python tools/typecheck.py                       the package, bench/ and tools/
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TREE = ROOT / "build" / "typecheck"


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


def main() -> int:
    """Check the package; returns mypy's exit status."""
    lay_out(TREE)
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml")]
    command += ["--cache-dir", str(ROOT / ".mypy_cache"), "-p", "pi0_ros", *sys.argv[1:]]
    return subprocess.run(command, cwd=TREE, env={**os.environ, "MYPYPATH": str(TREE), "PYTHONPATH": ""}).returncode


if __name__ == "__main__":
    sys.exit(main())
