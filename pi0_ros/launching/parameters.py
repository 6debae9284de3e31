"""Every ROS parameter of every node: one table for declarations, `config/policy.yaml`, launch arguments and docs.

`pi0_ros/nodes/parameters.py` declares from it, `launches.py` types its arguments by it, and `tools/parameters.py`
writes the files that show it. No ROS here.
"""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import yaml

from pi0_ros.base.choices import IMAGE_CODINGS, RTC_SCHEDULES
from pi0_ros.base.errors import InputError
from pi0_ros.control.splines import INTERPOLATIONS
from pi0_ros.control.states import Settings
from pi0_ros.control.transitions import TRANSITIONS
from pi0_ros.inference.options import BACKENDS, DTYPES, MAX_SEED, OPTIONS
from pi0_ros.inference.pace import AUTO, FASTEST, SLOWEST
from pi0_ros.inference.prefix import MODES, RtcSettings

Value = bool | int | float | str | list[int] | list[str]
ROS_OWN = ("use_sim_time", "start_type_description_service")  # of every node, and qos_overrides.*


class ParameterError(InputError):
    """A parameter's name or value is wrong; the message names it and says what is right."""


class Changes(Enum):
    """When a parameter may be set."""

    AT_START = "at start only"
    UNCONFIGURED = "while the node is unconfigured"  # of a lifecycle node
    ALWAYS = "at any time"


@dataclass(frozen=True)
class Parameter:
    """One parameter; its default's type is its type. An empty list is written `[""]` or `[-1]`, so that it has one.

    With a `word` it is a number, and this word may stand in its place.
    """

    name: str
    default: Value
    text: str  # what it means; begins in lower case, no full stop
    unit: str = ""
    range: tuple[float, float] | None = None  # of numbers, both ends allowed
    choices: tuple[str, ...] = ()  # of strings
    changes: Changes = Changes.AT_START
    word: str = ""

    @property
    def kind(self) -> str:
        """Its type in words, as a reader of the documentation knows it."""
        if isinstance(self.default, list):
            return "integers" if isinstance(self.default[0], int) else "strings"
        if self.word:
            return "number or word"
        return {bool: "bool", int: "integer", float: "number", str: "string"}[type(self.default)]

    @property
    def takes(self) -> str:
        """What may be given, in words."""
        if self.choices:
            return f"one of {', '.join(choice or '(empty)' for choice in self.choices)}"
        words = {"bool": "true or false", "integer": "a whole number", "number": "a number", "string": "text"}
        words["number or word"] = f"{self.word} or a number"
        limits = f" from {self.range[0]} to {self.range[1]}" if self.range else ""
        return words.get(self.kind, f"a list of {self.kind}") + limits

    def check(self, value: Any) -> None:
        """ParameterError unless the node would take `value`."""
        if not self._fits(value):
            raise ParameterError(f"parameter {self.name} is {value!r}: it takes {self.takes}")

    def read(self, text: str) -> bool | int | float | str:
        """The value that `text` stands for on a command line; ParameterError for what it does not take."""
        kind = float if self.word and text != self.word else type(self.default)
        try:
            if kind is bool:
                value: Any = {"true": True, "1": True, "false": False, "0": False}[text.lower()]
            else:
                value = kind(text) if kind in (int, float) else text
        except (KeyError, ValueError):
            value = text
        self.check(value)
        return value

    def _fits(self, value: Any) -> bool:
        if isinstance(self.default, list):
            return isinstance(value, list) and all(type(item) is type(self.default[0]) for item in value)
        if self.word:
            if type(value) not in (int, float):
                return bool(value == self.word)
        elif type(value) is not type(self.default):
            return False
        if self.choices and value not in self.choices:
            return False
        # NaN lies in no range.
        return self.range is None or isinstance(value, str) or self.range[0] <= value <= self.range[1]


_CONTROL, _RTC = Settings(), RtcSettings()
GRIPPER = Parameter(
    "gripper_closed_at",
    "lower",
    "limit of the URDF's gripper joint at which it is closed",
    choices=("lower", "upper"),
)


def _robot(changes: Changes = Changes.AT_START) -> Parameter:
    return Parameter("robot", "demo_arm", "robot file: its name in config/robots, or a path", changes=changes)


