"""One recording explained: what each stream sent when, what became which episode, and why the rest did not.

`pi0 convert --explain BAG`: lines for the terminal and a page with pictures, from which a person sees within a minute
whether the recording is good.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from pi0_ros.bags.reader import Bag, BagError, DamagedError
from pi0_ros.conversion.align import Scan, check_topics, scan
from pi0_ros.conversion.cut import convert_bag
from pi0_ros.conversion.episodes import asked_topics
from pi0_ros.conversion.marks import DISCARD, START, STOP, read_marks
from pi0_ros.conversion.options import Options
from pi0_ros.conversion.report import BagReport
from pi0_ros.datasets.html_report import Cell, Marked, Part, Picture, Table, write_page
from pi0_ros.datasets.pictures import contact_sheet
from pi0_ros.datasets.timeline_plot import Span, TimelineView, draw_delays, draw_streams
from pi0_ros.observation.camera_picture import decoder_of
from pi0_ros.observation.images import ImageError
from pi0_ros.robot import Camera, Robot

WIDTH = 64  # characters of the time line
SHADES = " .:+#"  # no message ... as many as usual
CUTS = 8  # of which pictures are shown
NEAR_S = 0.05  # a picture this long before and after a cut


@dataclass(frozen=True)
class Explanation:
    """A recording, what the converter makes of it, and its streams; `view` is None where nothing could be scanned."""

    path: Path
    robot: Robot
    report: BagReport
    view: TimelineView | None
    thumbnails: Mapping[str, Sequence[tuple[str, np.ndarray]]]  # camera -> (label, picture)


def explain(path: Path, robot: Robot, options: Options) -> Explanation:
    """Scan and convert the recording at `path` without writing."""
    robot = robot.recorded
    report = convert_bag(path, None, robot, options)
    try:
        return _explain(path, robot, options, report, salvage=False)
    except DamagedError:
        return _explain(path, robot, options, report, salvage=True)
    except BagError:
        return Explanation(path, robot, report, None, {})


def _explain(path: Path, robot: Robot, options: Options, report: BagReport, salvage: bool) -> Explanation:
    with Bag(path, salvage) as bag:
        check_topics(bag, robot)
        asked = asked_topics(bag, options)
        found = scan(bag, robot, asked.prompt, asked.listened, dict(options.stamps))
        view = _view(bag, robot, options, found, report)
        return Explanation(path, robot, report, view, _thumbnails(bag, robot, found, view))


def _view(bag: Bag, robot: Robot, options: Options, found: Scan, report: BagReport) -> TimelineView:
    begin, end = found.span

    def seconds(ns: np.ndarray | int) -> np.ndarray:
        return (np.asarray(ns, np.int64) - begin) * 1e-9

    streams, delays = {}, {}
    for topic, times in found.timeline.times.items():
        kept = times >= 0
        streams[topic] = np.sort(seconds(times[kept]))
        if topic in found.timeline.offsets_s:
            arrived = np.array([found.clock.at(int(ns)) for ns in found.received[topic][kept]], np.int64)
            delays[topic] = seconds(times[kept]), (arrived - times[kept]) * 1e-9
    episodes = [
        Span(
            float(seconds(episode.start_ns)),
            float(seconds(episode.start_ns)) + episode.frames / robot.dataset_fps,
            f"episode {number}: {episode.frames} rows, {episode.prompt!r} from {episode.told_by}",
        )
        for number, episode in enumerate(report.episodes)
    ]
    first = _first_tick(report, found)
    missing = [
        Span(at := float(seconds(first)) + gap.at_s, at + gap.length_s, gap.why)
        for gap in (*report.gaps, *report.left_out)
    ]
    marks = [(float(seconds(ns)), f"prompt {text!r}") for ns, text in found.prompts]
    named = {START: options.start_topic, STOP: options.stop_topic, DISCARD: options.discard_topic}
    for kind, name in named.items():
        for topic, messages in found.events.items():
            if name and topic.strip("/").startswith(name.strip("/")):
                with suppress(BagError):
                    marks += [(float(seconds(m.stamp_ns)), m.kind) for m in read_marks(bag, kind, topic, messages)]
    marks += [(float(seconds(ns)), why) for ns, why in found.timeline.cuts]
    length = (end - begin) * 1e-9
    return TimelineView(length, streams, delays, episodes, missing, sorted(marks))


def _first_tick(report: BagReport, found: Scan) -> int:
    """What the seconds of the report count from."""
    return report.first_tick_ns or (report.episodes[0].start_ns if report.episodes else found.span[0])


def _thumbnails(bag: Bag, robot: Robot, found: Scan, view: TimelineView) -> dict[str, list[tuple[str, np.ndarray]]]:
    """Pictures at the begin and the end of every episode and gap, of the first of them."""
    edges = sorted({edge for span in (*view.episodes, *view.missing) for edge in (span.start_s, span.stop_s)})
    edges = [edge for edge in edges if 0 <= edge <= view.length_s] or [0.0, view.length_s]
    wanted = sorted({t for edge in edges[: 2 * CUTS] for t in (max(0.0, edge - NEAR_S), edge + NEAR_S)})
    shown: dict[str, list[tuple[str, np.ndarray]]] = {}
    for camera in robot.cameras:
        times = found.timeline.times.get(camera.topic, np.zeros(0, np.int64))
        if not len(times):
            continue
        at = (times - found.span[0]) * 1e-9
        picked = {int(np.abs(np.where(times >= 0, at, np.inf) - second).argmin()) for second in wanted}
        shown[camera.name] = list(_decoded(bag, camera, picked, at))
    return shown


def _decoded(bag: Bag, camera: Camera, picked: set[int], at: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    decode = decoder_of(camera)
    for number, (_, _, data) in enumerate(bag.raw({camera.topic})):
        if number in picked:
            with suppress(BagError, ImageError):  # the report says so
                yield f"{at[number]:.2f} s", decode(bag.decode(camera.topic, data))


def lines(explanation: Explanation) -> Iterator[str]:
    """The explanation for a terminal."""
    report, view = explanation.report, explanation.view
    rows = f"{len(report.episodes)} episodes, {report.frames} rows of {report.duration_s:.1f} s"
    yield f"{explanation.path}: {report.status}" + (f": {report.reason}" if report.reason else f": {rows}")
    if view is not None:
        width = max(12, *(len(topic) for topic in view.streams))
        yield f"  {'':{width}s}  0 s{f'{view.length_s:.1f} s':>{WIDTH - 3}s}"
        for topic, times in view.streams.items():
            yield f"  {topic:{width}s} |{_strip(times, view.length_s)}| {len(times)} messages{_delay(view, topic)}"
        yield f"  {'episodes':{width}s} |{_bars(view)}| 0, 1, ...: episodes; x: not in the dataset"
        for at, text in view.marks:
            yield f"  {at:8.2f} s  {text}"
        for span in sorted((*view.episodes, *view.missing), key=lambda span: span.start_s):
            yield f"  {span.start_s:8.2f} s  to {span.stop_s:.2f} s  {span.text}"
    for note in report.notes:
        yield f"  note        {note}"


def _strip(times: np.ndarray, length_s: float) -> str:
    """Each character is darker the more messages came in its part of the time."""
    if not len(times) or length_s <= 0:
        return " " * WIDTH
    counts, _ = np.histogram(times, WIDTH, (0, length_s))
    usual = max(1.0, float(np.median(counts[counts > 0])))
    return "".join(SHADES[min(len(SHADES) - 1, int(np.ceil((len(SHADES) - 1) * c / usual)))] for c in counts)


def _bars(view: TimelineView) -> str:
    cells = [" "] * WIDTH
    for mark, spans in (("", view.episodes), ("x", view.missing)):
        for number, span in enumerate(spans):
            first = int(span.start_s / view.length_s * WIDTH) if view.length_s else 0
            last = max(first + 1, round(span.stop_s / view.length_s * WIDTH)) if view.length_s else 1
            for place in range(max(0, first), min(WIDTH, last)):
                if not mark or cells[place] == " " or span.stop_s > span.start_s:
                    cells[place] = mark or str(number % 10)
    return "".join(cells)


def _delay(view: TimelineView, topic: str) -> str:
    if topic not in view.delays:
        return ", without stamps"
    return f", {np.median(view.delays[topic][1]) * 1e3:.1f} ms from stamp to arrival"


def write_explanation(explanation: Explanation, path: Path) -> None:
    """The explanation as one page with every picture inside."""
    report, view = explanation.report, explanation.view
    said = [report.reason] if report.reason else []
    about = Table(
        ("", ""),
        [
            ("became", Marked(report.status)),
            ("length", f"{report.duration_s:.2f} s"),
            ("rows", f"{report.frames} in {len(report.episodes)} episodes at {explanation.robot.dataset_fps:g} fps"),
        ],
    )
    parts = [Part("What became of it", [*said, about, *report.notes])]
    if view is not None:
        spans = sorted((*view.episodes, *view.missing), key=lambda span: span.start_s)
        table = Table(("from s", "to s", ""), [(f"{s.start_s:.2f}", f"{s.stop_s:.2f}", s.text) for s in spans])
        marks = Table(("at s", "mark"), [(f"{at:.2f}", text) for at, text in view.marks])
        streams = Picture(draw_streams(view), "streams: a stroke for each message", heading=False)
        said_of = "Green: episodes; red: what is not in the dataset, and why below; orange: marks, prompts, set clocks."
        parts.append(Part("Time", [said_of, streams, table, *([marks] if view.marks else [])]))
        if view.delays:
            parts.append(Part("From stamp to arrival", [Picture(draw_delays(view), "delays", heading=False)]))
        for camera, shown in explanation.thumbnails.items():
            if shown:
                sheet = contact_sheet([picture for _, picture in shown], [label for label, _ in shown], 6)
                file = BytesIO()
                sheet.save(file, "JPEG", quality=85)
                parts.append(Part(f"Camera {camera} around the cuts", [Picture(file.getvalue(), camera, False)]))
    if report.streams:
        head = ("stream", "messages", "Hz", "lost", "age p50 ms", "p95", "max", "repeats")
        rows: list[Sequence[Cell]] = [
            (
                s.topic,
                s.messages,
                f"{s.rate_hz:.1f}",
                s.drops,
                *(f"{age * 1e3:.1f}" for age in (s.age_p50_s, s.age_p95_s, s.age_max_s)),
                s.repeats,
            )
            for s in report.streams
        ]
        parts.append(Part("Ages at the rows", [Table(head, rows)]))
    write_page(path, f"Recording {explanation.path.resolve().name}", parts)
