"""Which buttons of the live view can do something now, and what it says where one is missing: none is dead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pi0_ros.monitor.top_bar import known_word


@dataclass(frozen=True)
class Offer:
    """The buttons that do something now, and in a line why others are missing."""

    buttons: tuple[str, ...]
    why: str = ""


def motion(controller: Mapping[str, str] | None, by_switch: bool) -> Offer:
    """What the controller can be asked for. `controller`: the values of its status, None where none is heard;
    `by_switch`: a person takes over by a button, not by moving."""
    if controller is None:
        return Offer((), "no controller is heard: there is nothing to arm (the stop is sent all the same)")
    word = known_word(controller.get("state", ""))
    if word == "STOPPED":
        return Offer(("reset",), "stopped: reset, then arm")
    if word == "DISARMED":
        fault, itself = controller.get("fault", ""), controller.get("auto_arm", "")
        waits = itself.startswith("waits")  # it would arm by itself: disarming ends that
        buttons = ("arm", *(("disarm",) if waits else ()), *(("reset",) if fault else ()))
        return Offer(buttons, f"fault: {fault}" if fault else f"auto_arm {itself}" if waits else "")
    if by_switch:
        switched = word == "TAKEOVER" or controller.get("person") == "wanted"
        return Offer(("disarm", "hand back" if switched else "take over"))
    return Offer(("disarm",))


def recording(recorder: Mapping[str, str] | None) -> Offer:
    """What the recorder can be asked for. `recorder`: the values of its status, None where it is silent."""
    if recorder is None:
        return Offer((), "the recorder is silent: nobody would hear a button")
    if recorder.get("state") == "recording":
        return Offer(("success", "failure", "discard"))
    refuses = recorder.get("refuses", "")
    return Offer((), f"cannot start: {refuses}") if refuses else Offer(("start",))
