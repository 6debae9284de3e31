"""How recordings are converted: what the command line of `pi0 convert` can set."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from pi0_ros.conversion.annotations import Annotation, read_annotations

PROMPT_TOPIC = "/pi0/prompt"
SUBTASK_TOPIC = "/pi0/subtask"


@dataclass(frozen=True)
class Options:
    """How to convert. Topics are those of markers inside the recordings (`markers.py`), empty: none."""

    task: str | None = None  # prompt of all episodes, overruling what was recorded
    codec: str = "h264"  # a key of CODECS
    gaps: str = "split"  # split | reject
    min_length_s: float = 1.0  # shorter pieces are not worth an episode
    include_failed: bool = False
    damaged: str = "salvage"  # salvage | reject: recordings that lost messages
    prompt_topic: str = PROMPT_TOPIC
    subtask_topic: str = SUBTASK_TOPIC
    start_topic: str = ""
    stop_topic: str = ""
    discard_topic: str = ""
    annotations: tuple[Annotation, ...] = ()


DEFAULTS = Options()


def add_episode_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say what an episode is."""
    group = parser.add_argument_group("episodes", "where they begin and end, what they are called (docs/data.md)")
    group.add_argument("--task", help="prompt of all episodes, overruling what was recorded")
    group.add_argument("--annotations", type=Path, metavar="FILE", help="CSV or YAML: bag, start, end, prompt, success")
    group.add_argument("--start-topic", default="", metavar="TOPIC", help="a message or service call begins an episode")
    group.add_argument("--stop-topic", default="", metavar="TOPIC", help="a message or service call ends it")
    group.add_argument("--discard-topic", default="", metavar="TOPIC", help="a message or service call discards it")
    group.add_argument("--prompt-topic", default=PROMPT_TOPIC, metavar="TOPIC", help="String (default: %(default)s)")
    group.add_argument("--subtask-topic", default=SUBTASK_TOPIC, metavar="TOPIC", help="String (default: %(default)s)")
    group.add_argument(
        "--gaps", choices=("split", "reject"), default="split", help="at a gap, split or reject (default: %(default)s)"
    )
    group.add_argument(
        "--damaged",
        choices=("salvage", "reject"),
        default="salvage",
        help="of bags that lost messages, take what is left or nothing (default: %(default)s)",
    )
    group.add_argument(
        "--min-length", type=float, default=1.0, metavar="S", help="shortest episode in seconds (default: %(default)s)"
    )
    group.add_argument("--include-failed", action="store_true", help="also failed and unfinished ones, never discarded")


def options_of(args: argparse.Namespace) -> Options:
    """The options of a parsed command line. Raises `AnnotationError`."""
    return Options(
        task=args.task,
        codec=args.codec,
        gaps=args.gaps,
        min_length_s=args.min_length,
        include_failed=args.include_failed,
        damaged=args.damaged,
        prompt_topic=args.prompt_topic,
        subtask_topic=args.subtask_topic,
        start_topic=args.start_topic,
        stop_topic=args.stop_topic,
        discard_topic=args.discard_topic,
        annotations=read_annotations(args.annotations) if args.annotations else (),
    )
