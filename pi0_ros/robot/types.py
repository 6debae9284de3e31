"""What a robot file says, as frozen dataclasses; `pi0_ros.robot.file` reads and writes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pi0_ros.robot.dataset_names import AS_HERE, DatasetNames
from pi0_ros.robot.lens import Lens
from pi0_ros.robot.message_types import is_state_field
from pi0_ros.robot.released import NOTHING, Released
from pi0_ros.robot.rotations import WRITINGS
from pi0_ros.robot.space import Space, space_of
from pi0_ros.robot.turning import TURN
from pi0_ros.robot.units import SAME, Scale

DRIVER_WAITS_S = 0.2  # without a command a driver may have stopped a speed by itself, where the file does not say when


@dataclass(frozen=True)
class Pose:
    """The place and rotation of a hand (`kind: pose`): several entries of the vectors, each a `Joint` of its own."""

    name: str
    frame: str  # in which its messages say it
    rotation: str = "rot6d"  # how the vectors hold it, one of `rotations.WRITINGS`
    seen_from: str = "frame"  # where the model's state sees it from: frame | start (of the chunk: always the origin)

    @property
    def entries(self) -> tuple[str, ...]:
        """The names of its entries: the place, then the numbers of the rotation."""
        return tuple(f"{self.name}.{part}" for part in ("x", "y", "z", *WRITINGS[self.rotation].names))

    @property
    def identity(self) -> np.ndarray:
        """The frame itself, float64 [entries]."""
        return np.concatenate([np.zeros(3), WRITINGS[self.rotation].identity])


@dataclass(frozen=True)
class Joint:
    """One joint, or an entry of a pose. `unit` holds for positions; velocity, acceleration and jerk are in unit/s,
    unit/s^2 and unit/s^3; of a pose they are of the whole hand, m or rad.

    Of a speed (a mobile base) the vectors hold how fast it goes: `unit` is m/s or rad/s, `lower` and `upper` are the
    greatest speeds back and forth, and `velocity` and `acceleration` say how fast the speed may change: they are what
    the file calls acceleration and jerk.
    """

    name: str
    unit: str  # rad | m | normalized (a gripper from 0 to 1) | m/s | rad/s
    kind: str  # revolute | continuous (turns without end) | prismatic | gripper (switches, never blends) | pose | speed
    lower: float  # -inf and inf for a continuous one
    upper: float
    velocity: float
    acceleration: float
    jerk: float | None
    action: str  # absolute | relative (to the state at capture) | velocity (see `step`) | "" for a joint of the state
    role: str = "both"  # both | state (the model sees it) | action (the model moves it)
    state_scale: Scale = SAME  # how the model counts the joint
    action_scale: Scale = SAME
    step: float = 1.0  # of a velocity: how far an action of 1 moves per frame, as the model counts the joint
    tracking: float | None = None  # distance from its command that is too far. None: the controller's usual
    model_index: int | None = None  # which of the model's dimensions it takes. None: its place in this file
    outside: float | None = None  # it may be found this far outside its limits when armed. None: a tenth of its range
    pose: Pose | None = None  # which pose it is an entry of

    @property
    def writes_rotation(self) -> bool:
        """Whether it is one of the numbers of a pose's rotation: none of them means much alone."""
        return self.pose is not None and self.name not in self.pose.entries[:3]

    @property
    def neutral(self) -> float:
        """A position within its limits: the nearest to zero, and of a pose no rotation."""
        if self.pose is not None and self.writes_rotation:
            return float(self.pose.identity[self.pose.entries.index(self.name)])
        return min(max(0.0, self.lower), self.upper)

    @property
    def at_origin(self) -> float:
        """Its number in its pose's own frame; 0 of others."""
        return 0.0 if self.pose is None else float(self.pose.identity[self.pose.entries.index(self.name)])

    @property
    def continuous(self) -> bool:
        """Whether it turns without end: differences go the short way round."""
        return self.kind == "continuous"

    @property
    def speed(self) -> bool:
        """Whether its value is itself a velocity: it rests at zero, wherever it is."""
        return self.kind == "speed"

    @property
    def span(self) -> float:
        """From one end of its range to the other, its unit; a whole turn where there are no ends."""
        return TURN if self.continuous else self.upper - self.lower


