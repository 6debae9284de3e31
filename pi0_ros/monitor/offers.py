"""Which buttons of the live view can do something now, what each state means, and why a button is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pi0_ros.monitor.top_bar import known_word


@dataclass(frozen=True)
class Offer:
    """The buttons that do something now, and in a line how things stand, or why others are missing."""

    buttons: tuple[str, ...]
    why: str = ""


MEANS = {  # each state of the controller: what the robot does, and what the person before it can do
    "DISARMED": "commands nothing: Arm lets it move",
    "IDLE": "armed, and still until the policy's first chunk: tell it what to do, or disarm",
    "RUNNING": "does what the policy plans: Disarm ends it",
    "TAKEOVER": "does what the person leads it to",
    "HOLDING": "braked and stands still: it goes on by itself when what is missing is there again; if not, it disarms",
    "STOPPED": "commands nothing after an emergency stop: look why, reset, then arm",
}


def motion(controller: Mapping[str, str] | None, by_switch: bool) -> Offer:
    """What the controller can be asked for. `controller`: the values of its status, None where none is heard;
    `by_switch`: a person takes over by a button, not by moving."""
    if controller is None:
        return Offer((), "no controller is heard: there is nothing to arm (the stop is sent all the same)")
    word = known_word(controller.get("state", ""))
    if word == "STOPPED":
        return Offer(("reset",), MEANS[word])
    if word == "DISARMED":
        fault, itself = controller.get("fault", ""), controller.get("auto_arm", "")
        waits = itself.startswith("waits")  # it would arm by itself: disarming ends that
        buttons = ("arm", *(("disarm",) if waits else ()), *(("reset",) if fault else ()))
        return Offer(buttons, f"fault: {fault}" if fault else f"auto_arm {itself}" if waits else MEANS[word])
    means = MEANS.get(word, "")
    if word == "TAKEOVER":
        means += ": Hand back gives it to the policy" if by_switch else ": the policy goes on when they let go"
    if by_switch:
        switched = word == "TAKEOVER" or controller.get("person") == "wanted"
        return Offer(("disarm", "hand back" if switched else "take over"), means)
    return Offer(("disarm",), means)


def recording(recorder: Mapping[str, str] | None) -> Offer:
    """What the recorder can be asked for. `recorder`: the values of its status, None where it is silent."""
    if recorder is None:
        return Offer((), "the recorder is silent: nobody would hear a button")
    if recorder.get("state") == "recording":
        return Offer(("success", "failure", "discard"))
    refuses = recorder.get("refuses", "")
    return Offer((), f"cannot start: {refuses}") if refuses else Offer(("start",))