def _option(name: str, changes: Changes) -> Parameter:
    """The parameter for an option of loading a policy, which commands offer too."""
    option, choices = OPTIONS[name], {"backend": BACKENDS, "dtype": DTYPES, "image_coding": IMAGE_CODINGS}.get(name, ())
    default: Any = option.default
    text = option.metadata["text"].removesuffix(", s")
    unit = "s" if name.endswith("_s") else ""
    return Parameter(name, default, text, unit, option.metadata["limits"], choices, changes)


def _policy() -> tuple[Parameter, ...]:
    later, always = Changes.UNCONFIGURED, Changes.ALWAYS
    return (
        _robot(later),
        *(_option(name, later) for name in OPTIONS),
        Parameter(
            "prompt",
            "",
            "what to do; empty at the start: the robot file's, empty later: nothing. The topic ~/prompt sets it too",
            changes=always,
        ),
        Parameter(
            "policy_rate",
            0.0,
            "most inferences per second; 0: the robot file's policy_rate_hz",
            "Hz",
            (0.0, 100.0),
            (),
            later,
        ),
        Parameter(
            "execution_speed",
            AUTO,
            "how fast actions are executed, of the rate at which they were recorded; 0.5 for a first trial; auto: 1, "
            "slower where chunks come later than the policy was trained for, see docs/rtc.md",
            "",
            (SLOWEST, FASTEST),
            changes=always,
            word=AUTO,
        ),
        Parameter(
            "subtask.rate_hz",
            0.0,
            "how often a pi0.5 model names its next subtask (backend local); 0: never",
            "Hz",
            (0.0, 10.0),
            changes=later,
        ),
        Parameter(
            "rtc.mode",
            _RTC.mode,
            "how a chunk continues the one that runs while the model thinks, see docs/rtc.md. exact: as in the paper; "
            "lerobot: cheaper; trained: needs a checkpoint trained for it; auto: trained where it is, else exact",
            choices=MODES,
            changes=later,
        ),
        Parameter(
            "rtc.schedule",
            _RTC.schedule,
            "how the guidance falls behind the executed actions",
            choices=tuple(RTC_SCHEDULES),
            changes=later,
        ),
        Parameter(
            "rtc.max_guidance_weight",
            _RTC.max_guidance_weight,
            "limit of the pull toward the running chunk",
            "",
            (0.1, 100.0),
            changes=later,
        ),
        Parameter(
            "rtc.mask_end",
            _RTC.mask_end,
            "from this one on they are free; 0: as far as the running chunk reaches",
            "actions",
            (0, 1000),
            changes=later,
        ),
        Parameter("autostart", True, "configure and activate the lifecycle node without being told"),
    )


def _controller() -> tuple[Parameter, ...]:
    return (
        _robot(),
        Parameter(
            "auto_arm",
            False,
            "arm once by itself, as soon as a chunk came that could be followed and nothing speaks against it. The "
            "launch files always pass their own argument auto_arm, so that no file arms unseen",
        ),
        Parameter(
            "auto_arm_timeout_s",
            300.0,
            "auto_arm waits no longer for a chunk, and for what else is in the way: then ~/arm is needed; 0: for ever",
            "s",
            (0.0, 86400.0),
        ),
        Parameter(
            "shadow",
            False,
            "run whole and command nothing: what would be commanded goes to pi0/shadow_command, its distance from what "
            "the operator commands to pi0/shadow_error",
        ),
        Parameter(
            "waive",
            "",
            "checks that arming passes over, by name, with spaces between: limits, units, rate, qos, publishers (see "
            "docs/safety.md)",
        ),
        Parameter(
            "interpolation", _CONTROL.interpolation, "between the actions of a chunk", choices=tuple(INTERPOLATIONS)
        ),
        Parameter(
            "transition", _CONTROL.transition, "from chunk to chunk, see docs/motion.md", choices=tuple(TRANSITIONS)
        ),
        Parameter("blend_s", _CONTROL.blend_s, "over which the offset to a new chunk fades; 0: none", "s", (0.0, 5.0)),
        Parameter(
            "ensemble_decay",
            _CONTROL.ensemble_decay,
            "transition ensemble: a chunk that is one step newer weighs exp(-this) as much",
            "",
            (0.0, 10.0),
        ),
        Parameter(
            "chunk_timeout_s",
            _CONTROL.chunk_timeout_s,
            "greatest age of the observation behind a chunk that is still followed",
            "s",
            (0.0, 600.0),
        ),
        Parameter(
            "tracking_s",
            _CONTROL.tracking_s,
            "a joint may lag by what it goes in this time at its velocity limit; 0: not watched. A joint's "
            "limits.tracking in the robot file wins",
            "s",
            (0.0, 60.0),
        ),
        Parameter(
            "rearm_after_s", _CONTROL.rearm_after_s, "after a longer hold ~/arm is asked for again", "s", (0.0, 86400.0)
        ),
        Parameter(
            "idle_timeout_s",
            _CONTROL.idle_timeout_s,
            "armed without a first chunk for longer disarms; 0: never",
            "s",
            (0.0, 86400.0),
        ),
        Parameter(
            "deadman_topic",
            "",
            "a button that a person holds while the robot may move (see docs/safety.md): let go, it comes to a hold; "
            "empty: none",
        ),
        Parameter(
            "deadman_button",
            -1,
            "which button of the sensor_msgs/msg/Joy on deadman_topic, from 0; -1: the topic is a std_msgs/msg/Bool",
            "",
            (-1, 1000),
        ),
        Parameter(
            "deadman_timeout_s", 0.5, "a button of which nothing was heard for longer is not pressed", "s", (0.01, 60.0)
        ),
        Parameter(
            "relax_after_s",
            _CONTROL.relax_after_s,
            "after this a blocked robot's command goes back to where the robot is; 0: never",
            "s",
            (0.0, 600.0),
        ),
        Parameter(
            "realtime.priority",
            0,
            "SCHED_FIFO priority of the ticks' thread, for example 80; 0: normal scheduling. Where the machine does "
            "not allow a realtime setting, the controller warns once and goes on without",
            "",
            (0, 99),
        ),
        Parameter("realtime.lock_memory", False, "keep all memory of the process in RAM (mlockall)"),
        Parameter("realtime.cpu", [-1], "cores that the process runs on, for example [3]; [-1]: all"),
    )


