"""ROS message and action types made from their definitions, for tests of what the wheels have no type of.

Everything is real: the generators that come with ROS write C, Python and the middleware's type support, the compiler
makes one library of it, and rclpy talks with it over DDS like with any installed package.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

KNOWN = ("action_msgs", "builtin_interfaces", "geometry_msgs", "service_msgs", "std_msgs", "sensor_msgs")
KNOWN = (*KNOWN, "unique_identifier_msgs")
SUPPORTS = ("rosidl_typesupport_fastrtps_c", "rosidl_typesupport_introspection_c")
CONTROL_MSGS = {  # the parts of control_msgs that grippers need
    "msg/GripperCommand.msg": "float64 position\nfloat64 max_effort\n",
    "action/GripperCommand.action": """\
GripperCommand command
---
float64 position
float64 effort
bool stalled
bool reached_goal
---
float64 position
float64 effort
bool stalled
bool reached_goal
""",
    "action/ParallelGripperCommand.action": """\
sensor_msgs/JointState command
---
sensor_msgs/JointState state
bool stalled
bool reached_goal
---
sensor_msgs/JointState state
""",
}

PACKET = "std_msgs/Header header\nint32 width\nint32 height\nstring encoding\nuint64 pts\nuint8 flags\n"
PACKAGES = {  # what tests may ask for
    "control_msgs": CONTROL_MSGS,
    "tf2_msgs": {"msg/TFMessage.msg": "geometry_msgs/TransformStamped[] transforms\n"},
    "ffmpeg_image_transport_msgs": {"msg/FFMPEGPacket.msg": f"{PACKET}bool is_bigendian\nuint8[] data\n"},
    "foxglove_msgs": {
        "msg/CompressedVideo.msg": "builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format\n"
    },
}


def why_not() -> str:
    """Why types cannot be built here; empty where they can."""
    if shutil.which("gcc") is None or shutil.which("g++") is None:
        return "there is no C compiler to build message types with"
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file():
        return "Python's headers, which building message types needs, are not installed"
    return ""


@functools.cache
def built(package: str) -> str:
    """The folder to put on Python's path so that one of `PACKAGES` can be imported, built once for this machine; empty
    where it is installed. Skips the test where it cannot be built."""
    definitions = PACKAGES[package]
    if importlib.util.find_spec(package) is not None:
        return ""
    if reason := why_not():
        pytest.skip(reason)
    what = repr((sorted(definitions.items()), sys.prefix, sys.version, Path(__file__).read_text()))
    folder = Path(tempfile.gettempdir()) / f"pi0_ros_types_{hashlib.sha256(what.encode()).hexdigest()[:16]}"
    with Path(f"{folder}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            build = [
                sys.executable,
                __file__,
                package,
                json.dumps(dict(definitions)),
                str(folder),
            ]  # empy wants its own
            made = subprocess.run(build, capture_output=True, text=True, check=False)
            assert made.returncode == 0, f"building {package} failed:\n{made.stdout[-2000:]}{made.stderr[-4000:]}"
            (folder / "done").touch()
    return str(folder / "python")


def build(package: str, definitions: Mapping[str, str], folder: Path) -> None:
    """Write and compile `package` into `folder`."""
    prefix = Path(sys.prefix)
    os.environ["AMENT_PREFIX_PATH"] = str(prefix)
    source, made = folder / "source", folder / "python" / package
    for path, text in definitions.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_text(text)
    made.mkdir(parents=True)
    _generate(package, source, definitions, made, prefix / "share")
    _compile(package, made, prefix)
    (made / "__init__.py").touch()


def _generate(package: str, source: Path, definitions: Mapping[str, str], made: Path, share: Path) -> None:
    from rosidl_adapter.cli import TranslateActionToIDL, TranslateMsgToIDL
    from rosidl_cli.command.helpers import (
        generate_visibility_control_file,
        generator_arguments_file,
        legacy_generator_arguments,
    )
    from rosidl_generator_c import generate_c
    from rosidl_generator_py.cli import GeneratePython
    from rosidl_generator_type_description.cli import HashTypeDescription
    from rosidl_typesupport_c.cli import GenerateCTypesupport
    from rosidl_typesupport_fastrtps_c.cli import GenerateFastRTPSCTypesupport
    from rosidl_typesupport_introspection_c.cli import GenerateIntrospectionCTypesupport

    messages = [f"{source}:{path}" for path in definitions if path.endswith(".msg")]
    actions = [f"{source}:{path}" for path in definitions if path.endswith(".action")]
    known = [str(share / name) for name in KNOWN]
    idl = TranslateMsgToIDL("msg").translate(package, messages, known, made) if messages else []
    idl += TranslateActionToIDL("action").translate(package, actions, known, made) if actions else []
    HashTypeDescription("hash").generate_type_hashes(package, idl, known, made)
    resources = share / "rosidl_generator_c" / "resource"
    control = "rosidl_generator_c__visibility_control.h"
    generate_visibility_control_file(
        package_name=package, template_path=resources / f"{control}.in", output_path=made / "msg" / control
    )
    arguments = legacy_generator_arguments(
        package_name=package, interface_files=idl, include_paths=known, templates_path=resources, output_path=made
    )
    tuples = [f"{path}:{(made / path).with_suffix('.json')}" for path in (item.split(":")[1] for item in idl)]
    texts = [item.replace(":", "/") for item in idl]
    with generator_arguments_file(**arguments, type_description_tuples=tuples, ros_interface_files=texts) as file:
        generate_c(file)
    aside = made.parents[1] / "fields" / package  # its files are called like others
    GenerateIntrospectionCTypesupport("fields").generate(package, idl, known, aside)
    GenerateFastRTPSCTypesupport("dds").generate(package, idl, known, made)
    GenerateCTypesupport("c", typesupport_implementations=list(SUPPORTS)).generate(package, idl, known, made)
    GeneratePython("py", typesupport_implementations=["rosidl_typesupport_c"]).generate(package, idl, known, made)


def _compile(package: str, made: Path, prefix: Path) -> None:
    """One library of all that was generated, found under the two names that rclpy and the middleware ask for."""
    import numpy as np

    headers = [prefix / "include", *(path for path in (prefix / "include").iterdir() if path.is_dir()), made.parent]
    fields = made.parents[1] / "fields"
    headers += [fields, Path(sysconfig.get_paths()["include"]), Path(np.get_include())]
    flags = ["-O0", "-fPIC", "-w", *(f"-I{path}" for path in headers)]
    objects = []
    for source in (*made.rglob("*.c"), *made.rglob("*.cpp"), *fields.rglob("*.c")):
        target = source.with_suffix(source.suffix + ".o")
        compiler = ["g++", "-std=c++17"] if source.suffix == ".cpp" else ["gcc", "-std=gnu11"]
        subprocess.run([*compiler, *flags, "-c", str(source), "-o", str(target)], check=True)
        objects.append(str(target))
    kinds = ("generator_c", "generator_py", "typesupport_c", *(name.removeprefix("rosidl_") for name in SUPPORTS))
    needed = [f"-l:lib{name}__rosidl_{kind}.so" for name in KNOWN for kind in kinds]
    needed += [f"-l{name}" for name in (*SUPPORTS, "rosidl_typesupport_c", "rosidl_runtime_c", "rcutils", "fastcdr")]
    whole, other = (f"lib{package}__{name}.so" for name in SUPPORTS)
    link = ["g++", "-shared", "-Wl,--no-as-needed", "-Wl,-rpath,$ORIGIN", f"-L{made}", f"-L{prefix / 'lib'}"]
    for name, content in ((whole, [*objects, *needed]), (other, [f"-l:{whole}"])):
        subprocess.run([*link, f"-Wl,-soname,{name}", "-o", str(made / name), *content], check=True)
    module = made / f"{package}_s__rosidl_typesupport_c.so"  # its loading brings both libraries in under their names
    entry = made / f"_{package}_s.ep.rosidl_typesupport_c.c.o"
    subprocess.run([*link, "-o", str(module), str(entry), f"-l:{whole}", f"-l:{other}"], check=True)


if __name__ == "__main__":
    build(sys.argv[1], json.loads(sys.argv[2]), Path(sys.argv[3]))
