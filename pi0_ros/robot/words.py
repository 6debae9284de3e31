"""A robot file in words: what comes from where, what goes where, and what the numbers mean."""

from __future__ import annotations

from collections.abc import Iterator

from pi0_ros.base.printing import labelled, table
from pi0_ros.robot.message_types import STATE_TYPES, is_state_field
from pi0_ros.robot.types import Camera, CommandGroup, Joint, Robot, StateTopic

INDENT = 10
COMPOSED = "where to go, seen from the hand"
MEANINGS = {
    "absolute": "where to go",
    "relative": "how far from where it was seen",
    "velocity": "how fast, -1 .. 1",
    "": "not moved",
}


def explain(robot: Robot) -> Iterator[str]:
    """Lines of at most a terminal's width."""
    yield f"{robot.name}{f': {robot.description}' if robot.description else ''}"
    yield ""
    yield from table(
        [("#", "joint", "range", "speed", "seen on", "moved by", "the model's action says"), *_rows(robot)], 7
    )
    yield ""
    for camera in robot.cameras:
        yield from labelled("camera", _camera(camera), INDENT)
    if not robot.cameras:
        yield from labelled("camera", "none: the policy sees the state and the prompt alone", INDENT)
    for item in robot.state:
        yield from labelled("state", _state(item), INDENT)
    for group in robot.commands:
        yield from labelled("command", _command(robot, group), INDENT)
    for group in robot.takeover.topics:
        yield from labelled("takeover", _takeover(robot, group), INDENT)
    policy, control = robot.policy_rate_hz, robot.control_rate_hz
    rates = f"{control:g} commands a second, at most {policy:g} inferences; datasets have {robot.dataset_fps:g} rows"
    yield from labelled("rates", f"{rates} a second, and so do the policy's chunks", INDENT)
    if robot.action_source == "command":
        actions = f"what was commanded, where it is at most {robot.action_max_age_s:g} s old"
    else:
        actions = "where the robot was one row later (it is led by hand, or commands are not recorded)"
    yield from labelled("labels", f"of recordings: {actions}", INDENT)
    yield from labelled("prompt", repr(robot.prompt) if robot.prompt else "none: say one when it starts", INDENT)
    yield from labelled("urdf", robot.urdf or "none: no drawing of the arm in RViz and the browser", INDENT)


def _rows(robot: Robot) -> Iterator[tuple[str, ...]]:
    seen = {joint: item.topic for item in robot.state for joint in item.joints}
    moved = {joint: group.name for group in robot.commands for joint in group.joints}
    for number, joint in enumerate(robot.joints):
        unit = "rad" if joint.writes_rotation else joint.unit
        speed = f"{joint.velocity:g} {unit}/s".replace("normalized", "1").replace("/s/s", "/s\u00b2")
        place = str(number if joint.model_index is None else joint.model_index)
        ends = (place, joint.name, _range(joint), speed, seen.get(joint.name, "-"), moved.get(joint.name, "-"))
        composed = joint.pose is not None and joint.action == "relative"
        meaning = COMPOSED if composed else MEANINGS[joint.action]
        yield (*ends, "how fast" if joint.speed and joint.action else meaning)


def _range(joint: Joint) -> str:
    if joint.continuous:
        return "turns without end"
    if joint.writes_rotation:
        return "of the rotation"
    return f"{joint.lower:g} .. {joint.upper:g}{'' if joint.unit == 'normalized' else f' {joint.unit}'}"


def _camera(camera: Camera) -> str:
    said = f"{camera.name} from {camera.topic} fills the model's {camera.slot}"
    said += "; rectified" if camera.rectify is not None else ""
    if camera.crop is not None:
        left, top, width, height = camera.crop
        said += f"; cropped to {width} x {height} from ({left}, {top}) on"
    said += f"; turned by {camera.rotate} degrees" if camera.rotate else ""
    if camera.depth is not None:
        said += "; {:g} m shown white, {:g} m black".format(*camera.depth)
    said += f"; the policy waits where it is older than {camera.max_age_s:g} s"
    return said + (f" or the same for {camera.frozen_s:g} s" if camera.frozen_s is not None else "") + _time(camera)


