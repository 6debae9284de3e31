"""What each launch file starts: one table that `launch/*.launch.py` and, without ROS's launch, `pi0 up` both read."""

from __future__ import annotations

import difflib
import json
import re
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pi0_ros.base.arguments import NAMESPACE
from pi0_ros.base.disk import expanded
from pi0_ros.base.errors import InputError
from pi0_ros.base.share import config_path, share_path
from pi0_ros.launching.given_parameters import check_file, from_file
from pi0_ros.launching.parameter import Parameter, ParameterError, yaml_value
from pi0_ros.launching.parameter import describe as describe_parameter
from pi0_ros.launching.parameters import RENAMED, table
from pi0_ros.launching.rviz import rviz_config
from pi0_ros.monitor.kinematics import parse_urdf
from pi0_ros.robot import load_robot

Value = bool | int | float | str  # of a ROS parameter
EMPTY = ""  # an argument of this value is not passed on: the node's own default, or `params_file`, decides
# What is read only where another argument (of this node) has one of these values; none named: any that is not empty.
READ_WITH: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    "checkpoint": ("policy", "backend", ("local",)),
    "device": ("policy", "backend", ("local",)),
    "server": ("policy", "backend", ("zmq", "openpi")),
    "tokenizer": ("policy", "backend", ("local",)),
    "keys": ("policy", "backend", ("zmq",)),
    "image_coding": ("policy", "backend", ("zmq",)),
    "token_file": ("policy", "backend", ("openpi",)),
    "deadman_button": ("controller", "deadman_topic", ()),
    "rviz_config": ("", "rviz", ("true",)),
}


@dataclass(frozen=True)
class Argument:
    """A launch argument `name:=value`. `default=None`: it must be given.

    What it takes is what `parameter` takes, and without one what has the type of its default.
    """

    name: str
    default: Value | None
    help: str
    parameter: Parameter | None = None

    def read(self, text: str) -> Value:
        """The value that `text` stands for; ValueError names the argument and what it takes."""
        if text == EMPTY and self.default == EMPTY:
            return EMPTY
        takes = self.parameter or Parameter(self.name, self.default if self.default is not None else "", "")
        try:
            return takes.read(text)
        except ParameterError:
            raise InputError(f"{self.name}:={text}: this argument takes {takes.takes}") from None


def _of(node: str, name: str, default: Value | None = EMPTY, help: str = "") -> Argument:
    """The launch argument for a parameter of a node, with its meaning and its type."""
    parameter = table(node)[name]
    said = "" if default != EMPTY or parameter.default == EMPTY else f"; default: {yaml_value(parameter.default)}"
    return Argument(name, default, help or describe_parameter(parameter) + said, parameter)


@dataclass(frozen=True)
class Process:
    """A process of a launch file. `passes`: arguments handed on as ROS parameters of the same name."""

    name: str  # of the node
    executable: str
    passes: tuple[str, ...] = ()
    when: str = ""  # the boolean argument that switches it on; empty: always
    required: bool = False  # its end is the end of all; that of any other only when it refused to start
    package: str = "pi0_ros"

    @property
    def node(self) -> str:
        """Its name in the table of parameters; "" for another package's."""
        return self.executable.removesuffix("_node") if self.package == "pi0_ros" else ""


@dataclass(frozen=True)
class Launch:
    """One launch file."""

    summary: str
    arguments: tuple[Argument, ...]
    processes: tuple[Process, ...]


@dataclass(frozen=True)
class Command:
    """A process with everything filled in."""

    name: str
    package: str
    executable: str
    required: bool
    parameters: dict[str, Any]
    remaps: dict[str, str]
    log_level: str
    namespace: str = ""
    options: tuple[str, ...] = ()  # before --ros-args

    @property
    def node(self) -> str:
        """Its name in the table of parameters; "" for another package's."""
        return self.executable.removesuffix("_node") if self.package == "pi0_ros" else ""

    def argv(self) -> list[str]:
        """The command line for this Python, for nodes of this package."""
        ros = ros_arguments(self.parameters, self.name, self.remaps, log_level=self.log_level, namespace=self.namespace)
        return [sys.executable, "-m", "pi0_ros.nodes.start", self.node, *self.options, *ros]


@dataclass(frozen=True)
class Shape:
    """A robot's URDF and its root link; where there is none, the frame that RViz begins in."""

    text: str = ""
    root: str = "base_link"


