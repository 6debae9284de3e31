"""From the JSON of a `gpu_day.py` run to Markdown and a plot. A stage that was not run is said to be missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

NAMES = {"pi0": "pi0", "pi05": "pi0.5"}


def table(heads: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def number(value: Any, digits: int = 2) -> str:
    return f"{value:.{digits}f}" if isinstance(value, int | float) else "-"


def markdown(found: dict[str, Any]) -> str:
    """The sections of a report, headings of the second level."""
    return "\n".join([_machine(found), _ceilings(found), _inference(found), _correctness(found), _training(found)])


def _machine(found: dict[str, Any]) -> str:
    there = found["environment"]
    cuda = f", CUDA {there['cuda']}, driver and clocks at rest: {there['nvidia_smi']}" if "cuda" in there else ""
    return (
        f"## GPU: {there['device']}\n\n{there['device']}, Python {there['python']}, torch {there['torch']}, triton "
        f"{there['triton']}{cuda}. Measured with `{found['command']}`.\n"
    )


def _ceilings(found: dict[str, Any]) -> str:
    if (made := found.get("ceilings")) is None:
        return "### Ceilings\n\nNot measured in this run.\n"
    text = (
        f"### Ceilings\n\nCopying {number(made['copy_gb_s'], 0)} GB/s (read and written bytes), reading "
        f"{number(made['read_gb_s'], 0)} GB/s, bfloat16 products {number(made['gemm_tflop_s'], 0)} TFLOP/s, "
        f"{number(made['kernel_chain_us'])} us for each kernel of a graph that does nothing.\n\nThe library's products "
        "at the model's shapes (two cameras, 20 tokens):\n\n"
    )
    rows = [
        [row["what"], f"{row['m']} x {row['n']} x {row['k']}", number(row["us"], 1), number(row["tflop_s"], 0)]
        + [number(row["gb_s"], 0)]
        for row in made["products"]
    ]
    return text + table(["product", "m x n x k", "us", "TFLOP/s", "GB/s"], rows)


def _inference(found: dict[str, Any]) -> str:
    if not (made := found.get("inference")):
        return "### One chunk\n\nNot measured in this run.\n"
    rows = []
    for row in made:
        if "p50" not in row:
            rows.append([NAMES[row["model"]], str(row["views"]), row["rung"], row.get("why", ""), *["-"] * 6])
            continue
        stages = row.get("stages", {})
        split = " + ".join(number(stages[key]) for key in ("vision", "prefix", "steps")) if stages else "-"
        rows.append(
            [NAMES[row["model"]], str(row["views"]), row["rung"], number(row["p50"]), number(row["p99"])]
            + [number(row["ratio"], 1), split, number(row.get("wall_p50")), str(row.get("kernels", "-"))]
            + [f"{row['error']:.1e}"]
        )
    floors = {(row["model"], row["views"]): row["floor_ms"] for row in made if "floor_ms" in row}
    floor = ", ".join(f"{NAMES[name]} {views} cameras {ms:.2f}" for (name, views), ms in floors.items())
    heads = ["model", "cameras", "how", "p50 ms", "p99 ms", "of the floor", "vision + prefix + steps ms", "wall p50 ms"]
    return (
        "### One chunk\n\nTen flow steps, 50 actions, random weights in bfloat16. The floor is what arithmetic or "
        f"weights alone take at the ceilings above, ms: {floor}. Wall: from an observation to actions in host "
        "memory. Error: of the chunk against float32.\n\n" + table([*heads, "kernels", "error"], rows)
    )


def _correctness(found: dict[str, Any]) -> str:
    if not (made := found.get("correctness")):
        return "### Errors\n\nNot measured in this run.\n"
    rows = [
        [NAMES[name], str(one["seeds"]), number(one["velocity_ratio_worst"], 3), number(one["chunk_ratio"], 3)]
        + ["yes" if one["accepted"] else "no"]
        for name, one in ((name, entry["acceptance"]) for name, entry in made.items())
    ]
    text = (
        "### Errors\n\nThe engine's error against float32 over that of plain bfloat16, at most 1.1 to be accepted.\n\n"
    )
    text += table(["model", "seeds", "velocity, worst step", "chunk", "accepted"], rows) + "\n"
    rows = [
        [NAMES[name], kind, f"{one['ours']:.2e}", f"{one['eager']:.2e}", "yes" if one["same_twice"] else "no"]
        for name, entry in made.items()
        for kind, one in entry["guidance"].items()
    ]
    return text + table(["model", "guidance", "error", "of plain bfloat16", "same twice"], rows)


def _training(found: dict[str, Any]) -> str:
    if not (made := found.get("training")):
        return "### A training step\n\nNot measured in this run.\n"
    rows = [
        [NAMES[row["model"]], row["kind"], str(row.get("batch", "-")), number(row.get("s_per_step"), 3)]
        + [number(row.get("samples_per_s"), 1), number(row.get("peak_gb"), 1), row.get("why", "")]
        for row in made
    ]
    heads = ["model", "trained", "batch", "s a step", "samples/s", "peak GB", ""]
    return "### A training step\n\nTwo cameras, valid tokens only, AdamW, bfloat16 autocast.\n\n" + table(heads, rows)


def plot(found: dict[str, Any], path: Path) -> bool:
    """A bar per rung, cut by stage where that is known; False where matplotlib is missing or nothing was measured."""
    rows = [row for row in found.get("inference", []) if "p50" in row]
    if not rows:
        return False
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 0.35 * len(rows) + 1.2))
    names = [f"{NAMES[row['model']]}, {row['views']} cameras: {row['rung']}" for row in rows]
    axes.barh(names, [row["p50"] for row in rows], color="#4477aa")
    for index, row in enumerate(rows):
        axes.plot([row["floor_ms"]] * 2, [index - 0.4, index + 0.4], color="#cc3311")
        axes.annotate(f" {row['p50']:.1f}", (row["p50"], index), va="center", fontsize=8)
    axes.set_xscale("log")
    axes.set_xlabel("ms a chunk (p50); red: the floor")
    axes.invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return True


def write(folder: Path) -> list[Path]:
    """Write report.md and chunk.png beside gpu_day.json; the paths that were written."""
    found = json.loads((folder / "gpu_day.json").read_text())
    written = [folder / "report.md"]
    written[0].write_text("# One GPU, measured\n\n" + markdown(found))
    if plot(found, folder / "chunk.png"):
        written.append(folder / "chunk.png")
    return written