NODES: Mapping[str, tuple[Parameter, ...]] = {
    "policy": _policy(),
    "controller": _controller(),
    "recorder": (
        _robot(),
        Parameter("out_dir", "bags", "folder that receives one bag per episode"),
        Parameter(
            "prompt",
            "",
            "of the next episodes; empty: the robot file's. The topic ~/prompt sets it too",
            changes=Changes.ALWAYS,
        ),
        Parameter(
            "pre_roll_s", 0.0, "before ~/start that go into the bag too; kept in memory while idle", "s", (0.0, 60.0)
        ),
        Parameter(
            "queue_mb",
            512,
            "memory for messages that wait for the disk; what does not fit is counted as lost",
            "MB",
            (0, 1_000_000_000),
        ),
        Parameter(
            "min_free_mb",
            1000,
            "free disk below which no episode starts and a running one ends; 0: to the last byte",
            "MB",
            (0, 1_000_000_000),
        ),
        Parameter(
            "compression",
            "none",
            "of the bags. zstd makes raw images a fifth smaller, for 15 % of a core",
            choices=("none", "zstd"),
        ),
        Parameter(
            "extra_topics", [""], "recorded too where somebody publishes them, for example [pi0/command, pi0/latency]"
        ),
        Parameter(
            "joy_buttons",
            "",
            'buttons of the topic joy: "start=0 stop=1 success=2 failure=3 discard=4", or toggle=0',
        ),
    ),
    "monitor": (
        _robot(),
        Parameter("urdf", "", "path of the URDF; empty: the topic robot_description, before it the robot file's"),
        Parameter("tips", [""], "links whose path is drawn; empty: the ends of the arms"),
        GRIPPER,
        Parameter(
            "ghost", "end", "what pi0/ghost shows: the end of the plan, or a sweep along it", choices=("end", "sweep")
        ),
        Parameter("sweep_s", 1.5, "of one sweep", "s", (0.1, 60.0)),
        Parameter("trail_s", 6.0, "of executed path that stay visible", "s", (0.0, 600.0)),
        Parameter("frame_prefix", "", "before the names of frames, for example left/"),
    ),
    "viewer": (
        _robot(),
        Parameter(
            "host",
            "127.0.0.1",
            "address to serve on; 0.0.0.0: every network interface, and everyone there may press buttons",
        ),
        Parameter("port", 8080, "to serve on; the next free one where it is taken", "", (1, 65535)),
        Parameter("controller", "controller", "name of the controller node that the buttons speak to"),
        Parameter("recorder", "recorder", "name of the recorder node that the buttons speak to"),
        GRIPPER,
        Parameter("marker_topics", [""], "MarkerArray topics to draw; empty: pi0/markers and /ROBOT/objects"),
        Parameter("prompt_topics", ["policy/prompt", "recorder/prompt"], "who gets instructions"),
        Parameter("prompts", [""], "instruction buttons; empty: made from the robot file's prompt"),
        Parameter("scene_service", "", "std_srvs/srv/Trigger behind the button `new scene`; empty: no such button"),
    ),
    "flight": (
        _robot(),
        Parameter("out_dir", "flights", "folder that receives one bag per incident"),
        Parameter("seconds", 60.0, "before an incident that are kept", "s", (1.0, 600.0)),
        Parameter("after_s", 3.0, "after it that are kept", "s", (0.1, 60.0)),
        Parameter("memory_mb", 512, "for those seconds; what does not fit is forgotten first", "MB", (1, 1_000_000)),
        Parameter(
            "max_disk_mb",
            20_000,
            "that all incidents in out_dir may take; beyond, the oldest are removed",
            "MB",
            (1, 1_000_000_000),
        ),
        Parameter("min_free_mb", 1000, "free disk below which nothing is written", "MB", (0, 1_000_000_000)),
        Parameter("compression", "zstd", "of the bags", choices=("none", "zstd")),
    ),
    "joystick": (
        _robot(),
        Parameter(
            "axes",
            "",
            'which axis of the topic joy moves which joint, counted from 0, with - the other way: "yaw=0 -shoulder=1"',
        ),
        Parameter("buttons", "", 'the same of buttons: "gripper=0 -gripper=1" closes and opens'),
        Parameter("hold_button", 4, "the person leads while it is held", "", (0, 63)),
        Parameter("speed", 0.3, "of a joint at full deflection, as a share of its velocity limit", "", (0.01, 1.0)),
        Parameter("dead_zone", 0.1, "share of an axis around its middle that moves nothing", "", (0.0, 0.9)),
        Parameter("timeout_s", 0.5, "after so long without a word of the joystick it was let go of", "s", (0.05, 5.0)),
        Parameter("controller", "controller", "name of the controller node"),
    ),
    "sim": (
        Parameter("seed", 0, "of the cubes' places at the next ~/reset", "", (0, MAX_SEED), changes=Changes.ALWAYS),
        Parameter("speed", 1.0, "simulated seconds per second", "", (0.01, 100.0), changes=Changes.ALWAYS),
        Parameter("clock", False, "publish /clock at 100 Hz and stamp with simulated time"),
        Parameter(
            "lockstep",
            False,
            "wait for a command after each joint state: recording as fast as the machine goes",
            changes=Changes.ALWAYS,
        ),
        Parameter(
            "disturbance",
            0.0,
            "wandering joint error, for demonstrations that correct themselves",
            "rad",
            (0.0, 0.2),
            changes=Changes.ALWAYS,
        ),
        Parameter(
            "arm",
            "home",
            "where the arm is at the next ~/reset; beside a cube: as after a grasp that missed",
            choices=("home", "beside", "tray", "anywhere"),
            changes=Changes.ALWAYS,
        ),
        Parameter(
            "tray",
            "",
            "cubes that lie in the tray at the next ~/reset",
            choices=("", "red", "green", "blue", "red green", "red blue", "green blue", "red green blue"),
            changes=Changes.ALWAYS,
        ),
        Parameter("frame_prefix", "", "before the names of frames, for example left/"),
    ),
    "demonstrator": (
        Parameter("colour", "", "cube to put in the tray; empty: rest", choices=("", "red", "green", "blue")),
        Parameter("corrects", False, "speak on the robot file's takeover topic instead of its command topic"),
    ),
}
RENAMED: Mapping[str, Mapping[str, str]] = {  # node -> old name -> new name
    "controller": {"seam": "transition"},
    "sim": {"mishap": "arm"},
}