def ros_arguments(
    parameters: Mapping[str, Any],
    name: str = "",
    remaps: Mapping[str, str] | None = None,
    params_file: str = "",
    log_level: str = "",
    namespace: str = "",
) -> list[str]:
    """`--ros-args ...` of a node: JSON values are YAML values, so a prompt with a colon stays a string."""
    words = ["--ros-args"]
    words += ["-r", f"__node:={name}"] if name else []
    words += ["-r", f"__ns:=/{namespace}"] if namespace else []
    for old, new in (remaps or {}).items():
        words += ["-r", f"{old}:={new}"]
    words += ["--params-file", params_file] if params_file else []
    for key, value in parameters.items():
        words += ["-p", f"{key}:={json.dumps(value, ensure_ascii=False, default=str)}"]
    return words + (["--log-level", log_level] if log_level else [])


ROBOT = _of("controller", "robot", None)
SIM_ROBOT = Parameter("robot", "demo_arm", "the simulator's robot", choices=("demo_arm",))
DEMO_ROBOT = Argument("robot", "demo_arm", "the simulated arm, the only robot that the simulator has", SIM_ROBOT)
PROMPT = _of("policy", "prompt", help="what to do, in words; empty: the robot file's prompt")
POLICY = (
    _of("policy", "checkpoint"),
    _of("policy", "backend"),
    _of("policy", "server"),
    PROMPT,
    _of("policy", "device"),
    _of("policy", "tokenizer"),
    _of("policy", "keys"),
    _of("policy", "image_coding"),
    _of("policy", "token_file"),
)
TRANSITION = _of("controller", "transition")
RTC = _of("policy", "rtc.mode")
PACE = _of("policy", "execution_speed")
AUTO_ARM = _of("controller", "auto_arm", False, "arm with the policy's first chunk instead of waiting for ~/arm")
LOG_LEVEL = Parameter("log_level", "info", "how much", choices=("debug", "info", "warn", "error", "fatal"))
COMMON = (
    Argument("namespace", EMPTY, "namespace of all nodes and topics, such as left: several robots in one domain"),
    Argument("use_sim_time", False, "take time from /clock"),
    Argument("params_file", EMPTY, "ROS parameters of all nodes; config/policy.yaml shows every one"),
    Argument("log_level", "info", "how much the nodes say", LOG_LEVEL),
)
MONITOR = Argument("monitor", True, "publish the planned path and the ghost for RViz and Foxglove")
RVIZ = (
    Argument("rviz", False, "open RViz (needs a ROS 2 installation)"),
    Argument("rviz_config", EMPTY, "RViz configuration of your own; empty: one for the robot's base link and cameras"),
)


def _view(default: bool) -> Argument:
    return Argument("view", default, "serve the browser view (needs viser)")


FLIGHT = Argument("flight", False, "keep the last minute in memory, and on disk where something goes wrong")
FLIGHT_PROCESS = Process("flight", "flight_node", ("robot",), when="flight")
WAIVE = _of("controller", "waive")
SHADOW = _of("controller", "shadow")
DEADMAN = (_of("controller", "deadman_topic"), _of("controller", "deadman_button"))
CONTROLLER_PROCESS = Process("controller", "controller_node", ("robot", "auto_arm", "transition"), required=True)
# Not required: when the policy dies, the controller must live on, decelerate to a hold and say so.
POLICY_PROCESS = Process(
    "policy", "policy_node", ("robot", *(argument.name for argument in POLICY), "rtc.mode", PACE.name)
)
WATCHING = (
    Process("monitor", "monitor_node", ("robot",), when="monitor"),
    Process("viewer", "viewer_node", ("robot",), when="view"),
    Process("robot_state_publisher", "robot_state_publisher", when="rviz", package="robot_state_publisher"),
    Process("ghost_state_publisher", "robot_state_publisher", when="rviz", package="robot_state_publisher"),
    Process("ghost_base", "static_transform_publisher", when="rviz", package="tf2_ros"),
    Process("rviz2", "rviz2", when="rviz", package="rviz2"),
)


def _with(process: Process, *passes: str) -> Process:
    return replace(process, passes=(*process.passes, *passes))


