"""The doctor's red findings, as far as the controller can know them: it does not arm on them, unless one is waived."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from rclpy.node import Node

from pi0_ros.base.errors import InputError
from pi0_ros.control.limits import JointLimits
from pi0_ros.doctor.graph import misfits
from pi0_ros.doctor.heard import Endpoint
from pi0_ros.doctor.joints import position_findings
from pi0_ros.nodes.topic_ends import endpoint
from pi0_ros.robot import Robot, StateTopic

CHECKS: Mapping[str, str] = {  # what can be waived
    "limits": "a joint outside its limits.position",
    "units": "joint states in degrees, millimetres or percent",
    "rate": "joint states that come more seldom than max_age_s needs",
    "qos": "a listener to commands that cannot hear the controller",
    "publishers": "another publisher of commands",
}
RATE_OF = 20  # of each topic so many arrivals tell the rate


class Arming:
    """What speaks against arming beyond the controller's own reasons."""

    def __init__(self, node: Node, robot: Robot, commanded: list[str], waive: str) -> None:
        unknown = sorted(set(waive.split()) - CHECKS.keys())
        if unknown:
            raise InputError(f"waive: there is no check {', '.join(unknown)}; there are {', '.join(CHECKS)}")
        self.waived = frozenset(waive.split())
        self._node, self._robot, self._commanded = node, robot, commanded
        self._arrivals: dict[StateTopic, deque[float]] = {item: deque(maxlen=RATE_OF) for item in robot.state}

    def heard(self, item: StateTopic, steady: float) -> None:
        """A message with joints of this entry has come at this time of a steady clock."""
        self._arrivals[item].append(steady)

    def limits(self, limits: JointLimits) -> JointLimits:
        """The limits for the controller: with `limits` waived, a joint may be found anywhere. Commands stay inside."""
        return replace(limits, outside=np.array(np.inf)) if "limits" in self.waived else limits

    def problems(self, position: np.ndarray) -> list[str]:
        """Sentences with remedies, `position` float64 [J] as measured, NaN where it is not; empty where all is well."""
        found = {
            "units": [f"{f.what}: {f.todo}" for f in position_findings(self._robot, position) if f.check == "units"],
            "rate": self._slow(),
            "qos": self._deaf(),
        }
        asked = [(check, text) for check, texts in found.items() if check not in self.waived for text in texts]
        return [f"{text} (waive:={check} arms all the same)" for check, text in asked]

    def _slow(self) -> list[str]:
        found = []
        for item in self._robot.state:
            times = self._arrivals[item]
            if len(times) > RATE_OF // 2 and times[-1] > times[0]:
                rate = (len(times) - 1) / (times[-1] - times[0])
                if rate * item.max_age_s < 1.0:
                    found.append(f"{item.topic} comes at {rate:.1f} Hz: speed it up, or raise its max_age_s")
        return found

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
