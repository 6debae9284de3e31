"""The one interface of a policy, wherever it runs: `policy.Policy` in this process, `Client` asking a server.

`policy.backends.make_backend` makes either of them from `PolicyOptions`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from pi0_ros.control.chunk import ActionChunk
from pi0_ros.inference.link import Link
from pi0_ros.inference.metadata import Metadata
from pi0_ros.inference.prefix import ActionPrefix
from pi0_ros.observation.streams import Observation


class Backend(Protocol):
    """A policy: an observation in, a chunk of actions out."""

    @property
    def metadata(self) -> Metadata | None:
        """What the policy says about itself; None as long as a server has not been reached."""

    @property
    def timing(self) -> Mapping[str, float]:
        """Milliseconds of the last inference by stage, empty before: prepare_ms, model_ms, finish_ms, total_ms.

        Where a server made it, round_trip_ms too, and fit_ms of it that this side needed to make pictures small.
        """

    def infer(self, observation: Observation, prefix: ActionPrefix | None = None) -> ActionChunk:
        """Predict, continuing `prefix`.

        BackendError when that is impossible now, RobotMismatchError when it never will be possible.
        """

    def close(self) -> None:
        """Free memory and sockets; nothing can be asked afterwards."""


@runtime_checkable
class WritesSubtasks(Protocol):
    """A backend that can also say what it would do next."""

    def write_subtask(self, observation: Observation) -> str:
        """Return the next subtask of the observation's prompt, "" for none; safe beside `infer` in another thread."""


Request = tuple[Observation, ActionPrefix | None]


@runtime_checkable
class InfersMany(Protocol):
    """A backend that can infer for several observations at once."""

    def infer_many(self, requests: Sequence[Request]) -> list[ActionChunk]:
        """What `infer` would answer to each, to rounding; one that is bad spoils it for all."""


@runtime_checkable
class HasLink(Protocol):
    """A backend that asks servers and says how the way to them is."""

    @property
    def link(self) -> Link:
        """How the way to the servers is; may be read from any thread."""
