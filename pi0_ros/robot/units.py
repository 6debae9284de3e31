"""From the robot file's units to the way a model counts each joint, and back. numpy only.

Released models count some joints otherwise than the robot does: with another sign, a gripper from 0 to 1, a finger's
place as the angle of the crank that drives it, an action as a speed. The robot file says so joint by joint, so that a
new robot needs no Python. Statistics and normalisation come after this, as in openpi.
Shapes: S joints of the state, A joints of the action, H steps of a chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pi0_ros.base.strict_yaml import Place, Section
from pi0_ros.robot import rotations
from pi0_ros.robot.space import PosePlace, Space

if TYPE_CHECKING:
    from pi0_ros.robot.types import Joint, Robot


@dataclass(frozen=True)
class Crank:
    """A slider that a crank drives: horn and arm, both in m. Interbotix grippers are made like that.

    slider = horn sin(angle) + sqrt(arm^2 - horn^2 cos(angle)^2), the driver's own formula (interbotix_xs_sdk,
    `robot_convert_angular_position_to_linear`); its inverse is openpi's (`aloha_policy.py`), clipped alike.
    Between -pi/2 and pi/2 they undo each other; no angle beyond moves the slider farther.
    """

    horn_radius: float
    arm_length: float
    range: tuple[float, float] = (0.0, 1.0)  # places of the slider, m, where the robot says 0 and 1

    def angle(self, value: np.ndarray) -> np.ndarray:
        """What the robot says -> angle of the crank, rad."""
        horn, arm, (zero, one) = self.horn_radius, self.arm_length, self.range
        slider = value * (one - zero) + zero
        with np.errstate(divide="ignore"):  # at 0 it stands at an end, which the clip says
            return np.arcsin(np.clip((horn**2 + slider**2 - arm**2) / (2 * horn * slider), -1.0, 1.0))

    def value(self, angle: np.ndarray) -> np.ndarray:
        """The inverse of `angle`."""
        horn, arm, (zero, one) = self.horn_radius, self.arm_length, self.range
        angle = np.clip(angle, -np.pi / 2, np.pi / 2)
        slider = horn * np.sin(angle) + np.sqrt(arm**2 - (horn * np.cos(angle)) ** 2)
        return (slider - zero) / (one - zero)


@dataclass(frozen=True)
class Scale:
    """How the model counts one joint: 0 where the robot (or the crank's angle) says `zero`, 1 where it says `one`."""

    zero: float = 0.0
    one: float = 1.0
    crank: Crank | None = None
    threshold: float | None = None  # actions: what the model puts above becomes 1, everything else 0

    def to_model(self, value: np.ndarray) -> np.ndarray:
        """Robot units -> model's count, any shape."""
        angle = value if self.crank is None else self.crank.angle(value)
        return (angle - self.zero) / (self.one - self.zero)

    def from_model(self, count: np.ndarray) -> np.ndarray:
        """The inverse of `to_model`, after the threshold."""
        if self.threshold is not None:
            count = np.where(count > self.threshold, 1.0, 0.0)
        angle = self.zero + count * (self.one - self.zero)
        return angle if self.crank is None else self.crank.value(angle)


SAME = Scale()


# ---- vectors


def state_to_model(robot: Robot, state: np.ndarray) -> np.ndarray:
    """State in robot units [..., S] -> as the model counts it, float64 [..., S]. A pose that is seen from the chunk's
    start is the origin there."""
    counts = _each(state, [joint.state_scale.to_model for joint in robot.state_joints])
    return np.where(robot.seen_from_start, [joint.at_origin for joint in robot.state_joints], counts)


def state_from_model(robot: Robot, counts: np.ndarray) -> np.ndarray:
    """The inverse of `state_to_model`."""
    return _each(counts, [joint.state_scale.from_model for joint in robot.state_joints])


def actions_to_model(robot: Robot, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
    """Positions in robot units [..., H, A], from `state` [..., S] on -> the model's actions, float64 [..., H, A].

    A relative action is the distance to the state, the same one for all steps of the chunk; a velocity the distance
    to the step before (for the first: to the state) in units of the joint's `step`. Continuous joints go the short way
    round from the state to the first step, and on from step to step. A relative pose is where to go as seen from the
    hand in the state: state pose composed with action gives the pose.
    """
    origin = _origin(robot, state)[..., None, :]
    return _seen_from(robot, counted_actions(robot, actions, state) - np.where(robot.relative_mask, origin, 0.0), state)


def counted_actions(robot: Robot, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
    """As `actions_to_model`, but what the model counts from the state on stays a position, as openpi gives it out."""
    actions = robot.action_space.unwrapped(actions, _where(robot, state))
    counts = _each(actions, [joint.action_scale.to_model for joint in robot.action_joints])
    speeds = np.diff(counts, axis=-2, prepend=_origin(robot, state)[..., None, :]) / robot.velocity_steps
    return np.where(robot.velocity_mask, speeds, counts)


def actions_from_counted(robot: Robot, counted: np.ndarray, state: np.ndarray) -> np.ndarray:
    """The inverse of `counted_actions`; speeds are held within -1 .. 1 and thresholds applied."""
    origin = _origin(robot, state)[..., None, :]
    counted = np.asarray(counted, np.float64) - np.where(robot.relative_mask, origin, 0.0)
    return _positions(robot, counted, state, composed=False)


def actions_from_model(robot: Robot, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
    """The inverse of `actions_to_model`; speeds are held within -1 .. 1 and thresholds applied, and rotations made
    whole: NaN where a model's numbers are none."""
    return _positions(robot, np.asarray(actions, np.float64), state, composed=True)


def _positions(robot: Robot, actions: np.ndarray, state: np.ndarray, composed: bool) -> np.ndarray:
    """`actions_from_model`; `composed`: relative poses are as seen from the hand."""
    origin = _origin(robot, state)[..., None, :]
    moved = np.cumsum(np.clip(actions, -1.0, 1.0) * robot.velocity_steps, axis=-2)
    counts = np.where(robot.velocity_mask, moved, actions)
    counts = counts + np.where(robot.velocity_mask | robot.relative_mask, origin, 0.0)
    found = _each(counts, [joint.action_scale.from_model for joint in robot.action_joints])
    space = robot.action_space
    where = _where(robot, state)
    if not space.poses or where is None:
        return found
    for pose in _composed(robot) if composed else ():
        hand, delta = where[..., None, pose.whole], found[..., pose.whole]
        turn, way = pose.writing.decode(hand[..., 3:]), pose.writing.decode(delta[..., 3:])
        found[..., pose.linear] = hand[..., :3] + rotations.rotated(turn, delta[..., :3])
        found[..., pose.written] = pose.writing.encode(rotations.product(turn, way))
    return space.unwrapped(space.whole(found), where)


def _seen_from(robot: Robot, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
    """Actions [..., H, A] with each composed pose as the hand in `state` [..., S] sees it."""
    composed, where = _composed(robot), _where(robot, state)
    if not composed or where is None:
        return actions
    actions, nothing = np.array(actions), np.zeros(actions.shape[-1])
    for pose in composed:
        hand = where[..., None, pose.whole]
        back = rotations.inverse(pose.writing.decode(hand[..., 3:]))
        turn = rotations.product(back, pose.writing.decode(actions[..., pose.written]))
        actions[..., pose.linear] = rotations.rotated(back, actions[..., pose.linear] - hand[..., :3])
        actions[..., pose.written] = pose.writing.encode(turn)
        nothing[pose.written] = pose.writing.identity
    seen = Space(np.zeros(len(nothing), bool), tuple(composed))
    return seen.unwrapped(actions, np.broadcast_to(nothing, (*actions.shape[:-2], len(nothing))))


def _composed(robot: Robot) -> list[PosePlace]:
    """The poses of the action that are seen from the hand."""
    relative = [joint.action == "relative" for joint in robot.action_joints]
    return [pose for pose in robot.action_space.poses if relative[pose.at]]


def _where(robot: Robot, state: np.ndarray) -> np.ndarray | None:
    """Where the action's joints are in `state` [..., S], [..., A]: NaN where they are not seen; None where no number of
    the action has several names and no pose is composed."""
    if robot.action_space.plain:
        return None
    state = np.asarray(state, np.float64)
    origin = np.full((*state.shape[:-1], len(robot.action_joints)), np.nan)
    for index, joint in enumerate(robot.action_joints):
        if joint.role == "both":
            origin[..., index] = state[..., robot.state_names.index(joint.name)]
    return origin


def _origin(robot: Robot, state: np.ndarray) -> np.ndarray:
    """Where each action joint is, as the model counts it, float64 [..., A]; 0 where actions are absolute."""
    state = np.asarray(state, np.float64)
    origin = np.zeros((*state.shape[:-1], len(robot.action_joints)))
    for index, joint in enumerate(robot.action_joints):
        if joint.action in ("relative", "velocity") and joint.pose is None:
            origin[..., index] = joint.action_scale.to_model(state[..., robot.state_names.index(joint.name)])
    return origin


def _each(values: np.ndarray, functions: Sequence[Any]) -> np.ndarray:
    """Each function on its entry of the last axis."""
    values = np.asarray(values, np.float64)
    return np.stack([function(values[..., index]) for index, function in enumerate(functions)], axis=-1)


# ---- the robot file's `model` key

KEYS = ("sign", "zero", "one", "crank")


def read_scales(item: Section) -> tuple[Scale, Scale]:
    """(of the state, of the action) from the key `model` of a joint; `state` and `action` in it overrule the rest."""
    if "model" not in item:
        return SAME, SAME
    place = (*item.place, "model")
    model = Section(item.value["model"], place, (), (*KEYS, "threshold", "state", "action"))
    common = {key: value for key, value in model.value.items() if key not in ("state", "action", "threshold")}
    threshold = model.number("threshold") if "threshold" in model else None
    state, action = (_read_scale(model, key, common, place) for key in ("state", "action"))
    return state, Scale(action.zero, action.one, action.crank, threshold)


def _read_scale(model: Section, key: str, common: dict[str, Any], place: Place) -> Scale:
    own = Section(model.value[key], (*place, key), (), KEYS) if key in model else Section({}, place, (), KEYS)
    item = Section({**common, **own.value}, own.place, (), KEYS)
    crank = None
    if "crank" in item:
        given = Section(item.value["crank"], (*place, "crank"), ("horn_radius", "arm_length"), ("range",))
        ends = (0.0, 1.0)
        if "range" in given:
            ends = given.pair("range", "[lower, upper]: the slider's places in m where the robot says 0 and 1")
        crank = Crank(given.positive("horn_radius"), given.positive("arm_length"), ends)
        if crank.horn_radius >= crank.arm_length:
            message = (
                f"{crank.horn_radius:g} m is not below arm_length, {crank.arm_length:g} m: the crank would not turn"
            )
            given.wrong("horn_radius", f"{message}; correct one of them")
    if "sign" in item:
        if "zero" in item or "one" in item:
            item.wrong("sign", "stands beside zero or one, which say the same: write either")
        if (sign := item.number("sign")) not in (1.0, -1.0):
            item.wrong("sign", f"{sign:g} is neither 1 nor -1; for a scale write zero and one")
        return Scale(0.0, sign, crank)
    zero, one = (item.number(name) if name in item else default for name, default in (("zero", 0.0), ("one", 1.0)))
    if zero == one:
        item.wrong("one", f"{one:g} is also zero: write the robot's values where the model has 0 and where it has 1")
    return Scale(zero, one, crank)


def write_scales(joint: Joint) -> dict[str, Any]:
    """The key `model` of a joint, where it has one; reads back as the same scales."""

    def entry(scale: Scale) -> dict[str, Any]:
        found: dict[str, Any] = {"zero": scale.zero, "one": scale.one}
        if scale.crank is not None:
            crank = scale.crank
            found["crank"] = {"horn_radius": crank.horn_radius, "arm_length": crank.arm_length}
            found["crank"]["range"] = list(crank.range)
        return found

    state, action = joint.state_scale, joint.action_scale
    if (state, action) == (SAME, SAME):
        return {}
    threshold = {} if action.threshold is None else {"threshold": action.threshold}
    return {"model": {"state": entry(state), "action": entry(action), **threshold}}
