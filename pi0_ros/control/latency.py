"""Where the time goes between a picture and the first command that follows from it, and what to do about it.

Policy and controller each say what they know of a chunk as a map of strings (the values of a diagnostic status on
`pi0/latency`); `Traces` joins the two halves by the chunk's stamp. No ROS here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pi0_ros.base.errors import InputError

# stage, what happens in it, what shortens it
STAGES: tuple[tuple[str, str, str], ...] = (
    ("receive", "the picture comes from the camera", "a driver that stamps at capture, a compressed topic"),
    ("wait", "it waits for the inference to begin", "a higher policy rate, a camera with more pictures per second"),
    ("preprocess", "decoding, resizing, normalising", "smaller pictures, faster JPEG decoding (simplejpeg)"),
    ("link", "to the policy server and back", "a wired network, the server nearer to the robot"),
    ("infer", "the network", "a faster GPU, fewer flow steps (num_steps), fewer cameras"),
    ("publish", "actions into the robot's units, and out", "nothing: this should take a millisecond"),
    ("deliver", "the chunk reaches the controller", "relieve the controller's machine, see its tick_p99_ms"),
    ("command", "the first tick that follows it", "a higher control_rate_hz, realtime.priority"),
)
POLICY_STAGES = tuple(name for name, _, _ in STAGES[:6])
NAMES = tuple(name for name, _, _ in STAGES)
STATUSES = ("pi0_ros: chunk published", "pi0_ros: chunk followed")  # in DiagnosticArrays
KEPT = 256  # halves that wait for the other one


@dataclass(frozen=True)
class Trace:
    """One chunk's way."""

    stamp_ns: int  # the chunk's: when the policy looked at its newest pictures
    dt: float  # s between its actions
    actions: int
    stages_ms: Mapping[str, float]  # every one of NAMES

    @property
    def total_ms(self) -> float:
        """From the oldest picture's capture to the first command."""
        return sum(self.stages_ms.values())

    @property
    def delay_s(self) -> float:
        """From the chunk's stamp to the first command: its actions before that are past when it is taken up."""
        return (self.total_ms - self.stages_ms["receive"] - self.stages_ms["wait"]) * 1e-3


def policy_half(
    stamp_ns: int, dt: float, actions: int, published_ns: int, stages_ms: Mapping[str, float]
) -> dict[str, object]:
    """What the policy says of a chunk; `stages_ms` has the POLICY_STAGES, missing ones take no time."""
    times = {f"{name}_ms": float(stages_ms.get(name, 0.0)) for name in POLICY_STAGES}
    return {"chunk": stamp_ns, "dt": dt, "actions": actions, "published": published_ns, **times}


def controller_half(stamp_ns: int, accepted_ns: int, commanded_ns: int) -> dict[str, object]:
    """What the controller says of a chunk: when it came, and when the first command followed it."""
    return {"chunk": stamp_ns, "accepted": accepted_ns, "first_command": commanded_ns}


class Traces:
    """Joins the halves. A chunk that no command ever followed (disarmed, dropped, replaced) leaves no trace."""

    def __init__(self) -> None:
        self.complete: list[Trace] = []
        self.published = 0  # chunks that the policy has told of
        self._policy: dict[int, Mapping[str, str]] = {}
        self._controller: dict[int, Mapping[str, str]] = {}

    def add(self, values: Mapping[str, str]) -> None:
        """Take either half, in any order. ValueError where it is not one."""
        try:
            stamp_ns, of_policy = int(values["chunk"]), "published" in values
            mine, other = (self._policy, self._controller) if of_policy else (self._controller, self._policy)
            self.published += of_policy
            half = other.pop(stamp_ns, None)
            if half is None:
                mine[stamp_ns] = values
                while len(mine) > KEPT:
                    del mine[next(iter(mine))]
                return
            self.complete.append(_joined(*((values, half) if of_policy else (half, values))))
        except (KeyError, ValueError) as error:
            raise InputError(f"no half of a latency trace: {error!r}") from error

    def take(self, messages: Iterable[Any]) -> None:
        """Add the halves in DiagnosticArrays, whether heard or recorded."""
        for message in messages:
            for status in message.status:
                if status.name in STATUSES:
                    self.add({pair.key: pair.value for pair in status.values})


def _joined(policy: Mapping[str, str], controller: Mapping[str, str]) -> Trace:
    published, accepted, commanded = int(policy["published"]), int(controller["accepted"]), controller["first_command"]
    stages = {name: float(policy[f"{name}_ms"]) for name in POLICY_STAGES}
    stages |= {"deliver": (accepted - published) * 1e-6, "command": (int(commanded) - accepted) * 1e-6}
    return Trace(int(policy["chunk"]), float(policy["dt"]), int(policy["actions"]), stages)


