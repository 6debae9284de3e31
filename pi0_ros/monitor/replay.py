"""What a replayed policy did, in numbers and drawn: against what the operator did, against itself, and in time.

Errors are in the joints' units and as fractions of their ranges, so that joints can be compared. H actions a chunk, A
joints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pi0_ros.control.chunk import ActionChunk
from pi0_ros.control.latency import Traces
from pi0_ros.robot import Robot
from pi0_ros.robot.space import Space

SECOND = 1_000_000_000
RUNNING = "RUNNING"
CHUNKS = "#D98200"
LEAST = 0.1  # of a joint's range is drawn at least
CLAMPS = ("position", "velocity", "acceleration", "gripper")


@dataclass
class Played:
    """What the nodes did with a recording of J joints. Times in ns of the recording's clock."""

    joints: int
    begin_ns: int = 0
    end_ns: int = 0
    chunks: list[ActionChunk] = field(default_factory=list)
    command_ns: list[int] = field(default_factory=list)
    commands: list[np.ndarray] = field(default_factory=list)  # float64 [J] each
    states: list[tuple[int, str, str]] = field(default_factory=list)  # controller: when, state, reason
    traces: Traces = field(default_factory=Traces)
    controller: Mapping[str, str] = field(default_factory=dict)  # newest values of /diagnostics
    policy: Mapping[str, str] = field(default_factory=dict)
    at_begin: Mapping[str, str] = field(default_factory=dict)  # the controller's when the recording began

    @property
    def sent(self) -> tuple[np.ndarray, np.ndarray]:
        """Times [M] in ns and commands [M, J]."""
        return np.array(self.command_ns, np.int64), np.array(self.commands, np.float64).reshape(-1, self.joints)

    def count(self, key: str) -> int:
        """How many of what the controller counts happened during the recording."""
        return int(self.controller.get(key, 0)) - int(self.at_begin.get(key, 0))


@dataclass(frozen=True)
class Truth:
    """What the operator commanded: times in ns [N] and actions [N, A], NaN where nothing was commanded."""

    times_ns: np.ndarray
    actions: np.ndarray
    space: Space | None = None  # of the actions; None: lines

    def at(self, times_ns: np.ndarray) -> np.ndarray:
        """Actions at these times, [K, A]; NaN beyond the recording and where nothing was commanded."""
        if not len(self.times_ns):
            return np.full((len(times_ns), self.actions.shape[1]), np.nan)
        origin = self.times_ns[0]
        known, asked = (self.times_ns - origin) / SECOND, (times_ns - origin) / SECOND
        space = self.space or Space.lines(self.actions.shape[1])
        beyond = (asked < known[0]) | (asked > known[-1])
        return np.where(beyond[:, None], np.nan, space.interpolated(asked, known, self.actions))


@dataclass(frozen=True)
class JointErrors:
    """One joint: chunks against the operator, commands against the operator, chunks against each other."""

    joint: str
    unit: str
    span: float  # between its limits
    mean: float  # absolute error of all actions of all chunks
    p95: float
    worst: float  # the largest error of any action
    worst_at: float  # when that action was to be executed, s from the beginning; both NaN where nothing is compared
    command: float  # mean absolute error of what the controller sent
    disagreement: float  # mean absolute difference of neighbouring chunks where both have an action

    @property
    def fraction(self) -> float:
        """The mean error as a fraction of the range."""
        return self.mean / self.span


@dataclass(frozen=True)
class Report:
    """One replay."""

    name: str
    seconds: float
    chunks: int
    joints: tuple[JointErrors, ...]
    by_step: tuple[float, ...]  # mean error of the i-th action of a chunk, fraction of the range, all joints
    clamps: Mapping[str, int]
    holds: int
    refused: int
    dropped: int
    latency_ms: Mapping[str, float] = field(default_factory=dict)  # p50, p99 from picture to first command
    states: tuple[tuple[float, str, str], ...] = ()  # s from the beginning, state, reason

    @property
    def error(self) -> float:
        """Mean error over all joints, fraction of their ranges; NaN where nothing could be compared."""
        return _mean([joint.fraction for joint in self.joints])

    @property
    def disagreement(self) -> float:
        """Mean disagreement over all joints, fraction of their ranges."""
        return _mean([joint.disagreement / joint.span for joint in self.joints])

    def to_dict(self) -> dict[str, Any]:
        """JSON values; null where there is no number."""
        content = asdict(self) | {"error": self.error, "disagreement": self.disagreement}
        content["joints"] = [{**asdict(joint), "fraction": joint.fraction} for joint in self.joints]
        return dict(_plain(content))


