"""CHANGELOG.rst, which bloom reads, from CHANGELOG.md: every released version, in catkin's format.

    python tools/changelog.py           write it
    python tools/changelog.py --check   status 1 where it is not what CHANGELOG.md says

`## Unreleased` is left out until a release gives it a version and a date: `## 0.2.0 (2027-01-31)`.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TITLE = "Changelog for package pi0_ros"


def releases(text: str) -> list[tuple[str, str]]:
    """(version and date, body) of every released version in the Markdown `text`. ValueError where a date is missing."""
    found = []
    for section in re.split(r"^## ", text, flags=re.M)[1:]:
        head, _, body = section.partition("\n")
        if head.strip().lower() == "unreleased":
            continue
        if not re.fullmatch(r"\d+\.\d+\.\d+ \(\d{4}-\d\d-\d\d\)", head.strip()):
            raise ValueError(f"CHANGELOG.md: '## {head}': write '## VERSION (YYYY-MM-DD)'")
        found.append((head.strip(), body.strip()))
    return found


def as_rst(text: str) -> str:
    """The whole CHANGELOG.rst."""
    line = "^" * len(TITLE)
    blocks = [f"{line}\n{TITLE}\n{line}"]
    for head, body in releases(text):
        items = re.findall(r"^- (.*(?:\n  .*)*)", body, flags=re.M)
        lines = [re.sub(r"\s+", " ", re.sub(r"(?<!`)`([^`]+)`(?!`)", r"``\1``", item)) for item in items]
        blocks.append("\n".join([head, "-" * len(head), *(f"* {item}" for item in lines)]))
    return "\n\n".join(blocks) + "\n"


def main() -> int:
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    args = parser.parse_args()
    wanted, path = as_rst((ROOT / "CHANGELOG.md").read_text(encoding="utf-8")), ROOT / "CHANGELOG.rst"
    if args.check:
        if path.is_file() and path.read_text(encoding="utf-8") == wanted:
            return 0
        print("CHANGELOG.rst is not what CHANGELOG.md says: run python tools/changelog.py", file=sys.stderr)
        return 1
    path.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
