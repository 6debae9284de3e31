"""Where the time goes between a camera's picture and the first command that follows from it.

    pi0 latency                              # listens to pi0/latency for 10 s while policy and controller run, armed
    pi0 latency --seconds 60 --plot latency.png
    pi0 latency --bag bags/run               # from a recording that holds the topic pi0/latency

Policy and controller publish their halves of each chunk's way there: capture, received, preprocessed, inferred,
published, first command. The table shows the stages, the sentences below what to do.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pi0_ros.base.arguments import positive
from pi0_ros.base.errors import InputError
from pi0_ros.control.latency import NAMES, STAGES, Summary, Trace, Traces, advice, summarise, table

TOPIC = "pi0/latency"
STATUSES = ("pi0_ros: chunk published", "pi0_ros: chunk followed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=positive, default=10.0, help="how long to listen (default %(default)s)")
    parser.add_argument("--bag", type=Path, help="read this recording instead of listening")
    parser.add_argument("--plot", type=Path, help="write a picture (PNG) of all chunks")
    parser.add_argument("--topic", default=TOPIC, help="for another namespace (default %(default)s)")


def run(args: argparse.Namespace) -> int:
    traces = _recorded(args.bag, args.topic) if args.bag else _live(args.seconds, args.topic)
    if len(traces.complete) < 2:
        where = str(args.bag) if args.bag else f"{args.seconds:g} s"
        raise InputError(
            f"{where}: {traces.published} chunks on {args.topic}, {len(traces.complete)} of them followed, but at "
            "least 2 are needed: run policy and controller, and arm the controller"
        )
    summary = summarise(traces.complete)
    print(f"{summary.traces} chunks, {summary.rate_hz:.1f} per second\n\n{table(summary)}\n")
    print("\n".join(f"- {sentence}" for sentence in advice(summary)))
    if args.plot:
        plot(traces.complete, summary, args.plot)
        print(f"\n{args.plot}")
    return 0


def take(traces: Traces, messages: Iterable[Any]) -> None:
    """Add the halves in DiagnosticArrays, from DDS or from a bag."""
    for message in messages:
        for status in message.status:
            if status.name in STATUSES:
                traces.add({pair.key: pair.value for pair in status.values})


def plot(traces: list[Trace], summary: Summary, path: Path) -> None:
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


def _recorded(bag: Path, topic: str) -> Traces:
    from pi0_ros.bags.reader import read_bag

    traces, wanted = Traces(), "/" + topic.lstrip("/")
    take(traces, (message for _, message, _ in read_bag(bag, {wanted})))
    return traces


def _live(seconds: float, topic: str) -> Traces:
    import rclpy
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.executors import SingleThreadedExecutor

    traces = Traces()
    rclpy.init()
    node = rclpy.create_node("latency_trace")
    node.create_subscription(DiagnosticArray, topic, lambda message: take(traces, [message]), 100)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    end = time.monotonic() + seconds
    try:
        while (left := end - time.monotonic()) > 0:
            executor.spin_once(timeout_sec=left)
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
    return traces
