"""The package as others meet it: package.xml, scripts, launch files, parameters, and every kind of installation."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from conftest import PIP_ONLY

from pi0_ros.base.share import config_path
from pi0_ros.cli.main import COMMANDS
from pi0_ros.launching import launches
from pi0_ros.launching.parameters import NODES
from pi0_ros.robot import load_robot

ROOT = Path(__file__).resolve().parents[1]
SEE = (
    "import pi0_ros.training, pi0_ros.launching.processes; "
    "from pi0_ros.base.share import config_path; from pi0_ros.robot import load_robot; "
    "assert load_robot('demo_arm').joints; assert config_path('fastdds_profiles.xml').is_file(); "
    "assert config_path().parent.joinpath('launch', 'policy.launch.py').is_file(); "
    "print(pi0_ros.__file__, config_path())"
)


def test_package_xml_is_valid_and_complete() -> None:
    package = pytest.importorskip("catkin_pkg.package").parse_package(str(ROOT / "package.xml"))
    depends = {dependency.name for dependency in package.exec_depends}
    assert package.name == "pi0_ros"
    assert package.get_build_type() == "ament_python"
    assert {"rclpy", "cv_bridge", "sensor_msgs_py", "launch_ros", "python3-numpy", "python3-zmq"} <= depends
    assert _messages_used() <= depends, f"missing in package.xml: {sorted(_messages_used() - depends)}"
    assert package.version in (ROOT / "setup.py").read_text()
    assert not any("example" in url.url for url in package.urls), "no address is better than none that answers"
    assert {d.name for d in package.test_depends} >= {"python3-pytest", "python3-hypothesis"}


def test_no_two_test_files_have_one_name() -> None:
    """pytest imports them by it: the second would stop the whole run."""
    names = [path.name for path in (ROOT / "test").rglob("*.py") if path.name != "__init__.py"]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def _messages_used() -> set[str]:
    """Message and service packages that the nodes import."""
    used = set()
    for path in (ROOT / "pi0_ros").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and re.search(
                r"_(msgs|srvs|interfaces)\.(msg|srv)$", node.module or ""
            ):
                used.add(str(node.module).split(".")[0])
    return used


def _console_scripts() -> dict[str, str]:
    text = (ROOT / "setup.py").read_text()
    nodes = re.search(r"^NODES = \((.*?)\)$", text, re.M)
    assert nodes is not None
    names = [ast.literal_eval(name) for name in nodes[1].split(",")]
    return {"pi0": "pi0_ros.cli.main"} | {f"{name}_node": f"pi0_ros.nodes.{name}_node" for name in names}


@pytest.mark.parametrize(("script", "module"), _console_scripts().items())
def test_console_scripts_have_a_main(script: str, module: str) -> None:
    if module.startswith("pi0_ros.nodes"):
        pytest.importorskip("rclpy")
    try:
        assert callable(importlib.import_module(module).main)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("viser", "yourdfpy", "mujoco", "torch"):
            pytest.skip(f"{script} needs {error.name}")
        raise


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(command: str) -> None:
    for library in ("torch", "rosbags", "pyarrow", "av"):
        pytest.importorskip(library)
    module = importlib.import_module(COMMANDS[command][0])
    actions = {f" {name}": action for name, (action, _) in module.ACTIONS.items()} if hasattr(module, "ACTIONS") else {}
    assert f"pi0 {command}" in (module.__doc__ or "")
    for name, runner in (actions or {"": module}).items():
        assert f"pi0 {command}{name}" in (runner.__doc__ or "")
        assert callable(runner.run)
        assert callable(runner.add_arguments)


def test_every_script_reads_its_arguments() -> None:
    """One that reads none runs, and writes files, when somebody asks for its --help."""
    scripts = [path for folder in ("tools", "bench") for path in sorted((ROOT / folder).glob("*.py"))]
    begun = {path.name: text for path in scripts if "__main__" in (text := path.read_text(encoding="utf-8"))}
    deaf = [name for name, text in begun.items() if "ArgumentParser(" not in text]
    assert deaf == ["typecheck.py"], "which gives them to mypy"


def test_every_process_of_a_launch_file_is_a_console_script() -> None:
    scripts = _console_scripts()
    for launch in launches.LAUNCHES.values():
        for process in launch.processes:
            assert process.package != "pi0_ros" or process.executable in scripts
    files = {path.name.removesuffix(".launch.py") for path in (ROOT / "launch").glob("*.launch.py")}
    assert files == set(launches.LAUNCHES)


@pytest.mark.parametrize("name", launches.LAUNCHES)
def test_launch_files_parse(name: str) -> None:
    pytest.importorskip("launch_ros")  # PyPI has an unrelated package called "launch"
    from launch.launch_description_sources import get_launch_description_from_python_launch_file

    description = get_launch_description_from_python_launch_file(str(ROOT / "launch" / f"{name}.launch.py"))
    arguments = {argument.name for argument in description.get_launch_arguments()}
    assert arguments == {argument.name for argument in launches.LAUNCHES[name].arguments}


DECLARE = """
import importlib, json, sys, rclpy
from rclpy.parameter import Parameter
rclpy.init()
module = importlib.import_module(f"pi0_ros.nodes.{sys.argv[1]}_node")
node = next(value for name, value in vars(module).items() if name.lower() == f"{sys.argv[1]}node")
needed = [Parameter(name, value=value) for name, value in json.loads(sys.argv[2]).items()]
node = node(parameter_overrides=needed) if needed else node()
skipped = ("use_sim_time", "start_type_description_service")  # every node of ROS has them
names = [name for name in node._parameters if name not in skipped]
plain = lambda value: list(value) if hasattr(value, "typecode") else value
print("PARAMETERS", json.dumps([node.get_name(), {name: plain(node.get_parameter(name).value) for name in names}]))
"""
NEEDED = {"joystick_node": {"axes": "yaw=0"}}  # what no default can say


@pytest.mark.dds
@pytest.mark.parametrize("node", [name for name in _console_scripts() if name.endswith("_node")])
def test_every_node_declares_its_table(node: str, ros_domain: int) -> None:
    for library in ("viser", "yourdfpy") if node == "viewer_node" else ("mujoco",) if node == "sim_node" else ():
        pytest.importorskip(library)
    argv = [sys.executable, "-c", DECLARE, node.removesuffix("_node"), json.dumps(NEEDED.get(node, {}))]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    line = next((line for line in done.stdout.splitlines() if line.startswith("PARAMETERS ")), None)
    assert line is not None, done.stdout + done.stderr
    name, declared = json.loads(line.removeprefix("PARAMETERS "))
    in_force = {"prompt": load_robot("demo_arm").prompt} if name == "recorder" else {}
    defaults = {parameter.name: parameter.default for parameter in NODES[name]}
    assert declared == defaults | in_force | NEEDED.get(node, {})


def test_shipped_robot_files_load() -> None:
    files = sorted(config_path("robots").glob("*.yaml"))
    assert {"demo_arm"} <= {load_robot(file).name for file in files}


def test_the_shipped_checkpoint_is_small() -> None:
    folder = ROOT / "pi0_ros" / "sim" / "checkpoint"
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert size <= 20 * 2**20, f"{size / 2**20:.1f} MiB: the package may carry 20"


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda p: p.name
)
def test_links_in_the_documentation_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert "://" in target or (page.parent / target).exists(), f"{page.name} links to {target}"


# ---------------------------------------------------------------------------- every kind of installation (slow)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working tree's files as a fresh copy."""
    tree = tmp_path_factory.mktemp("src") / "pi0_ros"
    skipped = shutil.ignore_patterns(
        ".git", ".venv*", "build", "install", "log", "runs", "*.egg-info", "__pycache__", ".*_cache"
    )
    shutil.copytree(ROOT, tree, ignore=skipped)
    assert not (tree / "pi0_ros" / "training").exists()  # no link hides the room from tools
    return tree


