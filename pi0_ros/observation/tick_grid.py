"""At which times a recording is looked at."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from pi0_ros.observation.stream_buffer import SECOND


def tick_grid(start_ns: int, end_ns: int, fps: float, streams_stamps: Iterable[np.ndarray]) -> np.ndarray:
    """Ticks at `fps` from `start_ns` to `end_ns`, with the phase that keeps them farthest from the streams' stamps.

    Ticks that fall on a camera's stamps pick by jitter now one image and now the next: a quarter of the images comes
    twice and another quarter never. So of 256 phases the one is taken whose ticks keep the greatest distance from the
    stamps. A stream counts with the distance that 1 % of its stamps fall below, and the worst stream decides.

    Args:
        streams_stamps: for each camera its stamps in ns, int64 [N].

    Returns:
        The ticks in ns, int64 [K]; empty when the time is shorter than one phase. Neighbours are 1/fps apart to 1 ns.
    """
    period = SECOND / fps
    phases = np.arange(256) * (period / 256)
    slack = np.full(len(phases), np.inf)
    for stamps in streams_stamps:
        inside = np.asarray(stamps, np.int64)
        inside = inside[(inside >= start_ns - period) & (inside <= end_ns + period)]
        if len(inside):
            folded = (inside - start_ns) % period
            rank = (len(inside) - 1) // 100
            apart = (np.abs(folded - phase) for phase in phases)
            near = [np.partition(np.minimum(far, period - far), rank)[rank] for far in apart]
            slack = np.minimum(slack, near)
    first = start_ns + round(float(phases[np.argmax(slack)]))
    count = max(0, int((end_ns - first) / period + 1e-9) + 1) if end_ns >= first else 0
    return first + np.rint(np.arange(count) * period).astype(np.int64)