@dataclass(frozen=True)
class Limits:
    """What a replay may not exceed; None: anything goes."""

    error: float | None = None  # fraction of the range, mean over joints
    joint_error: float | None = None  # the same of the worst joint
    disagreement: float | None = None
    clamps: int | None = None
    holds: int | None = None
    latency_ms: float | None = None  # p99

    def exceeded(self, report: Report) -> list[str]:
        """A sentence for each limit that is; what cannot be measured exceeds it."""
        worst = max(report.joints, key=lambda joint: np.nan_to_num(joint.fraction, nan=-1.0), default=None)
        measured = [
            ("error", self.error, report.error),
            (f"error of {worst.joint if worst else '-'}", self.joint_error, worst.fraction if worst else np.nan),
            ("disagreement", self.disagreement, report.disagreement),
            ("clamps", self.clamps, sum(report.clamps.values())),
            ("holds", self.holds, report.holds),
            ("latency p99 in ms", self.latency_ms, report.latency_ms.get("p99", np.nan)),
        ]
        return [
            f"{report.name}: {name} is {value:.4g}, allowed is {limit:g}"
            for name, limit, value in measured
            if limit is not None and not value <= limit
        ]


def measure(name: str, robot: Robot, truth: Truth, played: Played) -> Report:
    """The numbers of one replay."""
    begin, end, space = played.begin_ns, played.end_ns, robot.action_space
    truth = replace(truth, actions=space.unwrapped(truth.actions), space=space)
    inside = [chunk for chunk in played.chunks if begin <= chunk.stamp_ns <= end]
    errors = [chunk_errors(chunk, truth, space) for chunk in inside]
    times = [(_times_ns(chunk) - begin) / SECOND for chunk in inside]
    apart = [disagreement(one, other, space) for one, other in zip(inside, inside[1:])]
    command_ns, commands = played.sent
    sent = (command_ns >= begin) & (command_ns <= end)
    commanded = np.abs(space.short_way(commands[sent], truth.at(command_ns[sent])))
    spans = np.array([joint.span for joint in robot.action_joints])
    joints = tuple(
        JointErrors(
            joint.name,
            joint.unit,
            float(spans[place]),
            _mean([error[:, place] for error in errors]),
            _quantile([error[:, place] for error in errors], 0.95),
            *_worst([error[:, place] for error in errors], times),
            _mean([commanded[:, place]]),
            _mean([difference[:, place] for difference in apart]),
        )
        for place, joint in enumerate(robot.action_joints)
    )
    steps = max((len(error) for error in errors), default=0)
    delays = [trace.total_ms for trace in played.traces.complete if begin <= trace.stamp_ns <= end]
    return Report(
        name,
        (end - begin) / SECOND,
        len(inside),
        joints,
        tuple(_mean([error[step] / spans for error in errors if len(error) > step]) for step in range(steps)),
        {key: played.count(f"clamps_{key}") for key in CLAMPS},
        played.count("stale_events"),
        played.count("refused"),
        played.count("dropped"),
        {"p50": float(np.median(delays)), "p99": float(np.quantile(delays, 0.99))} if delays else {},
        tuple(((at - begin) / SECOND, state, reason) for at, state, reason in played.states if at >= begin),
    )


def chunk_errors(chunk: ActionChunk, truth: Truth, space: Space) -> np.ndarray:
    """|action - operator's action at that time|, float64 [H, A]; NaN where there was none."""
    return np.asarray(np.abs(space.short_way(chunk.actions, truth.at(_times_ns(chunk)))))


def _times_ns(chunk: ActionChunk) -> np.ndarray:
    """When each action is to be executed, int64 [H]."""
    return np.asarray(chunk.stamp_ns + chunk.dt_ns * np.arange(len(chunk.actions)))


def disagreement(one: ActionChunk, other: ActionChunk, space: Space | None = None) -> np.ndarray:
    """|other - one| at those of `other`'s actions that lie within `one`, float64 [K, A]; in a `space` that has them,
    continuous joints the short way round, and rotations by the nearest names. None: lines."""
    space = space or Space.lines(one.actions.shape[1])
    since_s = (other.stamp_ns - one.stamp_ns) / SECOND
    times = since_s + other.dt_ns / SECOND * np.arange(len(other.actions))
    known = one.dt_ns / SECOND * np.arange(len(one.actions))
    both = (times >= 0) & (times <= known[-1] + 1e-9)
    there = space.interpolated(times[both], known, space.unwrapped(one.actions))
    return np.asarray(np.abs(space.short_way(other.actions[both], there)))


def table(reports: Sequence[Report]) -> list[tuple[str, ...]]:
    """Rows for people, the first is the head: a column for each replay."""
    rows = [("", *(report.name for report in reports))]

    def row(name: str, values: Sequence[str]) -> None:
        rows.append((name, *values))

    row("recording", [f"{report.seconds:.1f} s" for report in reports])
    row("chunks", [str(report.chunks) for report in reports])
    row("error, mean of joints", [_percent(report.error) for report in reports])
    for place, joint in enumerate(reports[0].joints):
        found = [report.joints[place] for report in reports]
        row(
            f"  {joint.joint} ({joint.unit})",
            [f"{one.mean:.4f} (p95 {one.p95:.4f})  {_percent(one.fraction)}" for one in found],
        )
    row("chunk to chunk", [_percent(report.disagreement) for report in reports])
    row(
        "command, mean of joints",
        [_percent(_mean([joint.command / joint.span for joint in report.joints])) for report in reports],
    )
    row("clamps", [_clamps(report) for report in reports])
    row("holds", [str(report.holds) for report in reports])
    row("refused, dropped", [f"{report.refused}, {report.dropped}" for report in reports])
    row("picture to command", [_latency(report) for report in reports])
    return rows