def table(node: str) -> dict[str, Parameter]:
    """The parameters of a node by name."""
    return {parameter.name: parameter for parameter in NODES[node]}


def unknown(node: str, name: str) -> str:
    """Why the node has no parameter `name`, in one sentence that names the right one; "" where it has."""
    known = table(node)
    if name in known or name in ROS_OWN or name.startswith("qos_overrides."):
        return ""
    if name in RENAMED.get(node, {}):
        return f"parameter {name} of {node} is called {RENAMED[node][name]} now"
    near = difflib.get_close_matches(name, known, 1)
    others = [other for other in NODES if name in table(other)]
    hint = f"did you mean {near[0]}?" if near else f"{' and '.join(others)} has it" if others else ""
    return f"{node} has no parameter {name}: {hint or 'it has ' + ', '.join(known)}"


def check_given(node: str, words: Sequence[str]) -> None:
    """Look at a node's command line, program first; ParameterError for what the node would ignore.

    ROS itself takes `robot:=ur5e` outside of --ros-args for a remapping, as it once was, and keeps the robot.
    """
    ros, others = _split(words[1:])
    if others:
        hint = f": write --ros-args -p {others[0]}" if ":=" in others[0] else ""
        raise ParameterError(f"argument {others[0]!r} says nothing to {node}{hint}")
    given: dict[str, str] = {}
    for flag, word in zip(ros, ros[1:]):
        if flag == "--params-file":
            check_file(word)
        elif flag in ("-p", "--param"):
            name, _, value = word.partition(":=")
            if problem := unknown(node, name.rpartition(":")[2]):
                raise ParameterError(problem)
            if given.setdefault(name, value) != value:
                raise ParameterError(f"parameter {name} is given twice, as {given[name]} and as {value}")


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words within `--ros-args ... --`, and the others."""
    ros: list[str] = []
    others: list[str] = []
    within = False
    for word in words:
        if word == "--ros-args" or (within and word == "--"):
            within = word == "--ros-args"
        else:
            (ros if within else others).append(word)
    return ros, others


def check_file(path: str | Path) -> None:
    """Read a ROS parameter file; ParameterError names the file and what no node of ours would take.

    Sections of other packages' nodes are theirs. `/**` and `/*` speak to all nodes: somebody must have the parameter.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ParameterError(f"{path}: there is no such parameter file ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParameterError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if content is None:
        raise ParameterError(f"{path} is empty: config/policy.yaml shows how a parameter file looks")
    problems = [
        problem for node, names in _sections(content, path) for problem in _problems(node.rsplit("/", 1)[-1], names)
    ]
    if problems:
        raise ParameterError("\n".join(f"{path}: {problem}" for problem in problems))


