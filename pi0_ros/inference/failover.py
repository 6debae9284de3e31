"""Several policy servers in order of preference: when one does not answer, the next one does, within one time limit."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np

from pi0_ros.base.errors import InputError
from pi0_ros.base.foreign import shortened
from pi0_ros.control.chunk import ActionChunk
from pi0_ros.inference.client import Client, ServerError
from pi0_ros.inference.link import ANSWERS, Link
from pi0_ros.inference.metadata import BackendError, Metadata, RobotMismatchError
from pi0_ros.inference.prefix import ActionPrefix
from pi0_ros.observation.streams import Observation

FIRST_REST_S, MOST_REST_S = 0.5, 8.0  # a server that failed is left alone so long, doubling, while others can be asked
MISMATCH_REST_S = 30.0
WINDOW = 200  # round trips in the figures


class _Place:
    """One of the servers and how it has behaved."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.failures = 0
        self.rests_until = 0.0  # of time.monotonic
        self.state = "not asked yet"

    def failed(self, reason: str, rest_s: float = 0.0) -> None:
        """Leave it alone for a while."""
        rest_s = rest_s or min(MOST_REST_S, FIRST_REST_S * 2.0**self.failures)
        self.failures += 1
        self.rests_until = time.monotonic() + rest_s
        self.state = reason

    def answered(self) -> None:
        """It is well."""
        self.failures, self.rests_until, self.state = 0, 0.0, ANSWERS


class Failover:
    """A policy behind servers of which any may be asked: the first that answers, in order of preference.

    `timeout_s` bounds an inference, however many are asked: each gets an equal share of what is left of it. A server
    that did not answer rests, the longer the more often it failed, and is greeted meanwhile; once it has introduced
    itself again it takes the preference back. All must serve the same policy as the first that answered (`check_same`):
    one that does not is refused. One that answers with an error stays the one that is asked first.
    Use it from one thread at a time; `link` may be read from any.
    """

    def __init__(self, clients: Sequence[Client], timeout_s: float = 2.0) -> None:
        if not clients:
            raise InputError("no server is given")
        if not timeout_s > 0:
            raise InputError(f"timeout_s is {timeout_s}, expected more than 0")
        self.timeout_s = timeout_s
        self.timing: Mapping[str, float] = {}
        self._places = [_Place(client) for client in clients]
        self._active: _Place | None = None
        self._failovers = 0
        self._round_trips_ms: deque[float] = deque(maxlen=WINDOW)
        self.link = self._look()

    @property
    def metadata(self) -> Metadata | None:
        """What the server that answered last said; None before."""
        return self._active.client.expected if self._active is not None else None

    def infer(self, observation: Observation, prefix: ActionPrefix | None = None) -> ActionChunk:
        """Predict, at the first server that answers. BackendError when none does, RobotMismatchError when none fits."""
        deadline = time.monotonic() + self.timeout_s
        errors: list[Exception] = []
        order = self._order()
        try:
            for index, place in enumerate(order):
                now = time.monotonic()
                if now >= deadline:
                    break
                by = now + (deadline - now) / (len(order) - index)
                try:
                    chunk = place.client.infer_by(by, observation, prefix)
                except RobotMismatchError as error:
                    place.failed(str(error), MISMATCH_REST_S)
                    errors.append(error)
                except ServerError as error:
                    if error.code != "infer":  # it stops, is too busy, or speaks another version
                        place.failed(str(error))
                    errors.append(error)
                except BackendError as error:
                    place.failed(str(error))
                    errors.append(error)
                else:
                    self._answered(place)
                    return chunk
        finally:
            self.link = self._look()
        if len(errors) == 1:
            raise errors[0]
        kind = RobotMismatchError if all(isinstance(error, RobotMismatchError) for error in errors) else BackendError
        raise kind("no server answered: " + "; ".join(shortened(str(error), 500) for error in errors))

    def close(self) -> None:
        """Close every connection."""
        for place in self._places:
            place.client.close()

    def _order(self) -> list[_Place]:
        """Whom to ask: preferred ones that are ready, the one that answered last, the others, those at rest last."""
        now = time.monotonic()
        if self._active is None:
            return sorted(self._places, key=lambda place: place.rests_until > now)
        before = self._places.index(self._active)
        ready = []
        for place in self._places:
            if place is not self._active and place.rests_until <= now:
                try:
                    if place.client.greet():
                        place.state = "ready"
                        ready.append(place)
                except RobotMismatchError as error:
                    place.failed(str(error), MISMATCH_REST_S)
        first = [place for place in self._places[:before] if place in ready]
        rest = sorted(
            (place for place in self._places if place is not self._active and place not in first),
            key=lambda place: (place not in ready, place.rests_until > now),
        )
        return [*first, self._active, *rest]

    def _answered(self, place: _Place) -> None:
        if place is not self._active:
            if self._active is not None:
                self._failovers += 1
            self._active = place
            for other in self._places:
                other.client.expected = place.client.expected
        place.answered()
        self.timing = place.client.timing
        self._round_trips_ms.append(self.timing["round_trip_ms"])

    def _look(self) -> Link:
        servers = {place.client.address: place.state for place in self._places}
        late = sum(place.client.late_replies for place in self._places)
        if self._active is None:
            return Link(servers=servers, late_answers=late)
        client = self._active.client
        p50, p99 = np.percentile(self._round_trips_ms, (50, 99))
        return Link(
            server=client.address,
            servers=servers,
            failovers=self._failovers,
            late_answers=late,
            round_trip_p50_ms=float(p50),
            round_trip_p99_ms=float(p99),
            offset_ms=client.delays.offset_ms,
            offset_error_ms=client.delays.offset_error_ms,
            up_ms=client.delays.up_ms,
            down_ms=client.delays.down_ms,
            sent_bytes=client.sent_bytes,
        )
