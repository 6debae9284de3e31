"""Who may import whom: the house's floors, read from the source. Ground first; nothing imports upwards.

Imports inside functions count too, unless they are listed as `late` (optional decoders, heavy libraries).
Everything below `if TYPE_CHECKING:` is for the type checker and does not count.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "pi0_ros"
ROS = {
    *("rclpy", "rcl_interfaces", "builtin_interfaces", "lifecycle_msgs", "rosgraph_msgs", "diagnostic_msgs"),
    *("geometry_msgs", "nav_msgs", "sensor_msgs", "std_msgs", "std_srvs", "trajectory_msgs", "visualization_msgs"),
}


@dataclass(frozen=True)
class Floor:
    """What a room may import: rooms of this package, libraries, and libraries inside functions only."""

    rooms: set[str]
    libraries: set[str]
    late: set[str] = field(default_factory=set)


GROUND = {"base", "robot", "observation"}
# From the ground up: a room may import rooms of the lines above it only, and of those only the ones it lists.
FLOORS = {
    "base": Floor(set(), {"yaml"}),
    "robot": Floor({"base"}, {"numpy", "yaml"}),
    "observation": Floor(
        {"base", "robot"}, {"numpy"}, late={"PIL", "av", "cv2", "simplejpeg", "cv_bridge", "std_msgs", "sensor_msgs"}
    ),
    "control": Floor({"base", "robot"}, {"numpy"}),
    "inference": Floor(GROUND | {"control"}, {"numpy", "zmq", "msgpack", "websockets"}),
    "model": Floor({"base"}, {"numpy", "torch"}),
    "tokens": Floor({"base", "model"}, {"numpy", "sentencepiece"}, late={"tokenizers"}),
    "checkpoints": Floor(
        GROUND | {"inference", "model", "tokens"},
        {"numpy", "torch", "safetensors"},
        late={"tensorstore", "ml_dtypes"},
    ),
    "engine": Floor({"base", "model"}, {"torch", "triton"}),  # triton where it is: only `kernels` imports it, and late
    "policy": Floor(GROUND | {"control", "inference", "model", "tokens", "checkpoints", "engine"}, {"numpy", "torch"}),
    "bags": Floor(GROUND, {"numpy", "yaml", "rosbags", "lz4", "backports", "compression"}, late={"zstandard"}),
    "doctor": Floor(GROUND | {"inference", "checkpoints", "bags"}, {"numpy"}),
    "datasets": Floor(
        GROUND, {"numpy", "yaml", "tqdm", "matplotlib", "PIL", "av", "pyarrow", "pandas"}, late={"cv2", "simplejpeg"}
    ),
    "conversion": Floor(GROUND | {"bags", "datasets"}, {"numpy", "yaml", "tqdm", "pyarrow"}, late={"ray"}),
    "training": Floor(
        GROUND | {"inference", "model", "tokens", "checkpoints", "policy", "datasets"},
        {"numpy", "torch", "safetensors", "sentencepiece", "yaml", "tqdm", "matplotlib"},
    ),
    "sim": Floor(
        GROUND | {"control", "inference", "model", "tokens", "checkpoints", "policy", "datasets", "training"},
        {"numpy", "mujoco", "torch", "tqdm"},
    ),
    "benchmark": Floor(GROUND | {"control", "inference", "datasets"}, {"numpy"}, late={"libero"}),
    "monitor": Floor(
        GROUND | {"control"},
        {"numpy", "viser", "yourdfpy", "PIL"} | ROS,
        late={"websockets", "matplotlib", "ament_index_python"},
    ),
    "view": Floor(GROUND | {"control", "bags", "datasets", "conversion", "training", "monitor"}, {"numpy", "pyarrow"}),
    "launching": Floor(GROUND | {"control", "inference", "monitor"}, {"yaml"}, late={"launch", "launch_ros"}),
}
# Still to be mended: each line is a wall that is not yet where it belongs.
ALSO: dict[str, set[str]] = {}
TOP = {"nodes", "cli"}  # may import everything below; nobody below imports them, and nodes import no command


@dataclass(frozen=True)
class Import:
    """One imported module, and whether the import runs when its file is imported."""

    module: str
    at_start: bool


def source_files() -> list[Path]:
    """Every Python file of the package, `training/` among them: it is installed as `pi0_ros.training`."""
    return sorted({*PACKAGE.rglob("*.py"), *(ROOT / "training").rglob("*.py")})


def module_name(path: Path) -> str:
    """`pi0_ros/control/chunk.py` -> `pi0_ros.control.chunk`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = ("pi0_ros", *parts) if parts[0] == "training" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """`pi0_ros.control.chunk` -> `control`."""
    return module.split(".")[1] if "." in module else ""


