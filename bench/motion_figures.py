"""What a motion is like at the transitions and between them, from the commands that were sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from pi0_ros.control.chunk import ActionChunk
from pi0_ros.control.controller import Controller
from pi0_ros.control.splines import chunk_spline
from pi0_ros.control.states import Command, State

TRANSITION_S = 0.2  # a transition is looked at for this long, whatever the strategy
SETTLE_S = 2.0  # after arming: the first motion is no transition
LAGS_S = np.arange(-0.1, 0.3, 0.001)


@dataclass
class Trace:
    """The commands of one run, tick by tick, and which chunk they followed."""

    period: float
    gripper: np.ndarray  # bool [J]
    interpolation: str
    times: list[float] = field(default_factory=list)
    positions: list[np.ndarray] = field(default_factory=list)
    chunks: list[ActionChunk | None] = field(default_factory=list)  # followed at that tick

    def add(self, now: float, command: Command | None, controller: Controller) -> None:
        """Take down a tick; only what is sent while chunks are followed counts."""
        if command is None:
            return
        self.times.append(now)
        self.positions.append(command.position.copy())
        self.chunks.append(controller.timeline.chunk if controller.state is State.RUNNING else None)


@dataclass
class Figures:
    """Absolute values per tick and joint (grippers left out): `transition`, `mid`, and `chunk_transition` and
    `chunk_mid` of the chunks alone."""

    velocity_step: dict[str, np.ndarray]  # unit/s
    acceleration: dict[str, np.ndarray]  # unit/s^2
    jerk: dict[str, np.ndarray]  # unit/s^3

    def p99(self, what: str, where: str, percentile: float = 99.0) -> float:
        values = getattr(self, what)[where]
        return float(np.percentile(values, percentile)) if values.size else float("nan")

    def peak(self, what: str, where: str) -> float:
        return float(getattr(self, what)[where].max(initial=0.0))

    def ratio(self, whose: str = "", percentile: float = 99.0) -> float:
        """Transition acceleration against that between transitions, a percentile; `whose` is empty or `chunk_`."""
        transition, mid = (self.p99("acceleration", f"{whose}{where}", percentile) for where in ("transition", "mid"))
        return transition / mid


def figures(traces: list[Trace]) -> Figures:
    """Difference the commands and sort them into transition and mid-chunk."""
    parts: dict[str, list[np.ndarray]] = {"transition": [], "mid": [], "chunk_transition": [], "chunk_mid": []}
    for trace in traces:
        x = np.array(trace.positions)[:, ~trace.gripper]
        at_transition, counts = places(trace)
        for whose, changes in (("", difference(x, trace.period)), ("chunk_", of_the_chunks(trace))):
            parts[f"{whose}transition"].append(changes[:, at_transition & counts])
            parts[f"{whose}mid"].append(changes[:, ~at_transition & counts])
    joined = {where: np.abs(np.concatenate(list_, axis=1)) for where, list_ in parts.items()}
    period = traces[0].period
    return Figures(
        {where: values[0] * period for where, values in joined.items()},
        {where: values[0] for where, values in joined.items()},
        {where: values[1] for where, values in joined.items()},
    )


def difference(x: np.ndarray, period: float) -> np.ndarray:
    """Acceleration and jerk as backward differences of positions [n, J], together [2, n, J]; 0 where there is none."""
    acceleration, jerk = np.zeros((2, *x.shape))
    acceleration[2:] = np.diff(x, n=2, axis=0) / period**2
    jerk[3:] = np.diff(x, n=3, axis=0) / period**3
    return np.stack([acceleration, jerk])


def places(trace: Trace) -> tuple[np.ndarray, np.ndarray]:
    """Which ticks belong to a transition, and which count at all, bool [n] each."""
    times = np.array(trace.times)
    joins = [
        k for k in range(1, len(times)) if trace.chunks[k] is not None and trace.chunks[k] is not trace.chunks[k - 1]
    ]
    at_transition = np.zeros(len(times), bool)
    for k in joins:
        at_transition[(times >= times[k]) & (times < times[k] + TRANSITION_S)] = True
    following = np.array([chunk is not None for chunk in trace.chunks])
    first = times[joins[0]] if joins else np.inf
    return at_transition, following & (times > first + SETTLE_S)


def of_the_chunks(trace: Trace) -> np.ndarray:
    """What the chunks that were followed ask for at every tick, had each been followed alone, [2, n, J]."""
    times, changes = np.array(trace.times), np.zeros((2, len(trace.times), int((~trace.gripper).sum())))
    for chunk in {id(chunk): chunk for chunk in trace.chunks if chunk is not None}.values():
        ticks = np.flatnonzero([other is chunk for other in trace.chunks])
        spline = chunk_spline(chunk, trace.interpolation, trace.gripper, chunk.stamp)
        at = times[ticks, None] - chunk.stamp - trace.period * np.arange(3, -1, -1)
        x = spline.positions(at.reshape(-1)).reshape(*at.shape, -1)[..., ~trace.gripper]
        changes[0, ticks] = np.diff(x, n=2, axis=1)[:, -1] / trace.period**2
        changes[1, ticks] = np.diff(x, n=3, axis=1)[:, -1] / trace.period**3
    return changes


def lag(trace: Trace, path: Callable[[np.ndarray], np.ndarray]) -> tuple[float, float]:
    """By how many s the commands trail `path` (times [n] to positions [n, J]), and the rms distance without shift."""
    counts, arm = places(trace)[1], ~trace.gripper
    times, x = np.array(trace.times)[counts], np.array(trace.positions)[counts][:, arm]
    errors = [float(np.mean((x - path(times - shift)[:, arm]) ** 2)) for shift in LAGS_S]
    return float(LAGS_S[np.argmin(errors)]), float(np.sqrt(np.mean((x - path(times)[:, arm]) ** 2)))
