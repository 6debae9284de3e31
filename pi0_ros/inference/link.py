"""The health of the way to policy servers, as it is shown on /diagnostics."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

ANSWERS = "answers"  # the state of the server that answered last


@dataclass(frozen=True)
class Link:
    """How the way to the servers is, for people. Milliseconds are NaN before the first answer."""

    server: str = ""  # the address that answered last
    servers: Mapping[str, str] = field(default_factory=dict)  # address -> "answers", "ready" or what hinders it
    failovers: int = 0  # how often another server than before answered
    late_answers: int = 0  # dropped
    round_trip_p50_ms: float = math.nan
    round_trip_p99_ms: float = math.nan
    offset_ms: float = math.nan  # that server's clock minus ours
    offset_error_ms: float = math.nan
    up_ms: float = math.nan  # the last question's way
    down_ms: float = math.nan  # the last answer's way
    sent_bytes: int = 0  # of the last question

    @property
    def trouble(self) -> str:
        """What is not as wanted, "" where everything is: a preferred server does not answer, or none does."""
        found = []
        for address, state in self.servers.items():
            if address == self.server and state == ANSWERS:
                break
            found.append(state if address in state else f"{address}: {state}")
        return "; ".join(found)

    @property
    def condition(self) -> str:
        """`trouble` without its durations: two are equal where the same is the matter."""
        return re.sub(r" within [\d.e-]+ s", "", self.trouble)