LAUNCHES: dict[str, Launch] = {
    "policy": Launch(
        "Run a policy on a robot: the policy node, the controller and what watches them.",
        (
            ROBOT,
            *POLICY,
            TRANSITION,
            RTC,
            PACE,
            AUTO_ARM,
            SHADOW,
            WAIVE,
            *DEADMAN,
            MONITOR,
            FLIGHT,
            _view(False),
            *RVIZ,
            *COMMON,
        ),
        (
            _with(CONTROLLER_PROCESS, "shadow", "waive", "deadman_topic", "deadman_button"),
            POLICY_PROCESS,
            FLIGHT_PROCESS,
            *WATCHING,
        ),
    ),
    "record": Launch(
        "Record episodes of a teleoperated robot as rosbags: by the keys of `pi0 record` or the recorder's services.",
        (
            ROBOT,
            _of("recorder", "out_dir"),
            PROMPT,
            _view(False),
            *COMMON,
        ),
        (
            Process("recorder", "recorder_node", ("robot", "out_dir", "prompt"), required=True),
            Process("viewer", "viewer_node", ("robot",), when="view"),
        ),
    ),
    "monitor": Launch(
        "Watch a robot and its policy: markers, health, browser view, RViz.",
        (ROBOT, MONITOR, _view(True), *RVIZ, *COMMON),
        WATCHING,
    ),
    "demo": Launch(
        "The simulated arm with its trained policy, running on (the scored demo is `pi0 demo`).",
        (
            DEMO_ROBOT,
            _of("policy", "checkpoint", str(Path(__file__).parents[1] / "sim" / "checkpoint")),
            *POLICY[1:],
            _of("controller", "transition", "rtc"),  # its policy was trained to continue what is being executed
            RTC,
            PACE,
            _of("policy", "torch_threads", 1),  # more wait for each other where simulator and view are at work
            _of("controller", "realtime.priority", 20),
            _of("viewer", "scene_service", "sim/new_scene"),
            _of("sim", "seed", 0, "of the simulator's scenes"),
            replace(AUTO_ARM, default=True),
            MONITOR,
            _view(True),
            *RVIZ,
            *COMMON,
        ),
        (
            Process("sim", "sim_node", ("seed",), required=True),
            _with(CONTROLLER_PROCESS, "realtime.priority"),
            _with(POLICY_PROCESS, "torch_threads"),
            *(_with(process, "scene_service") if process.name == "viewer" else process for process in WATCHING),
        ),
    ),
}


def find(file: str) -> Launch:
    """The launch of that name (`policy`), file name (`policy.launch.py`) or path; ValueError lists what there is."""
    name = Path(file).name.removesuffix(".py").removesuffix(".launch")
    if name not in LAUNCHES:
        raise InputError(f"no launch file is called {file!r}; there are {', '.join(LAUNCHES)}")
    return LAUNCHES[name]


def parse_arguments(words: Iterable[str]) -> dict[str, str]:
    """`["robot:=demo_arm"]` -> `{"robot": "demo_arm"}`; ValueError for anything else."""
    given: dict[str, str] = {}
    for word in words:
        name, separator, value = word.partition(":=")
        if not separator or not name:
            raise InputError(f"{word!r} is not an argument: write name:=value")
        if given.setdefault(name, value) != value:
            raise InputError(f"argument {name!r} is given twice, as {given[name]!r} and as {value!r}")
    return given


def describe(launch: Launch) -> str:
    """The arguments of a launch file as text."""
    lines = [launch.summary, ""]
    for argument in launch.arguments:
        default = "; must be given" if argument.default is None else f"; default: {argument.default}"
        lines.append(f"  {argument.name + ':=':15s} {argument.help}{'' if argument.default == EMPTY else default}")
    return "\n".join(lines)


def resolve(launch: Launch, given: Mapping[str, str], description: str = "") -> list[Command]:
    """The commands of a launch file for the given arguments.

    `description`: the URDF that a driver publishes on robot_description; it is used instead of the robot file's, and
    nobody publishes another.
    Raises ValueError for an argument that is unknown, missing or of the wrong kind, and for a parameter file with
    something that no node takes; RobotFileError for a bad robot.
    """
    values = read_arguments(launch, given)
    file = str(expanded(str(values["params_file"]))) if values["params_file"] else ""
    if file:
        check_file(file)
    _check_read(launch, values, file)
    namespace = str(values["namespace"]).strip("/")
    if not re.fullmatch(NAMESPACE, namespace):
        raise InputError(f"namespace:={values['namespace']}: write letters, digits and _ only, for example left")
    wanted = [process for process in launch.processes if not process.when or values[process.when]]
    shape = _shape(values, description) if values.get("rviz") else Shape()
    if description:
        wanted = [process for process in wanted if process.name != "robot_state_publisher"]
    elif not shape.text:  # RViz has markers and pictures; the monitor waits for a driver's description
        wanted = [process for process in wanted if process.package not in ("robot_state_publisher", "tf2_ros")]
    return [_command(process, values, file, namespace, shape) for process in wanted]


def _check_read(launch: Launch, values: Mapping[str, Value], file: str) -> None:
    """InputError for an argument that another one makes meaningless."""
    for argument in launch.arguments:
        value = values.get(argument.name, EMPTY)
        if argument.name not in READ_WITH or value in (EMPTY, argument.default):
            continue
        node, other, wanted = READ_WITH[argument.name]
        found = values.get(other, EMPTY)
        if found == EMPTY and node:
            said = from_file(file, node, str(values["namespace"])) if file else {}
            found = said.get(other, table(node)[other].default)
        found = str(found).lower() if isinstance(found, bool) else str(found)
        if found not in wanted and (wanted or not found):
            needs = f"{other}:={' or '.join(wanted) or '...'}"
            now = f" and {other} is {found}" if found else ""
            raise InputError(f"{argument.name}:={value} is read with {needs} only{now}: leave one out, or change it")


