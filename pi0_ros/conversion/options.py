"""How recordings are converted: what `pi0 convert` can be told."""

from __future__ import annotations

from dataclasses import dataclass

from pi0_ros.bags.conventions import PROMPT_TOPIC, SUBTASK_TOPIC
from pi0_ros.conversion.annotations import Annotation


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
    stamps: tuple[tuple[str, str], ...] = ()  # (topic, auto | header | arrival), overruling the robot file
    keep_partial: bool = False  # also episodes of which some stream misses the begin or the end
    content: str = "reject"  # reject | accept: pictures black or frozen throughout, joints that never move
    resize: tuple[int, int] | None = None  # height, width of all pictures; None: as they come
    corrections: bool = False  # of every recording only what a person led who took over from the policy
    before_s: float = 0.0  # of the time before each takeover that goes with it


DEFAULTS = Options()
