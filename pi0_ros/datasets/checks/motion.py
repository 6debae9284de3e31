"""Checks of motion: state and action are alive, without jumps, and the action is ahead of the state."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pi0_ros.base.findings import Finding, error, note, warning
from pi0_ros.base.printing import numbers
from pi0_ros.datasets.folder import DatasetFolder
from pi0_ros.datasets.layout import ACTION, STATE
from pi0_ros.robot.space import space_of

JUMP_FRACTION = 0.3  # a step of this fraction of a dimension's range ...
JUMP_TIMES = 20.0  # ... and so many times its usual largest step (99 %) is a jump
JUMP_SPEED = 2.0  # with a robot file: a step beyond so many times the joint's greatest velocity
LAG_S = 1.0  # the state follows the action within this time, or not at all
LATE_S = 0.4  # a robot that follows later is hard to learn from
CORRELATED = 0.3
REPEATED = 0.1  # of the frames
IDLE_STEP = 1e-3  # a command that changes less between two frames stands still


def check_motion(folder: DatasetFolder) -> Iterator[Finding]:
    """Look at the state and action of all rows."""
    columns = folder.columns
    for key in (STATE, ACTION):
        if key in columns and columns[key].ndim == 2 and len(columns[key]) > 1:
            yield from _dead(folder, key)
            yield from _jumps(folder, key)
    if STATE in columns and ACTION in columns and columns[STATE].shape == columns[ACTION].shape:
        yield from _lag(folder)
    yield from _idle(folder)
    yield from _repeats(folder)


def _repeats(folder: DatasetFolder) -> Iterator[Finding]:
    """Pictures that are shown again and again, by the conversion report: the camera was slower than the dataset."""
    if folder.robot is None:
        return
    bags = [bag for bag in folder.conversion.get("bags", ()) if bag.get("streams")]
    rows = sum(episode["frames"] for bag in bags for episode in bag.get("episodes", ()))
    for camera in folder.robot.cameras:
        again = sum(s["repeats"] for bag in bags for s in bag["streams"] if s["topic"] == camera.topic)
        if rows and again > REPEATED * rows:
            yield warning(
                "pictures",
                f"{camera.topic}: {100 * again / rows:.0f} % of the frames show the picture before",
                "convert with --fps auto, or make the camera faster",
            )


def _dead(folder: DatasetFolder, key: str) -> Iterator[Finding]:
    values = folder.columns[key]
    spread = np.ptp(values, axis=0)
    names = np.array(folder.names(key))
    dead = names[spread <= 1e-6 * np.maximum(1.0, np.abs(values).max(axis=0))]
    if len(dead) == len(names):
        yield error("motion", f"{key} never changes", "nothing can be learned from it: is the right topic recorded?")
    elif len(dead):
        yield warning(
            "motion",
            f"{key}: {', '.join(dead)} never changes",
            "normalising divides by its spread: leave the dimension out, or let `pi0 stats` floor it",
        )


def _jumps(folder: DatasetFolder, key: str) -> Iterator[Finding]:
    values = folder.columns[key].astype(np.float64)
    joints = () if folder.robot is None else folder.robot.state_joints if key == STATE else folder.robot.action_joints
    known = len(joints) == values.shape[1]
    steps = np.abs(space_of(joints).short_way(values[1:], values[:-1]) if known else np.diff(values, axis=0))
    inside = np.ones(len(steps), bool)
    inside[[entry.start - 1 for entry in folder.entries if 0 < entry.start <= len(steps)]] = False  # between episodes
    limits = np.maximum(JUMP_FRACTION * np.ptp(values, axis=0), JUMP_TIMES * np.quantile(steps[inside], 0.99, axis=0))
    switches = np.array([_is_gripper(name) for name in folder.names(key)])
    if joints and len(joints) == values.shape[1]:
        speeds = np.array([joint.velocity for joint in joints]) * JUMP_SPEED / folder.fps
        absolute = np.array([joint.action != "velocity" or key == STATE for joint in joints])
        limits = np.where(absolute, speeds, limits)
        switches = np.array([joint.kind in ("gripper", "speed") for joint in joints])  # a joystick jumps
    jumps = (steps > limits) & inside[:, None] & ~switches & (limits > 0)
    for dim in np.flatnonzero(jumps.any(axis=0)):
        rows = np.flatnonzero(jumps[:, dim])
        entries = sorted({int(np.searchsorted([e.start for e in folder.entries], row, "right")) - 1 for row in rows})
        largest, unit = steps[rows, dim].max(), folder.units(key)[dim]
        yield warning(
            "motion",
            f"{key}: {folder.names(key)[dim]} jumps {len(rows)} times by up to {largest:.3g}{unit and ' ' + unit} "
            f"within one frame, in episodes {numbers(entries)}",
            "dropped messages, a wrapped angle or a limit in the wrong unit: `pi0 dataset plot` shows where",
        )


def _is_gripper(name: str) -> bool:
    return any(word in name.lower() for word in ("gripper", "finger", "claw", "suction"))


def _lag(folder: DatasetFolder) -> Iterator[Finding]:
    state, action = folder.columns[STATE].astype(np.float64), folder.columns[ACTION].astype(np.float64)
    spread = np.maximum(np.ptp(state, axis=0), 1e-9)
    if (np.abs(state - action) / spread).max() < 1e-4:
        yield error(
            "motion",
            "the action is the state itself: a policy learns to stand still",
            "record the command, or let the robot file say `action: {source: next_state}` and convert again",
        )
        return
    inside = np.ones(len(state) - 1, bool)
    inside[[entry.start - 1 for entry in folder.entries if entry.start > 0]] = False
    if (np.abs(state[1:] - action[:-1])[inside] / spread).max() < 1e-4:
        yield note("motion", "the action is the next frame's state, not a recorded command")
        return
    found = lag_frames(folder)
    if found is None:
        yield note("motion", "no lag of the state behind the action can be told: they are not of one kind")
        return
    lag_s, text = found / folder.fps, f"the state follows the action after {found / folder.fps * 1e3:.0f} ms"
    if found < 0:
        yield warning(
            "motion", f"{text}: the state is ahead", "the streams' clocks differ, or action and state are swapped"
        )
    elif lag_s > LATE_S:
        yield warning("motion", text, "a late clock of the state, a slow robot, or commands far ahead of it")
    else:
        yield note("motion", text)


def lag_frames(folder: DatasetFolder) -> float | None:
    """By how many frames the state's changes follow the action's: the shift with the best correlation, the median over
    all dimensions that move, refined between frames by a parabola; None where nothing correlates."""
    reach = max(2, round(LAG_S * folder.fps))
    shifts = np.arange(-reach, reach + 1)
    sums = np.zeros((len(shifts), folder.columns[STATE].shape[1]))
    power = np.zeros((2, *sums.shape))
    for entry in folder.entries:
        rows = folder.rows(entry)
        state, action = (np.diff(folder.columns[key][rows].astype(np.float64), axis=0) for key in (STATE, ACTION))
        if len(state) <= 2 * reach:
            continue
        inner = slice(reach, len(state) - reach)
        for place, shift in enumerate(shifts):
            a, s = action[inner], state[inner.start + shift : inner.stop + shift]
            sums[place] += (a * s).sum(axis=0)
            power[:, place] += (a**2).sum(axis=0), (s**2).sum(axis=0)
    scale = np.sqrt(power.prod(axis=0))
    correlation = sums / np.where(scale > 0, scale, np.inf)
    best = correlation.argmax(axis=0)
    good = (correlation.max(axis=0) > CORRELATED) & (best > 0) & (best < len(shifts) - 1)
    found = []
    for dim in np.flatnonzero(good):
        before, peak, after = correlation[best[dim] - 1 : best[dim] + 2, dim]
        curvature = before - 2 * peak + after
        found.append(shifts[best[dim]] + (0.5 * (before - after) / curvature if curvature < 0 else 0.0))
    return float(np.median(found)) if found else None


def _idle(folder: DatasetFolder) -> Iterator[Finding]:
    action = folder.columns.get(ACTION)
    if action is None or action.ndim != 2 or not folder.entries:
        return
    moving = np.abs(np.diff(action, axis=0)).max(axis=1) >= IDLE_STEP
    fractions, waits = [], []
    for entry in folder.entries:
        part = moving[entry.start : entry.start + entry.length - 1]
        fractions.append(1.0 - part.mean() if len(part) else 1.0)
        waits.append((int(part.argmax()) if part.any() else entry.length) / folder.fps)
    still = [entry.index for entry, fraction in zip(folder.entries, fractions) if fraction > 0.99]
    if still:
        yield warning("motion", f"the action stands still in episodes {numbers(still)}", "leave them out")
    wait = float(np.median(waits))
    if wait > 1.0:
        yield warning(
            "motion",
            f"half of the episodes begin with {wait:.1f} s or more without motion",
            "a policy learns to wait: cut the start, or train with the mask of idle frames",
        )