def _environment(**changes: str) -> dict[str, str]:
    environment = {
        k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "AMENT_PREFIX_PATH", "COLCON_PREFIX_PATH")
    }
    return environment | changes


def _run(*argv: object, cwd: Path, **changes: str) -> str:
    done = subprocess.run(
        [str(word) for word in argv], cwd=cwd, env=_environment(**changes), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f"{argv}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def _needs_build_tools(*modules: str) -> None:
    for module in ("setuptools", "wheel", *modules):
        pytest.importorskip(module)
    if int(importlib.import_module("setuptools").__version__.split(".")[0]) >= 80:
        pytest.skip("needs setuptools < 80")


def _bare_venv(folder: Path) -> Path:
    """A virtual environment that sees this one's libraries but not its pi0_ros; returns its python."""
    _run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    site = next((folder / "lib").glob("python3*")) / "site-packages"
    for path in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if "pi0_ros" not in path.name and path.suffix != ".pth":
            (site / path.name).symlink_to(path)
    return folder / "bin" / "python"


BLOCKER = """
import os, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in os.environ["PI0_ABSENT"].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""


@pytest.mark.slow
def test_where_pip_packages_are_absent_tests_are_skipped_at_collection(tmp_path: Path) -> None:
    (tmp_path / "absent.py").write_text(BLOCKER)
    words = ["-p", "absent", "-p", "no:hypothesispytest", "-p", "no:cacheprovider", "--collect-only", "-q"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, str(ROOT / "test")],
        cwd=ROOT,
        env={
            **os.environ,
            "PI0_ABSENT": ",".join(sorted(PIP_ONLY - {"PIL"})),
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path), os.environ.get("PYTHONPATH", "")]),
        },
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0 and "needs torch" in done.stdout, done.stdout[-3000:]
    assert re.search(r"^\d+ tests collected in", done.stdout, re.M), done.stdout[-500:]


@pytest.mark.slow
def test_wheel_holds_everything(clone: Path, tmp_path: Path) -> None:
    _needs_build_tools("pip")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    _run(*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, clone, cwd=tmp_path)
    python = _bare_venv(tmp_path / "venv")
    _run(*pip, "--python", python, "install", "-q", "--no-deps", *tmp_path.glob("pi0_ros-*.whl"), cwd=tmp_path)
    seen = _run(python, "-c", SEE, cwd=tmp_path)
    assert str(tmp_path / "venv") in seen
    assert str(clone) not in seen
    assert "checkpoint:=" in _run(tmp_path / "venv" / "bin" / "pi0", "up", "policy", "--show-args", cwd=tmp_path)
    shipped = sorted(p.name for p in (clone / "pi0_ros" / "sim" / "checkpoint").rglob("*") if p.is_file())
    installed = next((tmp_path / "venv" / "lib").glob("python3*")) / "site-packages" / "pi0_ros"
    assert sorted(p.name for p in (installed / "sim" / "checkpoint").rglob("*") if p.is_file()) == shipped
    assert (installed / "training" / "recipe.py").is_file()
    assert not (installed.parent / "training").exists()  # no package called "training" in anyone's site-packages


@pytest.mark.slow
def test_editable_install_follows_the_source(clone: Path, tmp_path: Path) -> None:
    _needs_build_tools("pip")
    python = _bare_venv(tmp_path / "venv")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    _run(*pip, "install", "-q", "--no-deps", "--no-build-isolation", "-e", clone, cwd=tmp_path)
    assert str(clone) in _run(python, "-c", SEE, cwd=tmp_path)
    assert "policy" in _run(tmp_path / "venv" / "bin" / "pi0", "up", "policy", "--show-args", cwd=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("option", [[], ["--symlink-install"]], ids=["copy", "symlink"])
def test_colcon_build(clone: Path, tmp_path: Path, option: list[str]) -> None:
    _needs_build_tools("colcon_core", "colcon_ros")
    (tmp_path / "src").mkdir()
    shutil.copytree(clone, tmp_path / "src" / "pi0_ros", symlinks=True)
    _run(sys.executable, "-m", "colcon", "build", *option, cwd=tmp_path)
    prefix = tmp_path / "install" / "pi0_ros"
    assert (prefix / "share" / "ament_index" / "resource_index" / "packages" / "pi0_ros").exists()
    assert (prefix / "share" / "pi0_ros" / "launch" / "policy.launch.py").exists()
    scripts = prefix / "lib" / "pi0_ros"
    assert {path.name for path in scripts.iterdir()} >= set(_console_scripts())
    source = f". {tmp_path}/install/setup.sh"
    python = _bare_venv(tmp_path / "venv")
    assert str(tmp_path) in _run("sh", "-c", f'{source} && "{python}" -c "{SEE}"', cwd=tmp_path)
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    for pi0 in (f"{scripts}/pi0", "pi0"):
        assert "policy" in _run("sh", "-c", f"{source} && {pi0} up policy --show-args", cwd=tmp_path, PATH=path)
    found = _run("bash", "-c", f". {tmp_path}/install/setup.bash && command -v pi0", cwd=tmp_path, PATH=path)
    assert found.strip() == str(prefix / "share" / "pi0_ros" / "bin" / "pi0")
