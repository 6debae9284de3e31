"""Rows of the fault table for a robot with a base, which is told speeds, and a hand, which is told poses."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

import controller_rows as arm
import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseStamped, TwistStamped
from nav_msgs.msg import Odometry
from parts import Parts
from rows import Inject, rows_of
from stage import Stage

from pi0_ros.nodes.messages import seconds_to_stamp

STANDS = 1e-3  # m/s or rad/s
BASE, HAND = slice(3, 5), slice(5, 14)  # in the robot's vector


def parts(stage: Stage) -> Parts:
    assert stage.body.parts is not None
    return stage.body.parts


def driving(inject: Inject) -> Inject:
    """Injected while the base drives and the hand is under way."""

    def row(stage: Stage, trial: int) -> str | tuple[str, ...]:
        stage.wait(lambda: parts(stage).speed[0] > 0.2, stage.told_s)
        stage.began = time.monotonic()
        return inject(stage, trial)

    return row


def stands(inject: Inject) -> Inject:
    """Behind it the base must stand, without another word from anybody: it has no timeout of its own."""

    def row(stage: Stage, trial: int) -> str | tuple[str, ...]:
        words = driving(inject)(stage, trial)
        still = lambda: np.abs(parts(stage).speed).max() < STANDS  # noqa: E731
        assert stage.wait(still, stage.told_s), f"the base drives on at {parts(stage).speed}: {stage.text()[:120]}"
        driven = parts(stage).driven.copy()
        time.sleep(0.4)
        assert np.abs(parts(stage).driven - driven).max() < 1e-3, "the base drives again"
        return words

    return row


def silent(what: str, words: str) -> Inject:
    def row(stage: Stage, trial: int) -> str:
        setattr(parts(stage), what, False)
        stage.told(words)
        time.sleep(1.5)  # longer than rearm_after_s
        return words

    return row


def odometry(change: Callable[[Odometry], Odometry], words: str) -> Inject:
    return _lying("lie_of_odometry", change, words)


def poses(change: Callable[[PoseStamped], PoseStamped], words: str) -> Inject:
    return _lying("lie_of_pose", change, words)


def _lying(of_what: str, change: Callable[[Any], Any], words: str) -> Inject:
    def row(stage: Stage, trial: int) -> str:
        setattr(parts(stage), of_what, change)
        time.sleep(1.5)
        stage.told(words)
        return words

    return row


def _speed(value: float) -> Callable[[Odometry], Odometry]:
    def change(message: Odometry) -> Odometry:
        message.twist.twist.linear.x = value
        return message

    return change


def _old(message: Any) -> Any:
    message.header.stamp = seconds_to_stamp(time.time() - 3.0)
    return message


def _frame(message: PoseStamped) -> PoseStamped:
    message.header.frame_id = "elsewhere"
    return message


def _aside(message: PoseStamped) -> PoseStamped:
    message.pose.position.y += 0.8
    return message


def _nan(message: PoseStamped) -> PoseStamped:
    message.pose.position.x = float("nan")
    return message


def _no_rotation(message: PoseStamped) -> PoseStamped:
    turn = message.pose.orientation
    turn.x = turn.y = turn.z = turn.w = 0.0
    return message


def unstamped(inject: Inject) -> Inject:
    """The robot does not say when it measured what it says: what waits in a queue looks new."""

    def row(stage: Stage, trial: int) -> str | tuple[str, ...]:
        parts(stage).lie_of_odometry = parts(stage).lie_of_pose = _without_stamp
        time.sleep(0.3)
        return inject(stage, trial)

    return row


def _without_stamp(message: Any) -> Any:
    message.header.stamp = Time()
    return message


def wheels_stand(stage: Stage, trial: int) -> str:
    parts(stage).rolls = False
    stage.told("from its command")
    time.sleep(0.5)
    return "from its command"


def deaf_driver(stage: Stage, trial: int) -> str:
    """The base's driver has a timeout and stopped it while its controller was suspended."""
    parts(stage).timeout_s = 0.3
    return str(arm.stall(0.9)(stage, trial))


def killed(stage: Stage, trial: int) -> str:
    """Nothing can be sent any more: the driver's timeout is what stops the base."""
    parts(stage).timeout_s = 0.3
    return str(arm.ended(signal.SIGKILL)(stage, trial))


def chunk(change: Callable[[np.ndarray], np.ndarray], words: str = "") -> Inject:
    """Chunks of a robot that goes on as it does, changed."""

    def row(stage: Stage, trial: int) -> str:
        for _ in range(5):
            now = np.concatenate([stage.body.position, parts(stage).numbers(stage.robot)])
            message = stage.body.chunk(np.tile(now, (24, 1)))
            for point, action in zip(message.points, change(np.tile(now, (24, 1))).tolist()):
                point.positions = action
            stage.body.chunks.publish(message)
            time.sleep(0.05)
        time.sleep(0.4)
        return words

    return row


