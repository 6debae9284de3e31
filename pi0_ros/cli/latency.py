"""Where the time goes between a camera's picture and the first command that follows from it.

    pi0 latency                              # listens to pi0/latency for 10 s while policy and controller run, armed
    pi0 latency --seconds 60 --plot latency.png
    pi0 latency --bag bags/run               # from a recording that holds the topic pi0/latency

Policy and controller publish their halves of each chunk's way there: capture, received, preprocessed, inferred,
published, first command. The table shows the stages, the sentences below what to do.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pi0_ros.base.arguments import positive, ros_name
from pi0_ros.base.errors import InputError
from pi0_ros.control.latency import Traces, advice, summarise, table

TOPIC = "pi0/latency"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=positive, default=10.0, help="how long to listen (default %(default)s)")
    parser.add_argument("--bag", type=Path, help="read this recording instead of listening")
    parser.add_argument("--plot", type=Path, help="write a picture (PNG) of all chunks")
    parser.add_argument("--topic", type=ros_name, default=TOPIC, help="for another namespace (default %(default)s)")


def run(args: argparse.Namespace) -> int:
    traces = _recorded(args.bag, args.topic) if args.bag else _heard(args.seconds, args.topic)
    if len(traces.complete) < 2:
        where = str(args.bag) if args.bag else f"{args.seconds:g} s"
        todo = "run policy and controller, and arm the controller"
        if args.bag and not traces.published:
            todo = f"record with `extra_topics: [{args.topic}]` while the policy drives, or listen to it without --bag"
        raise InputError(
            f"{where}: {traces.published} chunks on {args.topic}, {len(traces.complete)} of them followed, but at "
            f"least 2 are needed: {todo}"
        )
    summary = summarise(traces.complete)
    print(f"{summary.traces} chunks, {summary.rate_hz:.1f} per second\n\n{table(summary)}\n")
    print("\n".join(f"- {sentence}" for sentence in advice(summary)))
    if args.plot:
        from pi0_ros.monitor.latency_plot import plot_latency

        plot_latency(traces.complete, summary, args.plot)
        print(f"\n{args.plot}")
    return 0


def _recorded(bag: Path, topic: str) -> Traces:
    from pi0_ros.bags.reader import read_bag

    traces, wanted = Traces(), "/" + topic.lstrip("/")
    traces.take(message for _, message, _ in read_bag(bag, {wanted}))
    return traces


def _heard(seconds: float, topic: str) -> Traces:
    from pi0_ros.nodes.latency_listener import listen

    return listen(seconds, topic)
