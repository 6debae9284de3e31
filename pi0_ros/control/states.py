"""The controller's states and what goes with them: settings, the command, counts. No behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np


class State(Enum):
    """What the controller does with chunks."""

    DISARMED = "DISARMED"  # commands nothing
    IDLE = "IDLE"  # armed, holds still until the first chunk
    RUNNING = "RUNNING"  # follows chunks
    TAKEOVER = "TAKEOVER"  # follows a person, who is in charge instead of the policy
    HOLDING = "HOLDING"  # decelerated to a hold, goes on with the next chunk
    STOPPED = "STOPPED"  # emergency stop; needs reset and arm


ARMED = (State.IDLE, State.RUNNING, State.TAKEOVER, State.HOLDING)
IN_MOTION = (State.RUNNING, State.TAKEOVER)


@dataclass(frozen=True)
class Settings:
    """Behaviour that is no property of the robot. Seconds."""

    interpolation: str = "cubic"  # hold, linear, cubic or quintic
    transition: str = "blend"  # from chunk to chunk: replace, blend, ensemble or rtc
    blend_s: float = 0.2  # over which the offset between command and new chunk fades; 0 replaces at once
    ensemble_decay: float = 0.01  # an ensemble weighs a chunk that is one step newer by exp(-this)
    chunk_timeout_s: float = 2.0  # greatest age of the observation behind the chunk that is followed
    rearm_after_s: float = 1.0  # a hold that lasts longer disarms
    idle_timeout_s: float = 60.0  # armed without a first chunk for longer disarms
    relax_after_s: float = 1.0  # a blocked robot's command goes back to where the robot is after this; 0: never
    tracking_s: float = 0.15  # a joint may lag by what it goes in this time at its velocity limit; 0: not watched


@dataclass(frozen=True)
class Command:
    """What the robot shall do now: float64 [J] each, in the robot's units, units/s and units/s^2; the position of a
    speed is how fast it shall go."""

    position: np.ndarray
    velocity: np.ndarray
    acceleration: np.ndarray
    alone: np.ndarray | None = None  # bool [J]: these joints alone are commanded, of the others nothing is known


@dataclass
class Counts:
    """Events since the start."""

    chunks: int = 0  # followed
    refused: int = 0  # bad chunks
    dropped: int = 0  # chunks that came too late or out of order
    takeovers: int = 0  # by a person
    set_aside: int = 0  # chunks of what the policy saw while a person led
    stale_events: int = 0  # times that motion was interrupted because a chunk ran out or a joint state went stale
    too_late: int = 0  # commands that were withheld, because the process stood still before they could leave
    perhaps_late: int = 0  # commands while which were being sent it stood still: they may have left late
