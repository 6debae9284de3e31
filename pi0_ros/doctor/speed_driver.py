"""A driver at the other end of a topic of speeds: how long it goes on with the last, by its parameters and the file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from pi0_ros.base.findings import Finding, error, ok, warning
from pi0_ros.robot import CommandGroup, Robot

SERVO, BASE = "moveit_servo.incoming_command_timeout", "cmd_vel_timeout"  # s without a command
PARAMETERS = (SERVO, BASE)
LONGEST_S = 10.0  # some drivers count it in ms
ALIKE = 0.2  # of what its driver says; files are rounded
PERIODS = 2.5  # of the controller's, in which one command may be late


def stops_after_s(settings: Mapping[str, object]) -> float:
    """How long a driver goes on with its last speed, by its parameters; infinite: for ever, NaN: they do not say."""
    if settings.get(SERVO) == 0.0:
        return math.inf
    said = [settings.get(name) for name in PARAMETERS]
    known = [value for value in said if isinstance(value, float) and 0.0 < value <= LONGEST_S]
    return known[0] if known else math.nan


def check_driver(robot: Robot, group: CommandGroup, node: str, settings: Mapping[str, object]) -> Iterator[Finding]:
    """Findings about how long `node` keeps the speeds of `group`; none where it does not say."""
    stops_s, period_s = stops_after_s(settings), 1.0 / robot.control_rate_hz
    if math.isnan(stops_s) or not group.speeds:
        return
    told = "goes on for ever with its last command" if math.isinf(stops_s) else f"stops {stops_s:g} s after a command"
    better = "hold: true in the place of max_age_s" if math.isinf(stops_s) else f"max_age_s: {stops_s:g}"
    always = stops_s <= period_s
    if stops_s < PERIODS * period_s:
        what = f"{node} {told}, and one comes every {period_s:g} s: it {'stops' if always else 'may stop'} in between"
        yield (error if always else warning)("driver", what, "raise its timeout, or control_rate_hz in the robot file")
    elif wrong := " and ".join(_otherwise(robot, group, stops_s)):
        what = f"{node} {told}, by the robot file {wrong}"
        yield warning("driver", what, f"write {better} at the command {group.name!r} in the robot file")
    else:
        yield ok("driver", f"{node} {told}, as the robot file says")


def _otherwise(robot: Robot, group: CommandGroup, stops_s: float) -> Iterator[str]:
    """What the robot file says otherwise than its driver, which stops after `stops_s`."""
    recorded_s = robot.command_age_s(group)
    at = robot.indices(group.joints)
    behind_s = float(robot.driver_waits_s[at].max())
    measured = all(robot.joints[n].role != "action" for n in at)  # then to ask sooner than its driver stops is right
    if not _alike(behind_s, stops_s) and not (measured and behind_s < stops_s):
        yield f"it {_written(behind_s)} behind a stall of the controller"
    if not _alike(recorded_s, stops_s):
        yield f"it {_written(recorded_s)} in recordings"


def _alike(by_file_s: float, stops_s: float) -> bool:
    return by_file_s == stops_s or abs(by_file_s - stops_s) <= ALIKE * min(stops_s, LONGEST_S)


def _written(by_file_s: float) -> str:
    return "keeps one for ever" if math.isinf(by_file_s) else f"stops after {by_file_s:g} s"
