"""A person's poses as targets while a policy runs: led to without a jump, and let go of when they end.

At the handover the distance between the last command and the person's pose is kept and faded out, so that the robot
does not rush to where the leader arm happens to be: of a hand's pose it is a way and a turn about the frame's axes. A
gripper keeps its command until the person moves theirs, lest what it holds falls. Steady times in s; J joints.
"""

from __future__ import annotations

import numpy as np

from pi0_ros.control.limits import JointLimits

SHARE = 0.5  # of velocity and acceleration limits that fading may take: the person's own motion needs the rest
PEAK_SPEED, PEAK_ACCELERATION = 1.875, 5.774  # of the quintic step from 0 to 1 in a second
MOVED = 0.1  # of a gripper's range: the person has moved it
LONGEST_S = 0.1  # between two poses that are joined by a line


class Takeover:
    """Hears a person and says where the robot shall be for them."""

    def __init__(self, limits: JointLimits, timeout_s: float, blend_s: float, switched: bool = False) -> None:
        """`switched`: the person leads while `on`, whatever is heard; else while something is heard of them."""
        self._limits, self.timeout_s, self._blend_s = limits, timeout_s, blend_s
        self.switched, self.on = switched, False
        joints = len(limits.names)
        self._heard = -np.inf
        self._from, self._to = np.zeros((2, joints))  # the line that leads to the newest pose
        self._takes = 0.0
        self._offset = np.zeros(joints)
        self._began, self._fade_s = 0.0, 0.0
        self._at_begin = np.zeros(joints)  # the person's pose
        self._kept = np.zeros(joints)  # grippers' commands until the person moves theirs
        self._keeps = np.zeros(joints, bool)

    def hear(self, position: np.ndarray, steady: float) -> None:
        """Take the person's pose, finite [J]."""
        first = not self.active(steady)
        self._from = np.array(position if first else self._pose(steady)[0])
        self._takes = 0.0 if first else min(max(steady - self._heard, 0.0), LONGEST_S)
        self._to[:] = position
        self._heard = steady

    def active(self, steady: float) -> bool:
        """Whether the person is there: heard within the timeout."""
        return bool(0 <= steady - self._heard <= self.timeout_s)

    def wanted(self, steady: float) -> bool:
        """Whether the person wants to lead: then nothing else does, even while nothing is heard of them."""
        return self.on if self.switched else self.active(steady)

    def since(self, steady: float) -> float:
        """How long ago the person led last, s, asked at a tick at which they do."""
        return 0.0 if self.switched else steady - self._heard

    def begin(self, command: np.ndarray, steady: float) -> None:
        """The person takes over from this command [J]."""
        limits = self._limits
        pose = self._pose(steady)[0]
        self._at_begin[:], self._kept[:] = pose, command
        self._keeps = limits.gripper.copy()
        way = limits.space.way(pose, command)
        self._offset = np.where(limits.gripper | limits.speed, 0.0, way)  # a base obeys the stick at once
        size = limits.space.sizes(self._offset)
        slow = PEAK_SPEED * size / (SHARE * limits.velocity)
        soft = np.sqrt(PEAK_ACCELERATION * size / (SHARE * limits.acceleration))
        self._began, self._fade_s = steady, float(max(self._blend_s, slow.max(), soft.max()))

    def target(self, steady: float) -> tuple[np.ndarray, np.ndarray]:
        """Where the robot shall be, and how fast it shall move there, [J] each."""
        pose, velocity = self._pose(steady)
        self._keeps &= np.abs(pose - self._at_begin) < MOVED * (self._limits.upper - self._limits.lower)
        part = min(max((steady - self._began) / self._fade_s, 0.0), 1.0) if self._fade_s > 0 else 1.0
        left = 1.0 - part**3 * (10.0 - 15.0 * part + 6.0 * part**2)
        falling = -30.0 * part**2 * (1.0 - part) ** 2 / self._fade_s if 0.0 < part < 1.0 else 0.0
        space, offset = self._limits.space, left * self._offset
        position = np.where(self._keeps, self._kept, space.moved(pose, offset))
        velocity = space.carried(offset, velocity) + falling * self._offset
        return position, np.where(self._keeps, 0.0, velocity)

    def _pose(self, steady: float) -> tuple[np.ndarray, np.ndarray]:
        """The person's pose and velocity [J]: on the line to the newest, or there."""
        since = steady - self._heard
        if self._takes <= 0.0 or since >= self._takes:
            return self._to, np.zeros_like(self._to)
        space = self._limits.space
        way = space.way(self._from, self._to)
        return space.moved(self._from, way * (max(since, 0.0) / self._takes)), way / self._takes
