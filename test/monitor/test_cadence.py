"""How much of a chunk will be executed: what the planned path shows."""

from __future__ import annotations

import numpy as np
import pytest
from chunks import chunk_of

from pi0_ros.control.chunk import ActionChunk
from pi0_ros.monitor.plan import MARGIN, Cadence


def chunk(stamp: float) -> ActionChunk:
    return chunk_of(stamp, 0.05, np.arange(24.0)[:, None], ("joint",))


def test_until_the_next_chunk_takes_over() -> None:
    cadence = Cadence()
    cadence.arrived(10.0, 10.1)
    assert cadence.until(chunk(10.0)) == chunk(10.0).end  # nobody knows when the next one comes
    cadence.arrived(10.4, 10.5)
    assert cadence.until(chunk(10.4)) == pytest.approx(10.4 + MARGIN * 0.5)
    cadence.arrived(10.8, 11.2)  # late: believed at once
    assert cadence.until(chunk(10.8)) == pytest.approx(10.8 + MARGIN * 0.8)
    cadence.arrived(11.2, 11.3)  # quick again: slowly
    assert 11.2 + MARGIN * 0.5 < cadence.until(chunk(11.2)) < 11.2 + MARGIN * 0.8
    cadence.arrived(3.0, 3.1)  # simulated time began anew
    assert cadence.until(chunk(3.0)) == chunk(3.0).end