@cache
def imports_of(path: Path) -> frozenset[Import]:
    """All imports of a file with absolute names."""
    module = module_name(path)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found: set[Import] = set()

    def visit(node: ast.AST, at_start: bool) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            found.update(Import(alias.name, at_start) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            submodules = {f"{base}.{alias.name}" for alias in node.names} & set(modules())
            found.update(Import(name, at_start) for name in submodules or {base})
        inner = at_start and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, inner)

    visit(ast.parse(path.read_text(encoding="utf-8")), True)
    return frozenset(found)


@cache
def modules() -> dict[str, Path]:
    """All modules of the package by name."""
    return {module_name(path): path for path in source_files()}


@pytest.mark.parametrize("room", sorted(FLOORS))
def test_rooms_import_only_what_lies_below_them(room: str) -> None:
    floor, wrong = FLOORS[room], []
    for module, path in modules().items():
        if room_of(module) != room:
            continue
        for imported in imports_of(path):
            top = imported.module.split(".")[0]
            if top == "pi0_ros":
                target = room_of(imported.module)
                if target not in floor.rooms | ALSO.get(module, set()) | {room, ""}:
                    wrong.append(f"{module} imports {imported.module}")
            elif top not in sys.stdlib_module_names | floor.libraries | (set() if imported.at_start else floor.late):
                wrong.append(f"{module} imports {imported.module}")
    assert not wrong, "\n".join(wrong)


def test_floors_lie_in_order() -> None:
    """Every room stands on rooms that come before it, so no circle is possible."""
    order = list(FLOORS)
    for room, floor in FLOORS.items():
        assert all(order.index(below) < order.index(room) for below in floor.rooms), room


def test_nodes_import_no_command() -> None:
    wrong = [
        f"{module} imports {imported.module}"
        for module, path in modules().items()
        for imported in imports_of(path)
        if room_of(module) == "nodes" and room_of(imported.module) == "cli" and imported.module.startswith("pi0_ros.")
    ]
    assert not wrong, "\n".join(wrong)


def test_every_room_has_a_floor() -> None:
    rooms = {room_of(module) for module in modules()} - {""}
    assert rooms <= set(FLOORS) | TOP, f"no floor is known for {sorted(rooms - set(FLOORS) - TOP)}: add it here"


def closure(module: str) -> set[str]:
    """Every module, ours and others', that importing `module` imports, as the source says."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        parents = [".".join(name.split(".")[:n]) for n in range(1, name.count(".") + 1)]
        waiting += [parent for parent in parents if parent in modules()]
        if name in modules():
            waiting += [imported.module for imported in imports_of(modules()[name]) if imported.at_start]
    return seen


@pytest.mark.parametrize(
    "module",
    [
        *("pi0_ros.nodes.controller_node", "pi0_ros.nodes.recorder_node", "pi0_ros.cli.main"),
        *("pi0_ros.nodes.policy_node", "pi0_ros.policy.backends", "pi0_ros.cli.serve"),  # torch only where it infers
    ],
)
def test_the_small_processes_never_reach_torch(module: str) -> None:
    reached = {name.split(".")[0] for name in closure(module)}
    assert not reached & {"torch", "safetensors", "sentencepiece", "mujoco"}


@pytest.mark.parametrize("room", ["base", "robot", "observation", "control"])
def test_the_ground_stands_on_numpy_alone(room: str) -> None:
    for module in modules():
        if room_of(module) == room:
            libraries = {name.split(".")[0] for name in closure(module)} - set(sys.stdlib_module_names)
            assert libraries <= {"pi0_ros", "numpy", "yaml"}, module


@pytest.mark.dds
def test_the_controller_runs_without_torch() -> None:
    pytest.importorskip("rclpy")
    code = "import sys, pi0_ros.nodes.controller_node; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


def test_the_help_loads_neither_torch_nor_ros() -> None:
    code = (
        "import sys\nfrom pi0_ros.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "sys.exit(bool({'torch', 'rclpy', 'mujoco', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120, stdout=subprocess.DEVNULL).returncode == 0