def _set(at: Any, value: Any) -> Callable[[np.ndarray], np.ndarray]:
    def change(actions: np.ndarray) -> np.ndarray:
        actions[:, at] = value
        return actions

    return change


def _back_and_forth(actions: np.ndarray) -> np.ndarray:
    sign = (-1.0) ** np.arange(len(actions))
    actions[:, 3], actions[:, 4] = 0.6 * sign, sign
    return actions


def _tumbling(actions: np.ndarray) -> np.ndarray:
    actions[:, HAND] = np.random.default_rng().uniform(-1.0, 1.0, (len(actions), 9))
    return actions


def rival(kind: Any, topic: str) -> Inject:
    def row(stage: Stage, trial: int) -> str:
        other = stage.body.create_publisher(kind, topic, 1)
        stage.told("another publisher")
        time.sleep(1.0)
        stage.body.destroy_publisher(other)
        time.sleep(0.5)
        return "another publisher"

    return row


STATE = "joint state of"
_STANDS: dict[str, Inject] = {
    "controller stopped for 3 s": arm.stall(3.0),
    "policy killed": arm.chunks_killed,
    "joint states silent": arm.states(None, 2.5, STATE),
    "odometry silent": silent("odometry_speaks", STATE),
    "odometry: NaN": odometry(_speed(float("nan")), STATE),
    "odometry: 1e6": odometry(_speed(1e6), "far outside"),
    "odometry 3 s old": odometry(_old, STATE),
    "odometry says that it stands": odometry(_speed(0.0), "from its command"),
    "the hand's pose silent": silent("pose_speaks", STATE),
    "the hand's pose in another frame": poses(_frame, STATE),
    "the hand's pose: NaN": poses(_nan, STATE),
    "the hand's pose without a rotation": poses(_no_rotation, STATE),
    "the hand's pose: 0.8 m aside at once": poses(_aside, "said to have moved"),
    "its wheels stand": wheels_stand,
    "disarmed in motion": arm.disarm,
    "emergency stop by the service": arm.estop_service,
    "emergency stop by the topic": arm.estop_topic,
    "another publisher of the base's topic": rival(TwistStamped, "/base/cmd_vel"),
    "another publisher of the hand's topic": rival(PoseStamped, "/hand/target"),
    "controller ended by SIGTERM": arm.ended(signal.SIGTERM),
    "controller ended by SIGINT": arm.ended(signal.SIGINT),
}

_GOES_ON: dict[str, Inject] = {
    **{f"controller stopped for {s:g} s": arm.stall(s) for s in (0.1, 0.3, 0.6, 0.9)},
    "controller stopped for 0.3 s, no stamps": unstamped(arm.stall(0.3)),
    "controller stopped for 0.9 s, and the base by its driver": deaf_driver,
    "controller stopped thirty times for 0.02 to 0.1 s": arm.stutter,
    "policy stopped": arm.chunks_stopped,
    "the arm and the hand blocked": arm.blocked,
    "armed and disarmed in motion eight times": arm.indecision,
    "chunk: NaN for the base": chunk(_set(3, np.nan), "chunk trouble"),
    "chunk: 5 m/s": chunk(_set(3, 5.0), "chunk trouble"),
    "chunk: 1 m/s and 2 rad/s": chunk(_set(BASE, [1.0, 2.0])),
    "chunk: back and forth at every step": chunk(_back_and_forth),
    "chunk: NaN for the hand": chunk(_set(5, np.nan), "chunk trouble"),
    "chunk: the hand 10 m away": chunk(_set(5, 10.0), "chunk trouble"),
    "chunk: a rotation of zeros": chunk(_set(slice(8, 14), 0.0), "chunk trouble"),
    "chunk: the hand anywhere at every step": chunk(_tumbling),
}
_BREAKING_OFF: dict[str, Inject] = {
    "controller killed": killed,
    "emergency stop (topic) while the controller is stopped": arm.stopped_while_stopped("topic"),
    "emergency stop (service) while the controller is stopped": arm.stopped_while_stopped("service"),
}


def _named(injects: dict[str, Inject]) -> dict[str, Inject]:
    return {f"base and hand: {name}": inject for name, inject in injects.items()}


ROWS = [
    *rows_of("mobile", {name: stands(inject) for name, inject in _named(_STANDS).items()}),
    *rows_of("mobile", {name: driving(inject) for name, inject in _named(_GOES_ON).items()}),
    *rows_of("mobile", {name: driving(inject) for name, inject in _named(_BREAKING_OFF).items()}, breaks_off=True),
]
