"""The time from picture to command of every chunk, as a picture."""

from __future__ import annotations

from pathlib import Path

from pi0_ros.control.latency import NAMES, STAGES, Summary, Trace


def plot_latency(traces: list[Trace], summary: Summary, path: Path) -> None:
    """Every chunk's stages over time, stacked, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    traces = sorted(traces, key=lambda trace: trace.stamp_ns)
    times = [(trace.stamp_ns - traces[0].stamp_ns) * 1e-9 for trace in traces]
    stages = [[trace.stages_ms[name] for trace in traces] for name in NAMES]
    labels = [f"{name}: {what}" for name, what, _ in STAGES]
    axes.stackplot(times, stages, labels=labels, step="mid", colors=[f"C{i}" for i in range(len(NAMES))])
    axes.set(xlabel="s", ylabel="ms from the picture's capture", xlim=(0, times[-1]), ylim=(0, None))
    axes.set_title(
        f"picture to command: median {summary.stages['total'][0]:.0f} ms, p95 {summary.stages['total'][1]:.0f}"
    )
    figure.legend(
        *(part[::-1] for part in axes.get_legend_handles_labels()), loc="outside right upper", fontsize="small"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
