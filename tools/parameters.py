"""Write what shows the nodes' parameters: config/policy.yaml and the tables of docs/reference.md.

python tools/parameters.py                      after a change of pi0_ros/launching/parameters.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pi0_ros.launching.parameter_docs import policy_yaml, with_tables

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Write both files."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    (ROOT / "config" / "policy.yaml").write_text(policy_yaml(), encoding="utf-8")
    page = ROOT / "docs" / "reference.md"
    page.write_text(with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
