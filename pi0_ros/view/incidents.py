"""What the controller of a recording reported: holds and stops, and the moments that the flight recorder keeps.

The flight recorder writes its reason into the recording; when it was, its topics say. They are read here as there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pi0_ros.bags.conventions import kept_because
from pi0_ros.bags.reader import Bag
from pi0_ros.control.incidents import Incidents
from pi0_ros.control.states import State
from pi0_ros.view.source import Band, Mark

DIAGNOSTICS, DIAGNOSTICS_TYPE = "/diagnostics", "diagnostic_msgs/msg/DiagnosticArray"
MARK, MARK_TYPE = "pi0/mark", "std_msgs/msg/String"
CONTROLLER = "controller"
SHADOW = "SHADOW "
KINDS = {State.HOLDING.value: "hold", State.STOPPED.value: "stopped"}  # states that are worth a band


def topics_of(bag: Bag) -> dict[str, str]:
    """Topics that tell of incidents, in any namespace, and their types."""
    wanted = ((DIAGNOSTICS, DIAGNOSTICS_TYPE), (MARK, MARK_TYPE))
    return {
        name: topic.type
        for name, topic in bag.info.topics.items()
        for ending, kind in wanted
        if name.endswith(ending) and topic.type == kind
    }


@dataclass
class Reports:
    """Takes in a recording's reports in their order; times in s from its beginning."""

    marks: list[Mark] = field(default_factory=list)
    # of each controller, by the name it reports under
    _states: dict[str, list[tuple[float, str, str]]] = field(default_factory=dict)  # since when which state, and why
    _incidents: dict[str, Incidents] = field(default_factory=dict)

    def take(self, kind: str, message: Any, at_s: float) -> None:
        """A message of one of `topics_of`, of this type."""
        if kind == MARK_TYPE:
            self.marks.append(Mark("incident", at_s, f"mark: {message.data}"))
            return
        for name, report in _controllers(message):
            state, reason = report["state"].removeprefix(SHADOW), report.get("reason", "")
            states = self._states.setdefault(name, [])
            if not states or states[-1][1] != state:
                states.append((at_s, state, reason))
            if text := self._incidents.setdefault(name, Incidents()).look(report, at_s):
                self.marks.append(Mark("incident", at_s, text))

    def bands(self, seconds: float) -> Iterator[Band]:
        """Where a controller held and where it was stopped."""
        for states in self._states.values():
            ends = [at for at, _, _ in states[1:]] + [seconds]
            for (at, state, reason), end in zip(states, ends):
                if state in KINDS:
                    yield Band(KINDS[state], at, max(end, at), reason)


def incidents_of(bag: Bag) -> list[Mark]:
    """When what happened for which a recording was kept; reads the topics that tell only."""
    found, topics = Reports(), topics_of(bag)
    for topic, received_ns, data in bag.raw(set(topics)) if topics else ():
        found.take(topics[topic], bag.decode(topic, data), (received_ns - bag.info.start_ns) * 1e-9)
    return told_by(found.marks, kept_because(bag.info.custom_data))


def told_by(marks: Sequence[Mark], reasons: Sequence[str]) -> list[Mark]:
    """Of the marks those that are the reasons why the recording was kept; all where none is (or nobody says why)."""
    return [mark for mark in marks if mark.text in reasons] or list(marks)


def _controllers(message: Any) -> Iterator[tuple[str, Mapping[str, str]]]:
    for status in message.status:
        values = {pair.key: pair.value for pair in status.values}
        if status.name.rpartition("/")[2].rpartition(": ")[2] == CONTROLLER and "state" in values:
            yield status.name, values
