"""What was heard on one topic."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass
class TopicReport:
    """What was heard on one topic."""

    topic: str
    wanted_type: str
    types: tuple[str, ...] = ()  # offered on the network under this name
    publishers: set[str] = field(default_factory=set)  # names of the nodes
    subscribers: set[str] = field(default_factory=set)
    command: bool = False  # we publish it: its subscribers count
    arrivals: list[float] = field(default_factory=list)  # s, steady clock
    ages: list[float] = field(default_factory=list)  # s, clock at arrival minus stamp

    @property
    def rate_hz(self) -> float:
        """Mean rate of arrival."""
        span = self.arrivals[-1] - self.arrivals[0] if len(self.arrivals) > 1 else 0.0
        return (len(self.arrivals) - 1) / span if span > 0 else 0.0

    @property
    def age_s(self) -> float:
        """Median age at arrival."""
        return float(np.median(self.ages)) if self.ages else float("nan")