def from_file(path: str | Path, node: str, namespace: str = "") -> dict[str, Any]:
    """What a file that `check_file` let pass says to `node`: first what it says to all, then what to this one.

    In a namespace a section without one speaks to it too.
    """
    content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    known = table(node) if node in NODES else {}
    full = f"{namespace}/{node}".strip("/")
    said: dict[int, dict[str, Any]] = {0: {}, 1: {}, 2: {}}
    for name, values in _sections(content, path):
        place = name.strip("/")
        rank = 0 if place.strip("*/") == "" else 1 if place == node else 2 if place == full else None
        if rank is not None:
            said[rank] |= values
    given = said[0] | said[1] | said[2]
    return {
        name: _as_ros(known[name], value) if name in known else value
        for name, value in given.items()
        if not known or not unknown(node, name)
    }


def _sections(content: Any, path: str | Path, prefix: str = "") -> Iterable[tuple[str, dict[str, Any]]]:
    """(node's full name or wildcard, flat parameters) of every section; a namespace may be a level of its own."""
    if not isinstance(content, dict):
        raise ParameterError(f"{path}: {prefix or 'the file'} must hold node names with ros__parameters below them")
    for key, below in content.items():
        name = str(key)
        if isinstance(below, dict) and "ros__parameters" in below:
            given = below["ros__parameters"]
            if not isinstance(given, dict):
                raise ParameterError(f"{path}: {name}: ros__parameters must hold name: value")
            yield f"{prefix}/{name}", _flat(given)
        elif isinstance(below, dict) and any(isinstance(inner, dict) for inner in below.values()):
            yield from _sections(below, path, f"{prefix}/{name}")
        else:
            raise ParameterError(
                f"{path}: {name}: write ros__parameters: below the node's name, and parameters below that"
            )