def draw(
    path: Path,
    robot: Robot,
    truth: Truth,
    replays: Sequence[tuple[Report, Played]],
    incidents: Sequence[float] = (),
) -> None:
    """Every joint over time, a column for each replay, as a PNG. `incidents`: s from the beginning of the recording."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    joints, columns = robot.action_joints, len(replays)
    figure = Figure(figsize=(min(7 * columns + 3, 18), 1.5 * len(joints) + 1.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(joints), columns, squeeze=False, sharex=True, sharey="row")
    for column, (report, played) in enumerate(replays):
        begin_ns, (command_ns, commands) = played.begin_ns, played.sent
        command_ns, commands = command_ns[command_ns >= begin_ns], commands[command_ns >= begin_ns]
        seconds = (truth.times_ns - begin_ns) / SECOND
        axes[0, column].set_title(f"{report.name}: error {_percent(report.error)}", fontsize=10)
        sent_s = (command_ns - begin_ns) / SECOND
        held = [(at, end) for at, end, state in _states(report) if state != RUNNING]
        for place, joint in enumerate(joints):
            panel = axes[place, column]
            for number, (at, end) in enumerate(held):
                panel.axvspan(at, end, color="#999999", alpha=0.25, linewidth=0, label="held" if number == 0 else None)
            for number, at in enumerate(incidents):
                label = "incident" if number == 0 else None
                panel.axvline(at, color="#B02A00", linewidth=1.2, linestyle="--", label=label)
            inside = [chunk for chunk in played.chunks if chunk.stamp_ns >= begin_ns]
            for number, chunk in enumerate(inside):
                times = (chunk.stamp_ns - begin_ns + chunk.dt_ns * np.arange(len(chunk.actions))) / SECOND
                label = "chunks" if number == 0 else None
                panel.plot(times, chunk.actions[:, place], color=CHUNKS, linewidth=0.9, alpha=0.75, label=label)
            panel.plot(sent_s, commands[:, place], color="#0072B2", linewidth=1.2, label="command")
            panel.plot(seconds, truth.actions[:, place], color="black", linewidth=1.2, label="operator")
            panel.set_xlim(0, max(report.seconds, 1e-3))
            _at_least(panel, LEAST * joint.span)
            panel.grid(color="#e5e5e5", linewidth=0.6)
            if column == 0:
                panel.set_ylabel(f"{joint.name}\n({joint.unit})", fontsize=9)
        axes[-1, column].set_xlabel("time (s)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _states(report: Report) -> list[tuple[float, float, str]]:
    """From when to when (s) the controller was in which state."""
    ends = [at for at, _, _ in report.states[1:]] + [report.seconds]
    return [(at, end, state) for (at, state, _), end in zip(report.states, ends)]


def _at_least(panel: Any, height: float) -> None:
    """Widen the vertical axis to `height` where it shows less: a joint that hardly moves looks so."""
    low, high = panel.get_ylim()
    if high - low < height:
        panel.set_ylim((low + high - height) / 2, (low + high + height) / 2)


def _mean(parts: Sequence[Any]) -> float:
    values = np.concatenate([np.ravel(part) for part in parts]) if len(parts) else np.empty(0)
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else float("nan")


def _worst(errors: Sequence[np.ndarray], times: Sequence[np.ndarray]) -> tuple[float, float]:
    """The largest of all errors and its time; both NaN where nothing is compared."""
    values = np.concatenate(errors) if len(errors) else np.empty(0)
    if not np.isfinite(values).any():
        return float("nan"), float("nan")
    place = int(np.nanargmax(values))
    return float(values[place]), float(np.concatenate(times)[place])


def _quantile(parts: Sequence[Any], share: float) -> float:
    values = np.concatenate([np.ravel(part) for part in parts]) if len(parts) else np.empty(0)
    values = values[np.isfinite(values)]
    return float(np.quantile(values, share)) if len(values) else float("nan")


def _percent(fraction: float) -> str:
    return f"{fraction:.2%} of range" if np.isfinite(fraction) else "not comparable"


def _clamps(report: Report) -> str:
    named = ", ".join(f"{count} {key}" for key, count in report.clamps.items() if count)
    return f"{sum(report.clamps.values())}" + (f" ({named})" if named else "")


def _latency(report: Report) -> str:
    if not report.latency_ms:
        return "no chunk was followed"
    return f"p50 {report.latency_ms['p50']:.0f} ms, p99 {report.latency_ms['p99']:.0f} ms"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
