"""Numbers for people."""

from __future__ import annotations

import pytest

from pi0_ros.base.printing import duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (9.96, "10.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (250, "4 min 10 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 0 min"),
        (6065, "1 h 41 min"),
        (7199, "2 h 0 min"),
    ],
)
def test_a_length_of_time_is_said_in_units_that_fit(seconds: float, text: str) -> None:
    assert duration(seconds) == text
