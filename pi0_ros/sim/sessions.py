"""Demonstrations of the simulated arm in simulated time: what a recorder would hear, without ROS.

The same readings at the same simulated times as the simulator node publishes. With a policy, it drives first and the
demonstrator takes over: what is recorded shows the way back from where that policy gets itself into.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from pi0_ros.control.states import Settings
from pi0_ros.inference.pace import Pace
from pi0_ros.inference.prefix import RtcSettings
from pi0_ros.policy.policy import Policy
from pi0_ros.sim.demonstrator import Demonstrator
from pi0_ros.sim.plans import EPISODE_LIMIT_S, HOMEWARD_LIMIT_S, LATENCY_S, Plan, takeover
from pi0_ros.sim.policy_driver import PolicyDriver
from pi0_ros.sim.world import CAMERAS, IMAGE_EVERY, IMAGE_PHASES, JOINTS_EVERY, TICK, Disturbance, World, in_tray

SETTLE_TICKS = 10
EPOCH_NS = 1_700_000_000_000_000_000  # simulated time begins here: seed k 100 s after seed k - 1
TICK_NS = round(TICK * 1e9)

Commander = Callable[[np.ndarray], "np.ndarray | None"]  # measured joints [6] -> command [6], or None for none


@dataclass(frozen=True)
class Reading:
    """What was published at `stamp_ns`: `picture` of a camera, `joints` (positions, velocities [2, 6]) or `command`."""

    kind: str
    stamp_ns: int
    value: np.ndarray
    camera: str = ""


@dataclass
class Session:
    """One world and what happens in it; `readings` is what a recorder hears from `began_ns` on, once it `listens`."""

    world: World
    plan: Plan
    readings: list[Reading] = field(default_factory=list)
    ticks: int = 0
    command: np.ndarray | None = None
    began_ns: int = 0

    def __post_init__(self) -> None:
        self.world.reset(self.plan.seed, self.plan.start)
        self.world.disturbance = Disturbance(self.plan.disturbance)

    @property
    def now_ns(self) -> int:
        """Simulated time."""
        return EPOCH_NS + self.plan.seed * 100_000_000_000 + self.ticks * TICK_NS

    @property
    def done(self) -> bool:
        """The named cube lies in the tray."""
        return self.lies(self.plan.colour)

    def lies(self, colour: str) -> bool:
        """Whether the cube lies in the tray."""
        return in_tray(self.world.cubes()[colour][:3])

    def listen(self) -> None:
        """From now on everything is recorded."""
        self.began_ns = self.now_ns

    def tick(self, commander: Commander, see: PolicyDriver | None = None) -> None:
        """One TICK, as the simulator node does it; `commander` answers joint states, `see` gets the pictures."""
        self.world.step(self.command)
        self.ticks += 1
        for camera in CAMERAS:
            due = self.ticks % IMAGE_EVERY == IMAGE_PHASES[camera]
            seen = see is not None and see.looks_before(self.now_ns * 1e-9 + IMAGE_EVERY * TICK)
            if due and (self.began_ns or seen):
                pixels = self.world.render(camera)
                if see:
                    see.images[camera] = pixels
                self._hear("picture", pixels, camera)
        if self.ticks % JOINTS_EVERY == 0:
            joints = self.world.joint_positions()
            self._hear("joints", np.stack([joints, self.world.joint_velocities()]))
            command = commander(joints)
            if command is not None:
                self.command = command
                self._hear("command", command)

    def _hear(self, kind: str, value: np.ndarray, camera: str = "") -> None:
        if self.began_ns:
            self.readings.append(Reading(kind, self.now_ns, value, camera))


def demonstrate(
    world: World,
    plan: Plan,
    policy: Policy | None = None,
    wait_ticks: int = SETTLE_TICKS,
    latency_s: tuple[float, float] = LATENCY_S,
) -> Session:
    """Play `plan`, and where a `policy` is given let it drive first; the session holds the readings.

    Its latency is drawn from `latency_s`, for each session anew.
    """
    session = Session(world, plan)
    demonstrator = Demonstrator(JOINTS_EVERY * TICK)
    for _ in range(wait_ticks):
        session.tick(lambda joints: None)
    demonstrator.reset(world.joint_positions(), plan.first_aim)

    def work_on(colour: str) -> Commander:
        return lambda joints: demonstrator.act(joints, world.cubes(), colour)

    if policy is not None:
        _drive(session, policy, demonstrator, latency_s)
    elif plan.before is not None:
        colour, seconds = plan.before
        for _ in range(round(seconds / TICK)):
            session.tick(work_on(colour))
    session.listen()
    limit = session.ticks + round(EPISODE_LIMIT_S / TICK)
    while not session.done and session.ticks < limit:
        session.tick(work_on(plan.colour))
    # To the end at home and at rest: a chunk that reaches beyond a recording repeats its last command.
    limit = session.ticks + round(HOMEWARD_LIMIT_S / TICK)
    session.tick(work_on(plan.colour))
    while not demonstrator.still and session.ticks < limit:
        session.tick(work_on(plan.colour))
    for _ in range(round(plan.rest_s / TICK)):
        session.tick(work_on(plan.colour))
    return session


def _drive(session: Session, policy: Policy, demonstrator: Demonstrator, latency_s: tuple[float, float]) -> None:
    """Let the policy drive as `takeover` says, and hand its motion over to the demonstrator."""
    plan, how = session.plan, takeover(session.plan.seed, latency_s)
    random = np.random.default_rng([plan.seed, 17])
    rtc, settings = RtcSettings(how.rtc), Settings(transition=how.transition)
    latency = lambda: float(how.latency_s * random.uniform(0.8, 1.2))  # noqa: E731
    driver = PolicyDriver(policy, rtc, settings, latency, pace=Pace())  # slower demonstrations would teach slowness
    driver.begin(session.now_ns * 1e-9)
    velocity = np.zeros(6)

    def follow(text: str) -> Commander:
        def act(joints: np.ndarray) -> np.ndarray | None:
            command = driver.step(session.now_ns * 1e-9, joints, text)
            if command is None:
                return None
            velocity[:] = command.velocity
            return command.position

        return act

    for asked in how.before:
        for _ in range(round(asked.seconds / TICK)):
            session.tick(follow(asked.text), driver)
            if asked.until_done and session.lies(asked.colour):
                break
    for _ in range(round(how.own_s / TICK)):
        session.tick(follow(plan.text), driver)
        if how.stuck and session.done:
            break
    if session.command is not None:
        demonstrator.take_over(session.command, velocity)
