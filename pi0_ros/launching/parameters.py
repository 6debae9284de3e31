"""Every ROS parameter of every node: one table for declarations, `config/policy.yaml`, launch arguments and docs.

`pi0_ros/nodes/parameters.py` declares from it, `launches.py` types its arguments by it, and `tools/parameters.py`
writes the files that show it. No ROS here.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from pi0_ros.base.choices import IMAGE_CODINGS, RTC_SCHEDULES
from pi0_ros.control.splines import INTERPOLATIONS
from pi0_ros.control.states import Settings
from pi0_ros.control.transitions import TRANSITIONS
from pi0_ros.inference.options import BACKENDS, DTYPES, MAX_SEED, OPTIONS
from pi0_ros.inference.pace import AUTO, FASTEST, SLOWEST
from pi0_ros.inference.prefix import MODES, RtcSettings
from pi0_ros.launching.parameter import Changes, Parameter

ROS_OWN = ("use_sim_time", "start_type_description_service")  # of every node, and qos_overrides.*
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
            "checks that arming passes over, by name, with spaces between: limits, units, rate, qos, publishers, "
            "leaps, clock (see docs/safety.md)",
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