@dataclass(frozen=True)
class Camera:
    """One camera topic and the image slot of the model that it fills."""

    name: str
    topic: str
    type: str
    slot: str
    max_age_s: float
    frozen_s: float | None = None  # identical pictures for longer: the camera is frozen. None: never (simulators)
    encoding: str = ""  # what the pictures really are, where the driver says another; empty: what the messages say
    rectify: Lens | None = None  # the lens whose distortion is taken out, before the crop
    crop: tuple[int, int, int, int] | None = None  # left, top, width, height in pixels of the picture as sent
    rotate: int = 0  # degrees clockwise, after the crop: 0, 90, 180 or 270
    depth: tuple[float, float] | None = None  # a depth camera: metres shown white (near) and black (far)
    stamp: str = "auto"  # whose time counts: auto | header (the stamp, whatever other clocks say) | arrival
    latency_s: float = 0.0  # how long before that time the picture was taken


@dataclass(frozen=True)
class StateTopic:
    """Measured state of `joints` on one topic; several entries may name one topic, with other joints each."""

    topic: str
    type: str
    joints: tuple[str, ...]
    max_age_s: float
    field: str = "position"  # one that the type is known to have, or the path of positions: fingers[0:6].angle
    names: tuple[str, ...] = ()  # what the messages call the joints; empty: the same as `joints`
    scale: tuple[float, ...] = ()  # message = scale * value here + offset, for each joint; empty: 1
    offset: tuple[float, ...] = ()  # empty: 0
    stamp: str = "auto"  # whose time counts: auto | header (the stamp, whatever other clocks say) | arrival
    names_from: str = "names"  # names (of the message) | order (the message has the joints in the order listed here)
    latency_s: float = 0.0  # how long before its time the state was measured
    pose: Pose | None = None  # what the messages say, where that is a pose: `joints` are its entries
    speeds: bool = False  # whether its joints are speeds; not in the file, their kind says it
    frame: str = ""  # of speeds: the frame that its messages must name; empty: any
    index: int | None = None  # which pose of a PoseArray
    child: str = ""  # the frame whose transform in a TFMessage is the pose

    @property
    def message_names(self) -> tuple[str, ...]:
        """The names of `joints` inside the messages, in the same order."""
        return self.names or self.joints

    @property
    def is_position(self) -> bool:
        """Whether the state is what its joints are commanded in (positions, of speeds velocities), nothing beside."""
        return self.speeds or self.field == "position" or not is_state_field(self.type, self.field)


@dataclass(frozen=True)
class Server:
    """An action server that takes commands as goals (a gripper's)."""

    name: str  # /gripper_controller/gripper_cmd
    type: str  # control_msgs/action/GripperCommand
    field: str  # of the goal, which takes the commands: one number, or an array of all
    names_field: str = ""  # of the goal, which takes what `names` calls the joints; empty: none
    fixed: tuple[tuple[str, Any], ...] = ()  # (field, value) of the goal's others


@dataclass(frozen=True)
class CommandGroup:
    """Joints that are commanded together through one topic, or through an action server: then `topic` (of the `type`
    JointState) tells what it was sent."""

    name: str
    topic: str
    type: str
    joints: tuple[str, ...]
    names: tuple[str, ...] = ()  # what the messages call the joints; empty: the same as `joints`
    scale: tuple[float, ...] = ()  # message = scale * value here + offset, for each joint; empty: 1
    offset: tuple[float, ...] = ()  # empty: 0
    points: str = (
        "one"  # of a JointTrajectory: one (the next), or trajectory (all to the end of the plan, when it changes)
    )
    stamp: str = "auto"  # whose time counts: auto | header (the stamp, whatever other clocks say) | arrival
    max_age_s: float | None = None  # in recordings, from which on a command is too old. None: the action's
    hold: bool = False  # in recordings a command stays valid until the next (a gripper that is told twice)
    pose: Pose | None = None  # what the messages say, where that is a pose: `joints` are its entries
    speeds: bool = False  # whether its joints are speeds, which a silent topic lets rest; not in the file
    on_change: float | None = None  # a command is sent where a joint is this far from the last. None: every one
    server: Server | None = None  # who takes the commands, where that is an action server
    frame: str = ""  # of speeds: the frame that its messages name; empty: none, and in recordings any

    @property
    def driver_waits_s(self) -> float:
        """Of speeds: how long without a command the driver keeps the last one; infinite: for ever."""
        if self.hold:
            return float("inf")
        return DRIVER_WAITS_S if self.max_age_s is None else self.max_age_s

    @property
    def message_names(self) -> tuple[str, ...]:
        """The names of `joints` inside the messages, in the same order."""
        return self.names or self.joints


