"""Check by types that the nodes use only what ROS 2 Humble's rclpy and messages have: Humble has no wheels to test on.

    git clone -b humble https://github.com/ros2/rclpy            below one folder, e.g. build/humble/sources
    git clone -b humble https://github.com/ros2/rcl_interfaces
    git clone -b humble https://github.com/ros2/common_interfaces
    python tools/typecheck_humble.py build/humble/sources        further arguments go to mypy

The messages' classes are described (`.pyi`) from their `.msg` and `.srv` files, rclpy is read as it is. What rclpy
leaves without types counts as anything: a name that is missing is found, and so is a wrong argument; a changed meaning
is not.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from typecheck import ROOT, lay_out

WORK = ROOT / "build" / "humble"
NEEDED = ("rclpy", "rcl_interfaces", "common_interfaces")
ROOMS = ("pi0_ros.nodes", "pi0_ros.monitor", "pi0_ros.cli")
CONFIG = """
[mypy]
python_version = 3.10
ignore_missing_imports = True
check_untyped_defs = True
follow_imports = silent
no_site_packages = True
[mypy-rclpy.*]
ignore_errors = True
implicit_optional = True
ignore_missing_imports = False
[mypy-rclpy.event_handler]  # newer; messages.py takes rclpy.qos_event where it is absent
ignore_missing_imports = True
"""
NUMBERS = {"float32": "float", "float64": "float", "bool": "bool", "byte": "bytes", "char": "int"}
NUMBERS |= {f"{sign}int{bits}": "int" for sign in ("", "u") for bits in (8, 16, 32, 64)}
FIELD = re.compile(r"(?P<kind>[\w/]+)(?:<=\d+)?(?P<many>\[[^\]]*\])?\s+(?P<name>\w+)\s*(?P<rest>.*)")


def python_type(kind: str, package: str) -> tuple[str, str]:
    """(annotation, package to import or "") of one field's type."""
    if kind in NUMBERS:
        return NUMBERS[kind], ""
    if kind.startswith(("string", "wstring")):
        return "str", ""
    where, _, name = kind.replace("/msg/", "/").rpartition("/")
    where = where or ("std_msgs" if name == "Header" else package)
    return f"{where}.msg.{name}", where


def class_of(name: str, definition: str, package: str) -> tuple[list[str], set[str]]:
    """The lines of a message class, and the packages that it needs."""
    lines, imports, keywords = [f"class {name}:"], set(), []
    for line in definition.splitlines():
        match = FIELD.fullmatch(line.partition("#")[0].strip())
        if match is None:
            continue
        kind, package_of = python_type(match["kind"], package)
        imports |= {package_of} - {""}
        if match["rest"].startswith("="):
            lines.append(f"    {match['name']}: {kind}")
            continue
        given = kind
        if match["many"]:
            given = "typing.Any"  # any sequence will do
            kind = f"array.array[{kind}]" if kind in ("int", "float") else f"list[{kind}]"
        keywords.append(f"{match['name']}: {given} = ...")
        lines += ["    @property", f"    def {match['name']}(self) -> {kind}: ..."]
        lines += [f"    @{match['name']}.setter", f"    def {match['name']}(self, value: {given}) -> None: ..."]
    lines += [f"    def __init__(self, {', '.join(['*', *keywords])}) -> None: ..." if keywords else "    pass"]
    lines += ["    @classmethod", "    def get_fields_and_field_types(cls) -> dict[str, str]: ..."]
    return lines, imports


def classes(package: Path, suffix: str) -> Iterator[tuple[list[str], set[str]]]:
    """Every class that the definitions of `package` with this suffix (`msg`, `srv`) make."""
    for path in sorted((package / suffix).glob(f"*.{suffix}")):
        if suffix == "msg":
            yield class_of(path.stem, path.read_text(), package.name)
            continue
        request, answer = re.split(r"^---\s*$", path.read_text(), maxsplit=1, flags=re.MULTILINE)
        for part, definition in (("Request", request), ("Response", answer)):
            yield class_of(f"{path.stem}_{part}", definition, package.name)
        aliases = [f"    {part}: typing.TypeAlias = {path.stem}_{part}" for part in ("Request", "Response")]
        yield [f"class {path.stem}:", *aliases], set()


def describe(package: Path, out: Path) -> None:
    """Write the stubs of one message package."""
    for suffix in ("msg", "srv"):
        found = list(classes(package, suffix))
        if found:
            imports = {"array", "typing"}.union(*({f"{name}.msg" for name in needed} for _, needed in found))
            body = "\n".join(line for lines, _ in found for line in lines)
            folder = out / package.name / suffix
            folder.mkdir(parents=True, exist_ok=True)
            (out / package.name / "__init__.pyi").touch()
            (folder / "__init__.pyi").write_text("".join(f"import {name}\n" for name in sorted(imports)) + body + "\n")


def main() -> int:
    """Lay out our package, Humble's rclpy and stubs of its messages side by side, and run mypy there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(os.path.relpath(WORK / "sources")))
    args, for_mypy = parser.parse_known_args()
    folder = args.folder
    missing = [name for name in NEEDED if not (folder / name).is_dir()]
    if missing:
        clones = "".join(f"\n  git clone -b humble https://github.com/ros2/{name} {folder / name}" for name in missing)
        print(f"typecheck_humble: the sources of ROS 2 Humble are not in {folder}:{clones}", file=sys.stderr)
        return 2
    tree = WORK / "tree"
    lay_out(tree)
    (tree / "rclpy").unlink(missing_ok=True)
    (tree / "rclpy").symlink_to((folder / "rclpy" / "rclpy" / "rclpy").resolve())
    for package in sorted(folder.glob("*_interfaces/*/")):
        describe(package, tree)
    config = WORK / "mypy.ini"
    config.write_text(CONFIG)
    command = [sys.executable, "-m", "mypy", "--config-file", str(config), "--cache-dir", str(WORK / "cache")]
    command += [word for room in ROOMS for word in ("-p", room)]
    environment = {**os.environ, "MYPYPATH": str(tree), "PYTHONPATH": ""}
    return subprocess.run([*command, *for_mypy], cwd=tree, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
