"""What in the controller's reports is worth keeping the last minute for: stops, faults, holds that nobody asked for."""

from __future__ import annotations

from collections.abc import Mapping

from pi0_ros.control.states import State

ASKED = "deadman button"  # a hold whose reason names it was asked for
AGAIN_S = 30.0  # a hold for the same cause is not kept again within


class Incidents:
    """Told every report of a controller, says which begins an incident. Times are steady, in s."""

    def __init__(self, again_s: float = AGAIN_S) -> None:
        self._again_s = again_s
        self._state = self._fault = ""
        self._kept: dict[str, float] = {}  # cause of a hold -> when it was last kept

    def look(self, report: Mapping[str, str], now: float) -> str:
        """The reason of the incident that begins with a report ("state", "reason", "fault"); empty where none does."""
        state, fault = report.get("state", "").removeprefix("SHADOW "), report.get("fault", "")
        reason = report.get("reason", "")
        before, self._state = self._state, state
        fault_before, self._fault = self._fault, fault
        if not before:
            return ""  # what was before this began is not in memory
        if state == State.STOPPED.value and before != state:
            return f"emergency stop: {reason}"
        if fault and fault != fault_before:
            return f"fault: {fault}"
        if state == State.HOLDING.value and before == State.RUNNING.value and ASKED not in reason:
            cause = "".join(letter for letter in reason if letter.isalpha())  # its numbers differ each time
            if now - self._kept.get(cause, -self._again_s) < self._again_s:
                return ""
            self._kept[cause] = now
            return f"hold: {reason}"
        return ""