@dataclass(frozen=True)
class TakeoverTopics:
    """Where the commands of a person come from who leads the robot instead of the policy; no topics: nobody can."""

    topics: tuple[CommandGroup, ...] = ()  # the person's poses, of every joint
    begins: str = "switch"  # switch (pi0/takeover, ~/takeover) | commands (their first one)
    timeout_s: float = 0.3  # a person of whom nothing was heard for longer is not there
    blend_s: float = 0.5  # over which the distance to their pose fades at least


NOBODY = TakeoverTopics()


@dataclass(frozen=True)
class Robot:
    """A robot as its file describes it. Vectors are in the order of `joints`: J of them.

    A state has the S joints whose role is not action, an action the A joints whose role is not state: nearly always
    both are all of them.
    """

    name: str
    description: str
    joints: tuple[Joint, ...]
    cameras: tuple[Camera, ...]
    state: tuple[StateTopic, ...]
    commands: tuple[CommandGroup, ...]
    action_source: str  # command (the recorded command topics) | next_state
    action_max_age_s: float
    control_rate_hz: float
    policy_rate_hz: float
    dataset_fps: float
    prompt: str
    urdf: str | None  # relative to the package
    released: Released = NOTHING
    dataset: DatasetNames = AS_HERE  # what datasets of other authors call things
    takeover: TakeoverTopics = field(default=NOBODY, compare=False)  # robots that differ in it alone take the same data

    @property
    def joint_names(self) -> tuple[str, ...]:
        return tuple(joint.name for joint in self.joints)

    @property
    def state_joints(self) -> tuple[Joint, ...]:
        """The joints of the state, S."""
        return tuple(joint for joint in self.joints if joint.role != "action")

    @property
    def action_joints(self) -> tuple[Joint, ...]:
        """The joints of the action, A."""
        return tuple(joint for joint in self.joints if joint.role != "state")

    @property
    def state_names(self) -> tuple[str, ...]:
        return tuple(joint.name for joint in self.state_joints)

    @property
    def action_names(self) -> tuple[str, ...]:
        return tuple(joint.name for joint in self.action_joints)

    @property
    def moved(self) -> Robot:
        """What the controller commands: the joints of the action alone, and nothing of the state."""
        return replace(self, joints=self.action_joints, state=())

    @property
    def seen(self) -> Robot:
        """The joints that are only seen, and nothing of the commands."""
        joints = tuple(joint for joint in self.joints if joint.role == "state")
        return replace(self, joints=joints, commands=(), takeover=NOBODY)

    @property
    def lower(self) -> np.ndarray:
        """Lower position limits, float64 [J]."""
        return np.array([joint.lower for joint in self.joints], np.float64)

    @property
    def upper(self) -> np.ndarray:
        """Upper position limits, float64 [J]."""
        return np.array([joint.upper for joint in self.joints], np.float64)

    @property
    def velocity(self) -> np.ndarray:
        """Velocity limits, float64 [J], unit/s."""
        return np.array([joint.velocity for joint in self.joints], np.float64)

    @property
    def acceleration(self) -> np.ndarray:
        """Acceleration limits, float64 [J], unit/s^2."""
        return np.array([joint.acceleration for joint in self.joints], np.float64)

    @property
    def jerk(self) -> np.ndarray:
        """Jerk limits, float64 [J], unit/s^3; infinite where the file has none."""
        return np.array([np.inf if joint.jerk is None else joint.jerk for joint in self.joints], np.float64)

    @property
    def tracking(self) -> np.ndarray:
        """Distances from the command that are too far, float64 [J], unit; infinite where the file has none."""
        return np.array([np.inf if joint.tracking is None else joint.tracking for joint in self.joints], np.float64)

    @property
    def outside(self) -> np.ndarray:
        """How far outside its limits a joint may be found, float64 [J], unit; NaN where the file says nothing."""
        return np.array([np.nan if joint.outside is None else joint.outside for joint in self.joints], np.float64)

    @property
    def gripper_mask(self) -> np.ndarray:
        """True where the action joint is a gripper, bool [A]."""
        return np.array([joint.kind == "gripper" for joint in self.action_joints], bool)

    @property
    def poses(self) -> tuple[Pose, ...]:
        """The hands that are commanded or seen as poses, in the joints' order."""
        return tuple(dict.fromkeys(joint.pose for joint in self.joints if joint.pose is not None))

    @property
    def space(self) -> Space:
        """What the numbers of all joints are: on lines, on circles, of poses."""
        return space_of(self.joints)

    @property
    def speed_mask(self) -> np.ndarray:
        """True where a joint's value is a speed, bool [J]."""
        return np.array([joint.speed for joint in self.joints], bool)

    @property
    def plausible_velocity(self) -> np.ndarray:
        """Velocity limits against which measurements are judged, float64 [J]; infinite for speeds: a base that bumps
        into something stops at once, and odometry is noisy."""
        return np.where(self.speed_mask, np.inf, self.velocity)

    @property
    def state_space(self) -> Space:
        """The same of the state's."""
        return space_of(self.state_joints)

    @property
    def action_space(self) -> Space:
        """The same of the action's."""
        return space_of(self.action_joints)

    @property
    def state_places(self) -> np.ndarray:
        """Which of the model's dimensions each of the state's joints takes, intp [S]."""
        return _places(self.state_joints)

    @property
    def action_places(self) -> np.ndarray:
        """Which of the model's dimensions each of the action's joints takes, intp [A]."""
        return _places(self.action_joints)

    @property
    def has_places(self) -> bool:
        """Whether the file says which of the model's dimensions the joints take."""
        return any(joint.model_index is not None for joint in self.joints)

    @property
    def relative_mask(self) -> np.ndarray:
        """True where the action is a difference from the state at capture, bool [A]; a pose's is none: it is composed
        (`composed`)."""
        return np.array([joint.action == "relative" and joint.pose is None for joint in self.action_joints], bool)

    @property
    def composed(self) -> tuple[Pose, ...]:
        """The poses whose action says where to go as seen from the hand at capture."""
        found = (joint.pose for joint in self.action_joints if joint.action == "relative" and joint.pose is not None)
        return tuple(dict.fromkeys(found))

    @property
    def seen_from_start(self) -> np.ndarray:
        """True where the model's state is counted from the chunk's start, bool [S]: always the origin."""
        return np.array([joint.pose is not None and joint.pose.seen_from == "start" for joint in self.state_joints])

    @property
    def velocity_mask(self) -> np.ndarray:
        """True where the action is a velocity, bool [A]."""
        return np.array([joint.action == "velocity" for joint in self.action_joints], bool)

    @property
    def velocity_steps(self) -> np.ndarray:
        """How far an action of 1 moves per frame where it is a velocity, else 1; float64 [A]."""
        return np.array([joint.step for joint in self.action_joints], np.float64)

    @property
    def topics(self) -> dict[str, str]:
        """Every topic of the file with its message type: cameras, then state, then commands."""
        streams: tuple[Camera | StateTopic | CommandGroup, ...] = (*self.cameras, *self.state, *self.commands)
        return {stream.topic: stream.type for stream in streams}

    @property
    def state_topics(self) -> dict[str, tuple[StateTopic, ...]]:
        """The entries of `state` by their topics: several may name one."""
        topics = dict.fromkeys(item.topic for item in self.state)
        return {topic: tuple(item for item in self.state if item.topic == topic) for topic in topics}

    @property
    def stamp_ways(self) -> dict[str, str]:
        """Of every topic which time counts: auto, header or arrival."""
        streams: tuple[Camera | StateTopic | CommandGroup, ...] = (*self.cameras, *self.state, *self.commands)
        return {stream.topic: stream.stamp for stream in streams}

    @property
    def latencies_ns(self) -> dict[str, int]:
        """Of the camera and state topics that have one: how long before its stamp or arrival a sample was taken."""
        streams: tuple[Camera | StateTopic, ...] = (*self.cameras, *self.state)
        return {stream.topic: round(stream.latency_s * 1e9) for stream in streams if stream.latency_s}

    @property
    def max_ages_s(self) -> dict[str, float]:
        """The greatest age of each topic's samples in seconds; of a topic listed twice the smaller."""
        cameras = {camera.topic: camera.max_age_s for camera in self.cameras}
        states: dict[str, float] = {}
        for item in self.state:
            states[item.topic] = min(item.max_age_s, states.get(item.topic, item.max_age_s))
        commands = {group.topic: self.command_age_s(group) for group in self.commands}
        return {**commands, **cameras, **states}

    def ages_of(self, joints: Sequence[str]) -> np.ndarray:
        """How old what is measured of these joints may be, float64 [len(joints)], s; infinite where nobody measures."""
        ages = {joint: item.max_age_s for item in self.state for joint in item.joints}
        return np.array([ages.get(joint, np.inf) for joint in joints], np.float64)

    @property
    def held_from_state(self) -> frozenset[str]:
        """Topics of commands that hold and whose joints are measured: until the first command these stay where they
        are."""
        measured = {joint for item in self.state if item.is_position for joint in item.joints}
        held = [group for group in self.commands if group.hold and not group.speeds]
        return frozenset(group.topic for group in held if measured.issuperset(group.joints))

    @property
    def may_be_silent(self) -> frozenset[str]:
        """Topics of commands that a recording may begin without, or have no message of: what holds, and speeds."""
        return self.held_from_state | self.speed_topics

    @property
    def speed_topics(self) -> frozenset[str]:
        """Topics of commands that are speeds: zero where nobody speaks."""
        return frozenset(group.topic for group in self.commands if group.speeds)

    def command_age_s(self, group: CommandGroup) -> float:
        """The greatest age of a group's commands in seconds; infinite where one holds until the next."""
        if group.hold:
            return float("inf")
        return self.action_max_age_s if group.max_age_s is None else group.max_age_s

    @property
    def driver_waits_s(self) -> np.ndarray:
        """Behind how long a pause of the controller it takes each joint's driver for one that has stopped a speed by
        itself, float64 [J] s; infinite: never. Of joints that are no speeds it means nothing.

        Of what is measured it is asked soon, whatever the file says; of what is not the file alone knows.
        """
        waits = {joint: group.driver_waits_s for group in self.commands for joint in group.joints}
        by_file = np.array([waits.get(joint, DRIVER_WAITS_S) for joint in self.joint_names], np.float64)
        measured = [joint.role != "action" for joint in self.joints]
        return np.where(measured, np.minimum(by_file, DRIVER_WAITS_S), by_file)

    def with_topics(self, name: Callable[[str], str]) -> Robot:
        """This robot with `name(topic)` in the place of every topic: what a namespace and remaps make of it."""
        return replace(
            self,
            cameras=tuple(replace(item, topic=name(item.topic)) for item in self.cameras),
            state=tuple(replace(item, topic=name(item.topic)) for item in self.state),
            commands=tuple(_renamed(item, name) for item in self.commands),
            takeover=replace(
                self.takeover,
                topics=tuple(replace(item, topic=name(item.topic)) for item in self.takeover.topics),
            ),
        )

    @property
    def recorded(self) -> Robot:
        """This robot with the topics as they are called in its recordings, whatever the namespace was: /..."""
        return self.with_topics(lambda topic: f"/{topic.removeprefix('/')}")

    def indices(self, joints: Sequence[str]) -> np.ndarray:
        """Where `joints` stand in the robot's order, intp [len(joints)]."""
        return np.array([self.joint_names.index(joint) for joint in joints], np.intp)


def _renamed(group: CommandGroup, name: Callable[[str], str]) -> CommandGroup:
    server = group.server and replace(group.server, name=name(group.server.name))
    return replace(group, topic=name(group.topic), server=server)


def _places(joints: Sequence[Joint]) -> np.ndarray:
    """The model's dimensions of these joints; in their order from 0 on where the file does not say."""
    return np.array([n if joint.model_index is None else joint.model_index for n, joint in enumerate(joints)], np.intp)