def _flat(given: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{rtc: {mode: off}}` -> `{"rtc.mode": "off"}`."""
    flat: dict[str, Any] = {}
    for key, value in given.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _problems(node: str, given: Mapping[str, Any]) -> list[str]:
    if node.strip("*") == "":
        nodes = {name: next((n for n in NODES if not unknown(n, name)), "") for name in given}
        lost = [name for name, owner in nodes.items() if not owner]
        every = sorted({parameter.name for parameters in NODES.values() for parameter in parameters})
        near = {name: difflib.get_close_matches(name, every, 1) for name in lost}
        old = {name: new for names in RENAMED.values() for name, new in names.items()}
        return [
            f"parameter {name} is called {old[name]} now"
            if name in old
            else f"no node has a parameter {name}" + (f": did you mean {near[name][0]}?" if near[name] else "")
            for name in lost
        ]
    if node not in NODES:
        meant = difflib.get_close_matches(node, NODES, 1)
        return [f"no node is called {node}: did you mean {meant[0]}?"] if meant else []  # else of another package
    problems = [unknown(node, name) for name in given]
    known = table(node)
    for name, value in given.items():
        if name in known:
            try:
                known[name].check(_as_ros(known[name], value))
            except ParameterError as error:
                problems.append(f"{node}: {error}")
    return [problem for problem in problems if problem]


def _as_ros(parameter: Parameter, value: Any) -> Any:
    """ROS's YAML reader knows 1e-3 as a number, PyYAML takes it for text."""
    if isinstance(value, str) and (isinstance(parameter.default, float) or parameter.word not in ("", value)):
        try:
            return float(value)
        except ValueError:
            return value
    return value


# ------------------------------------------------------------------------------------------- the files that show it

YAML_HEAD = """\
# Every ROS parameter of every node, with its default. Copy it, keep the lines that you change, and start with
#     ros2 launch pi0_ros policy.launch.py params_file:=my.yaml ...      (or pi0 up policy params_file:=my.yaml ...)
# Launch arguments win over this file. What belongs to the robot (topics, joints, limits, rates) is in its robot file.
# Every node also has ROS's own use_sim_time. Written by tools/parameters.py from pi0_ros/launching/parameters.py.
"""
WIDTH, COMMENT_AT = 120, 34


def policy_yaml() -> str:
    """The text of `config/policy.yaml`."""
    blocks = [YAML_HEAD]
    for node, parameters in NODES.items():
        lines = [f"{node}:", "  ros__parameters:"]
        for parameter in parameters:
            lines += _yaml_lines(parameter)
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def _yaml_lines(parameter: Parameter) -> list[str]:
    entry = f"    {parameter.name}: {yaml_value(parameter.default)}"
    column = max(COMMENT_AT, len(entry) + 2)
    words = textwrap.wrap(describe(parameter), WIDTH - COMMENT_AT - 2)
    if column > COMMENT_AT:  # a long default: its comment goes below it
        return [entry, *(" " * COMMENT_AT + f"# {line}" for line in words)]
    first, *more = words
    return [entry.ljust(COMMENT_AT) + f"# {first}", *(" " * COMMENT_AT + f"# {line}" for line in more)]


def describe(parameter: Parameter) -> str:
    """Unit, meaning and what is allowed, in one line of text."""
    text = f"{parameter.unit}, {parameter.text}" if parameter.unit else parameter.text
    if not all(choice in parameter.text for choice in parameter.choices):
        text += f" ({', '.join(choice for choice in parameter.choices if choice)})"
    return text


def yaml_value(value: Value) -> str:
    """A parameter's value as one word of YAML that ROS reads as the same type."""
    return yaml.safe_dump(value, default_flow_style=True, width=1000).partition("\n")[0]


BEGIN = "<!-- parameters: written by tools/parameters.py -->"
END = "<!-- parameters: end -->"


def reference_tables() -> str:
    """The parameters of every node as Markdown tables, between BEGIN and END."""
    blocks = [BEGIN]
    for node, parameters in NODES.items():
        rows = [
            f"| `{p.name}` | {p.kind} | `{yaml_value(p.default)}` | {p.unit} | {_allowed(p)} | {p.text} | "
            f"{p.changes.value} |"
            for p in parameters
        ]
        head = ["| name | type | default | unit | allowed | | may change |", "|---|---|---|---|---|---|---|"]
        blocks.append("\n".join([f"### {node}", "", *head, *rows]))
    return "\n\n".join([*blocks, END])


def _allowed(parameter: Parameter) -> str:
    if parameter.choices:
        return ", ".join(f"`{choice}`" if choice else "empty" for choice in parameter.choices)
    word = f"`{parameter.word}`, " if parameter.word else ""
    return f"{word}{parameter.range[0]} to {parameter.range[1]}" if parameter.range else ""


def with_tables(page: str) -> str:
    """`page` (Markdown) with the tables between BEGIN and END as they are now."""
    before, _, rest = page.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise InputError(f"the page lacks {BEGIN} ... {END}")
    return before + reference_tables() + after
