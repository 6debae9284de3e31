"""Write docs/performance.md from the newest results in bench/results: one GPU run, one CPU run.

    python bench/performance_page.py

A run is kept there by hand: `gpu_DATE_DEVICE.json` is the gpu_day.json of `bench/gpu_day.py`, `cpu_DATE_DEVICE.json`
what `bench/inference.py --json` wrote. A key "note" in them is printed.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "bench")]

from gpu.report import markdown, number, table  # noqa: E402

RESULTS, PAGE = ROOT / "bench" / "results", ROOT / "docs" / "performance.md"
HEAD = """# Performance

*Made by `bench/performance_page.py` from the files in `bench/results`: do not edit.*

The policy runs its checkpoint through the inference engine (`pi0_ros/engine`). It computes nothing that cannot change
an action: absent cameras, padding of the prompt, the last prefix layer's output, anything that depends on the flow
time alone. On a CUDA device (compute capability 8.0 or newer) frames are resized there, and a whole chunk is one
captured graph per shape, guidance included. Where Triton is installed and the sizes are pi0's, the action expert runs
in kernels of this package; their tiles are chosen by measurement at the first start (up to 45 s) and kept in
`~/.cache/pi0_ros/tuning.json`. Kernels that do not agree with plain torch on the device are not used. Every fallback is
logged by `pi0 engine`, and gives the same actions within rounding.

"""


def newest(kind: str) -> dict[str, Any] | None:
    """The latest run of a kind, by the date in its name."""
    paths = sorted(RESULTS.glob(f"{kind}_*.json"))
    return json.loads(paths[-1].read_text(encoding="utf-8")) if paths else None


def gpu_part(found: dict[str, Any] | None) -> str:
    if found is None:
        return "## GPU\n\nUnmeasured. `python bench/gpu_day.py --out runs/gpu_day` measures everything on one GPU.\n"
    title, rest = markdown(found).split("\n", 1)
    note = f"\n**{found['note']}**\n" if "note" in found else ""
    revision = f"\nRevision {found['revision']}.\n" if "revision" in found else ""
    return title + "\n" + note + rest.replace("\n###", f"{revision}\n###", 1)


def cpu_part(found: dict[str, Any] | None) -> str:
    if found is None:
        return "## CPU\n\nUnmeasured. `python bench/inference.py` measures it.\n"
    about, ours = found["cpu"], found["rows"][-1]
    note = f"**{found['note']}**\n\n" if "note" in found else ""
    rows = [
        [row["what"], number(row["cpu_p50"], 1), number(row["cpu_best"], 1), number(row["wall_p50"], 1)]
        + [number(row["cpu_p50"] / ours["cpu_p50"]), f"{row['apart']:.0e}"]
        for row in found["rows"]
    ]
    release = f", LeRobot {about['lerobot']}" if "lerobot" in about else ""
    return (
        f"## CPU: {about['processor']}\n\n{note}Preset `{about['preset']}`, {about['views']} cameras, "
        f"{about['tokens']} tokens, {about['steps']} steps, {about['threads']} thread(s), equal random weights, "
        f"torch {about['torch']}{release}; `{about['command']}`.\n\n"
        + table(["", "CPU p50 ms", "CPU best ms", "wall p50 ms", "times the engine's", "actions apart"], rows)
        + "\nThe policy node takes one thread for less than 50 million parameters, else all cores but one, and "
        "lets idle workers sleep (`OMP_WAIT_POLICY=passive`); `torch_threads` says otherwise.\n"
    )


def page() -> str:
    return HEAD + gpu_part(newest("gpu")) + "\n" + cpu_part(newest("cpu"))


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    PAGE.write_text(page(), encoding="utf-8")
    print(f"written: {PAGE}")
