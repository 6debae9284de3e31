"""What a release must pass: it builds, PyPI would take it, and it works where nothing else is installed.

    python tools/release_check.py       (fetches `build` and `twine` into build/release/)

1. `python -m build`: source distribution and wheel, from a copy of what git knows.
2. `twine check --strict`.
3. The wheel in an empty environment, without torch and without ROS: `pi0 --version`, `pi0 --help`, the robot files,
   `pi0_ros.training`; and a command that needs torch says in one line what to install.
4. CHANGELOG.rst is what CHANGELOG.md says; package.xml, setup.py and the wheel have the same version.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "release"
SEE = (
    "import importlib.util, pi0_ros.training.recipe; from pi0_ros.robot import load_robot; "
    "from pi0_ros.base.share import config_path; "
    "assert load_robot('demo_arm').joints and config_path('policy.yaml').is_file(); "
    "assert importlib.util.find_spec('torch') is None, 'torch came along'"
)


def say(text: str) -> None:
    """A step."""
    print(f"== {text}", flush=True)


def run(*command: str | Path, status: int = 0) -> str:
    """Run in `WORK`; returns its output. Ends the check where the status is another one."""
    done = subprocess.run([str(word) for word in command], cwd=WORK, capture_output=True, text=True, check=False)
    if done.returncode != status:
        sys.exit(f"{' '.join(map(str, command))}: status {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout + done.stderr


def environment(name: str, *packages: str) -> Path:
    """The `bin` folder of a new virtual environment with `packages`."""
    venv.create(WORK / name, clear=True, with_pip=True)
    programs = WORK / name / "bin"
    run(programs / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages)
    return programs


def source() -> Path:
    """A copy of what git knows of this tree, changes included."""
    tree = WORK / "source"
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    return tree


def main() -> int:
    """All checks; 0 when every one passed."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    version = re.findall(r'version="([^"]+)"', (ROOT / "setup.py").read_text())[0]
    if f"<version>{version}</version>" not in (ROOT / "package.xml").read_text():
        sys.exit(f"setup.py says {version}, package.xml does not")
    run(sys.executable, ROOT / "tools" / "changelog.py", "--check")

    say("python -m build")
    tools = environment("tools", "build", "twine")
    run(tools / "python", "-m", "build", "--outdir", WORK / "dist", source())
    wheel, archive = next((WORK / "dist").glob("*.whl")), next((WORK / "dist").glob("*.tar.gz"))
    if version not in wheel.name:
        sys.exit(f"{wheel.name} is not version {version}")
    with tarfile.open(archive) as files:
        names = {name.partition("/")[2] for name in files.getnames()}
    if missing := {"training/loop.py", "config/policy.yaml", "launch/policy.launch.py", "package.xml"} - names:
        sys.exit(f"{archive.name} lacks {', '.join(sorted(missing))}")

    say("twine check --strict")
    print(run(tools / "twine", "check", "--strict", wheel, archive).strip())

    say("the wheel in an empty environment")
    empty = environment("empty", str(wheel))
    run(empty / "python", "-c", SEE)
    said = run(empty / "pi0", "--version")
    if version not in said:
        sys.exit(f"pi0 --version says {said!r}, not {version}")
    print(said.strip())
    run(empty / "pi0", "--help")
    refused = run(empty / "pi0", "checkpoint", "info", "nothing", status=2)
    if "pi0_ros[policy]" not in refused or len(refused.splitlines()) != 1:
        sys.exit(f"without torch `pi0 checkpoint info` says:\n{refused}")
    print(refused.strip())
    say(f"{wheel.name} can be released")
    return 0


if __name__ == "__main__":
    sys.exit(main())