def _state(item: StateTopic) -> str:
    named = is_state_field(item.type, item.field) and STATE_TYPES[item.type].named and item.names_from == "names"
    told = "by name" if named else "in this order"
    what = "speed" if item.speeds else item.field
    which = f" (its pose number {item.index})" if item.index is not None else ""
    which = f" (its transform to {item.child})" if item.child else which
    what = f"{_named(item)}{which}" if item.pose is not None else f"{what} of {_named(item)}, {told}"
    what += f" in the frame {item.frame}" if item.frame else ""
    said = f"{item.topic} ({item.type}): {what}; at most {item.max_age_s:g} s old"
    return said + _units(item) + _time(item)


def _command(robot: Robot, group: CommandGroup) -> str:
    when = "the whole plan, when it changes" if group.points == "trajectory" else "a message at every tick"
    when = "a message when it changes" if group.on_change is not None else when
    age = robot.command_age_s(group)
    kept = "until the next" if group.hold else f"for {age:g} s"
    kept += ", then it stands still" if group.speeds and not group.hold else ""
    unmeasured = {joint.name for joint in robot.joints if joint.speed and joint.role == "action"}
    kept += _after_a_stall(group) if unmeasured.intersection(group.joints) else ""
    what = f"{_named(group)}{f' in the frame {group.frame}' if group.frame else ''}"
    said = f"{group.name} to {group.topic} ({group.type}): {what}; {when}; in recordings one holds {kept}"
    if group.server is not None:
        to = f"{group.name} to the action server {group.server.name} ({group.server.type}, {group.server.field})"
        said = f"{to}: {_named(group)}; a goal when it changes; what was sent is told on {group.topic}, for recordings"
    return said + _units(group) + _time(group)


def _after_a_stall(group: CommandGroup) -> str:
    """What the controller does behind a pause where nobody measures how fast a hand still goes."""
    if group.hold:
        return "; behind any pause of the controller it is braked from the last"
    return f"; behind a pause of the controller of more than {group.driver_waits_s:g} s it begins at zero"


def _takeover(robot: Robot, group: CommandGroup) -> str:
    when = "while the switch is on" if robot.takeover.begins == "switch" else "from their first command on"
    there = f"not there after {robot.takeover.timeout_s:g} s of silence"
    said = f"a person's poses from {group.topic} ({group.type}): {_named(group)}; they lead {when}, and are {there}"
    return said + _units(group)


def _named(item: StateTopic | CommandGroup) -> str:
    if item.pose is not None:
        turn = f"its rotation as {item.pose.rotation} ({', '.join(item.joints[3:])})"
        hidden = "; the model sees it from where its chunk starts" if item.pose.seen_from == "start" else ""
        where = f"in the frame {item.pose.frame} ({', '.join(item.joints[:3])})"
        return f"the pose {item.pose.name} {where}, {turn}{hidden}"
    pairs = zip(item.joints, item.message_names)
    return ", ".join(joint if joint == name else f"{joint} (there {name})" for joint, name in pairs)


def _units(item: StateTopic | CommandGroup) -> str:
    scale, offset = item.scale or (1.0,) * len(item.joints), item.offset or (0.0,) * len(item.joints)
    told = [
        f"{joint} as {by:g} x" + (f" {'+' if more > 0 else '-'} {abs(more):g}" if more else "")
        for joint, by, more in zip(item.joints, scale, offset)
        if (by, more) != (1.0, 0.0)
    ]
    return f"; its messages have {', '.join(told)}" if told else ""


def _time(item: Camera | StateTopic | CommandGroup) -> str:
    ways = {"auto": "", "header": "; its stamps count, whatever the clocks say", "arrival": "; its arrival counts"}
    delay = 0.0 if isinstance(item, CommandGroup) else item.latency_s
    return ways[item.stamp] + (f"; taken {delay * 1e3:g} ms before that time" if delay else "")