def _shape(values: Mapping[str, Value], description: str) -> Shape:
    robot = load_robot(str(values["robot"]))
    text, origin = description, "robot_description"
    if not text and robot.urdf is not None:
        text, origin = share_path(robot.urdf).read_text(encoding="utf-8"), robot.urdf
    return Shape(text, parse_urdf(text, origin).root) if text else Shape()


def read_arguments(launch: Launch, given: Mapping[str, str]) -> dict[str, Value]:
    """The values of all arguments; ValueError for one that is unknown, missing or of the wrong kind."""
    known = [argument.name for argument in launch.arguments]
    for name in given:
        new = next((names[name] for names in RENAMED.values() if name in names), "")
        if new:
            raise InputError(f"argument {name!r} is called {new!r} now: write {new}:={given[name]}")
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise InputError(f"unknown argument {name!r}: {hint}")
    missing = [a for a in launch.arguments if a.default is None and not given.get(a.name)]
    if missing:
        raise InputError(f"{missing[0].name}:=... must be given ({missing[0].help})")
    values = {a.name: a.read(given[a.name]) if a.name in given else a.default for a in launch.arguments}
    return {name: value for name, value in values.items() if value is not None}


def _command(process: Process, values: Mapping[str, Value], file: str, namespace: str, shape: Shape) -> Command:
    parameters: dict[str, Any] = from_file(file, process.name, namespace) if file else {}
    parameters |= {name: values[name] for name in process.passes if values[name] != EMPTY}
    remaps: dict[str, str] = {}
    options: tuple[str, ...] = ()
    prefix = f"{namespace}/" if namespace else ""  # of frames
    if namespace and process.node and parameters.get("robot", SIM_ROBOT.default) == SIM_ROBOT.default:
        # The simulator follows the namespace, though its robot file has full names.
        simulated = load_robot(str(SIM_ROBOT.default))
        topics = (*simulated.topics, *(group.topic for group in simulated.takeover.topics))
        remaps |= {topic: topic.removeprefix("/") for topic in topics}
    if values["use_sim_time"]:  # the simulator is where the time comes from
        parameters["clock" if process.node == "sim" else "use_sim_time"] = True
    if process.node in ("monitor", "sim") and prefix:
        parameters["frame_prefix"] = prefix
    if process.executable == "rviz2":
        options = ("-d", str(_rviz_config(values, shape.root, namespace)))
    elif process.package in ("robot_state_publisher", "tf2_ros"):
        if process.package == "tf2_ros":
            options = ("--frame-id", f"{prefix}{shape.root}", "--child-frame-id", f"{prefix}ghost/{shape.root}")
        elif process.name == "ghost_state_publisher":
            # The same links again, under ghost/, where the plan ends.
            parameters |= {"robot_description": shape.text, "frame_prefix": f"{prefix}ghost/"}
            remaps |= {"joint_states": "pi0/ghost", "robot_description": "pi0/ghost_description"}
        else:
            parameters |= {"robot_description": shape.text} | ({"frame_prefix": prefix} if prefix else {})
            remaps["joint_states"] = "pi0/joint_states"  # the monitor's: all state topics in one, by the URDF's names
    return Command(
        name=process.name,
        package=process.package,
        executable=process.executable,
        required=process.required,
        parameters=parameters,
        remaps=remaps,
        log_level=str(values["log_level"]),
        namespace=namespace,
        options=options,
    )


def _rviz_config(values: Mapping[str, Value], root: str, namespace: str) -> Path:
    """The user's own configuration, or one made for the robot."""
    if values["rviz_config"]:
        own = expanded(str(values["rviz_config"]))
        if not own.is_file():
            raise InputError(f"rviz_config:={values['rviz_config']}: there is no such file")
        return own
    robot = load_robot(str(values["robot"]))

    def network_name(topic: str) -> str:
        follows = not topic.startswith("/") or robot.name == SIM_ROBOT.default
        return f"/{namespace}/{topic.removeprefix('/')}" if namespace and follows else f"/{topic.removeprefix('/')}"

    text = rviz_config(config_path("pi0.rviz").read_text(encoding="utf-8"), robot, root, namespace, network_name)
    path = Path(tempfile.mkdtemp(prefix="pi0_")) / f"{robot.name}.rviz"
    path.write_text(text, encoding="utf-8")
    return path
