"""The doctor's red findings, as far as the controller can know them: it does not arm on them, unless one is waived."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from rclpy.node import Node

from pi0_ros.base.errors import InputError
from pi0_ros.base.findings import Finding
from pi0_ros.control.limits import JointLimits
from pi0_ros.doctor.graph import misfits
from pi0_ros.doctor.heard import Endpoint, Heard
from pi0_ros.doctor.joints import position_findings
from pi0_ros.doctor.rivals import leaping, leaps
from pi0_ros.doctor.stamps import check_stamps
from pi0_ros.doctor.streams import EARLY_S, aged
from pi0_ros.nodes.topic_ends import endpoint
from pi0_ros.robot import Robot, StateTopic

CHECKS: Mapping[str, str] = {  # what can be waived
    "limits": "a joint outside its limits.position",
    "units": "joint states in degrees, millimetres or percent",
    "rate": "joint states that come more seldom than max_age_s needs",
    "qos": "a listener to commands that cannot hear the controller",
    "publishers": "another publisher of commands",
    "leaps": "joint states that leap to and fro, as where two publishers speak in turns",
    "clock": "joint states whose stamps lie in the future, stand still, leap back or run at another pace",
}
RATE_OF = 20  # of each topic so many arrivals tell the rate
PLACES = 60  # so many in a row whether they leap
STAMPS, STAMPS_EVERY_S = 150, 0.02  # and so many how stamps move: three seconds


@dataclass(frozen=True)
class Arrival:
    """One message of joint states."""

    steady_s: float  # on a steady clock
    position: np.ndarray  # float64 [k] of the entry's joints, NaN where it does not speak of one
    received_ns: int = 0  # on the clock of the stamps
    age_s: float | None = None  # None where it has no stamp that counts


class _Entry:
    """What was heard of one entry of the robot file of late."""

    def __init__(self) -> None:
        self.steady_s: deque[float] = deque(maxlen=RATE_OF)
        self.places: deque[Arrival] = deque(maxlen=PLACES)
        self.stamps: deque[Arrival] = deque(maxlen=STAMPS)

    def take(self, arrival: Arrival) -> None:
        self.steady_s.append(arrival.steady_s)
        self.places.append(arrival)
        if not self.stamps or arrival.steady_s - self.stamps[-1].steady_s >= STAMPS_EVERY_S:
            self.stamps.append(arrival)


class Arming:
    """What speaks against arming beyond the controller's own reasons."""

    def __init__(self, node: Node, robot: Robot, commanded: list[str], waive: str) -> None:
        unknown = sorted(set(waive.split()) - CHECKS.keys())
        if unknown:
            raise InputError(f"waive: there is no check {', '.join(unknown)}; there are {', '.join(CHECKS)}")
        self.waived = frozenset(waive.split())
        self._node, self._robot, self._commanded = node, robot, commanded
        self._heard = {item: _Entry() for item in robot.state}

    def heard(self, item: StateTopic, arrival: Arrival) -> None:
        """A message with joints of this entry has come."""
        self._heard[item].take(arrival)

    def limits(self, limits: JointLimits) -> JointLimits:
        """The limits for the controller: with `limits` waived, a joint may be found anywhere. Commands stay inside."""
        return replace(limits, outside=np.array(np.inf)) if "limits" in self.waived else limits

    def problems(self, position: np.ndarray) -> list[str]:
        """Sentences with remedies, `position` float64 [J] as measured, NaN where it is not; empty where all is well."""
        found = {
            "units": _told(f for f in position_findings(self._robot, position) if f.check == "units"),
            "rate": self._slow(),
            "qos": self._deaf(),
            "leaps": _told(f for item in self._robot.state for f in self._leaps(item)),
            "clock": _told(f for item in self._robot.state for f in self._clock(item)),
        }
        asked = [(check, text) for check, texts in found.items() if check not in self.waived for text in texts]
        return [f"{text} (waive:={check} arms all the same)" for check, text in asked]

    def _slow(self) -> list[str]:
        found = []
        for item in self._robot.state:
            times = self._heard[item].steady_s
            if len(times) > RATE_OF // 2 and times[-1] > times[0]:
                rate = (len(times) - 1) / (times[-1] - times[0])
                if rate * item.max_age_s < 1.0:
                    found.append(f"{item.topic} comes at {rate:.1f} Hz: speed it up, or raise its max_age_s")
        return found

    def _leaps(self, item: StateTopic) -> list[Finding]:
        """Two who say where the same joints are."""
        came = self._heard[item].places
        if not came or not item.is_position:
            return []
        joints = [self._robot.joints[at] for at in self._robot.indices(item.joints)]
        times = np.array([arrival.steady_s for arrival in came])
        found = leaping(joints, np.array([arrival.position for arrival in came]), times)
        names = sorted(endpoint(info).node for info in self._node.get_publishers_info_by_topic(item.topic))
        return [leaps(item.topic, found, names)] if found else []

    def _clock(self, item: StateTopic) -> list[Finding]:
        """Stamps by which joint states that have stopped would count as new."""
        stamped = [arrival for arrival in self._heard[item].stamps if arrival.age_s is not None]
        if not stamped:
            return []
        received = [(arrival.received_ns - stamped[0].received_ns) * 1e-9 for arrival in stamped]
        heard = Heard(item, received=received, ages=[arrival.age_s or 0.0 for arrival in stamped])
        partial = not all(np.isfinite(arrival.position).all() for arrival in stamped)
        found = [finding for finding in check_stamps(heard, partial) if finding.severity == "error"]
        return found or ([aged(self._robot, heard)] if heard.age_s < -EARLY_S else [])

    def _deaf(self) -> list[str]:
        """Listeners to commands that ask for more than is offered."""
        found = []
        for topic in self._commanded:
            ours: list[Endpoint] = []
            for info in self._node.get_publishers_info_by_topic(topic):
                end = endpoint(info)
                if end.node == self._node.get_fully_qualified_name():
                    ours.append(end)
            listeners = [endpoint(info) for info in self._node.get_subscriptions_info_by_topic(topic)]
            for _, listener, why in misfits(ours[:1], listeners):
                found.append(f"{listener.node} hears no command on {topic}: it {why}: change its subscription")
        return found


def _told(findings: Iterable[Finding]) -> list[str]:
    """Each once, though several entries of the robot file share a topic."""
    return list(dict.fromkeys(f"{finding.what}: {finding.todo}" for finding in findings))