@dataclass(frozen=True)
class Summary:
    """Figures of several traces; ms where not said otherwise."""

    traces: int
    stages: Mapping[str, tuple[float, float, float]]  # median, 95th percentile, greatest; with "total"
    rate_hz: float  # of chunks that were followed
    inference_ms: float  # 95th percentile of preprocess to publish: the shortest time between two chunks
    dt: float  # s
    actions: int
    delay_steps: int  # 95th percentile of the delay, in steps of the chunk, rounded up
    horizon_steps: int  # steps from one chunk to the next, rounded up

    @property
    def dominant(self) -> str:
        """The stage with the greatest median."""
        return max(NAMES, key=lambda name: self.stages[name][0])


def summarise(traces: Sequence[Trace]) -> Summary:
    """Figures of at least two traces. ValueError for fewer."""
    if len(traces) < 2:
        raise InputError(f"{len(traces)} traces are too few: at least 2 chunks must be published and followed")
    columns = {name: [trace.stages_ms[name] for trace in traces] for name in NAMES}
    columns["total"] = [trace.total_ms for trace in traces]
    stages = {
        name: (float(np.median(column)), float(np.percentile(column, 95)), max(column))
        for name, column in columns.items()
    }
    newest = traces[-1]
    interval = float(np.median(np.diff(sorted(trace.stamp_ns for trace in traces)))) * 1e-9
    busy = [sum(trace.stages_ms[name] for name in ("preprocess", "link", "infer", "publish")) for trace in traces]
    delay = float(np.percentile([trace.delay_s for trace in traces], 95))
    return Summary(
        traces=len(traces),
        stages=stages,
        rate_hz=1.0 / interval if interval else math.inf,
        inference_ms=float(np.percentile(busy, 95)),
        dt=newest.dt,
        actions=newest.actions,
        delay_steps=math.ceil(delay / newest.dt - 1e-6),
        horizon_steps=math.ceil(interval / newest.dt - 1e-6),
    )


def table(summary: Summary) -> str:
    """The stages, one per line."""
    total = summary.stages["total"][0]
    lines = [f"{'stage':<11s}{'median':>9s}{'p95':>9s}{'max':>9s}  ms"]
    for name, what, _ in (*STAGES, ("total", "from the picture to the command", "")):
        median, p95, greatest = summary.stages[name]
        fraction = f"{median / total:4.0%}  " if total > 0 and name != "total" else "      "
        lines.append(f"{name:<11s}{median:9.1f}{p95:9.1f}{greatest:9.1f}  {fraction}{what}")
    return "\n".join(lines)


def advice(summary: Summary) -> list[str]:
    """What the figures mean for rate, delay and horizon, in sentences; the most pressing first."""
    delay, horizon, actions = summary.delay_steps, summary.horizon_steps, summary.actions
    most_hz = 1e3 / summary.inference_ms if summary.inference_ms > 0 else math.inf
    sentences = []
    if delay + horizon > actions:
        sentences.append(
            f"Chunks end before the next one takes over ({delay} + {horizon} steps of {actions}): the robot stops and "
            "goes. Raise the policy rate, shorten the delay, or train with a longer horizon."
        )
    sentences.append(
        f"A chunk takes over {delay} steps ({delay * summary.dt * 1e3:.0f} ms) after its observation and is followed "
        f"for {horizon} steps, of its {actions} actions: {max(0, actions - delay - horizon)} to spare."
    )
    cure = next(cure for name, _, cure in STAGES if name == summary.dominant)
    median, total = summary.stages[summary.dominant][0], summary.stages["total"][0]
    sentences.append(
        f"Most of the time goes into `{summary.dominant}`, {median:.1f} of {total:.1f} ms. What shortens it: {cure}."
    )
    if summary.rate_hz > 0.9 * most_hz:
        sentences.append(
            f"The policy is at its limit: an inference takes up to {summary.inference_ms:.0f} ms. Set policy_rate_hz "
            f"to {0.8 * most_hz:.1f} at most, so that its pictures do not wait."
        )
    elif summary.rate_hz < 0.5 * most_hz:
        sentences.append(
            f"There is room: {summary.rate_hz:.1f} chunks per second of {0.8 * most_hz:.1f} that are possible. A "
            "higher policy_rate_hz answers sooner to what the cameras see."
        )
    longest = actions - delay  # of the execution horizon s: delay d <= s <= H - d (arXiv 2506.07339)
    limits = f"{delay} to {longest} steps" if delay <= longest else "none, its chunks are too short"
    sentences.append(f"Real-time chunking: inference delay {delay} steps, execution horizon {limits}, now {horizon}.")
    return sentences
