"""`pi0 checkpoint`: what a user reads of, makes of and is told about checkpoints of every format."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("torch")
pytest.importorskip("tensorstore")

from conftest import wait_until

from pi0_ros.checkpoints import robot_file, summary
from pi0_ros.checkpoints.describe import describe_checkpoint
from pi0_ros.checkpoints.lerobot_files import write_lerobot_files
from pi0_ros.checkpoints.norm_stats import Stats
from pi0_ros.checkpoints.orbax import OrbaxLeaves
from pi0_ros.checkpoints.safetensors_files import CheckpointError, SafetensorsFile
from pi0_ros.checkpoints.sources import TorchSource
from pi0_ros.cli.checkpoint_options import describe_for
from pi0_ros.cli.main import main
from pi0_ros.robot import load_robot, robot_from_yaml

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "test/fixtures/reference"
DEMO = ROOT / "pi0_ros/sim/checkpoint"
HEADS = {"vision": {"num_heads": 4}}  # the only size of the small fixtures that no file of theirs tells
PLACES = {
    "openpi_pi0": REFERENCE / "pi0/checkpoint",
    "openpi_pi05": REFERENCE / "pi05/checkpoint",
    "lerobot_pi0": REFERENCE / "lerobot/pi0",
    "lerobot_pi05": REFERENCE / "lerobot/pi05",
    "torch_pi0": REFERENCE / "pi0/model.safetensors",
}


@pytest.fixture
def heads(tmp_path: Path) -> str:
    """A file for --config."""
    path = tmp_path / "heads.yaml"
    path.write_text(yaml.safe_dump(HEADS))
    return str(path)


def printed(capsys: pytest.CaptureFixture[str], *argv: str, status: int = 0) -> str:
    """What `pi0 checkpoint` prints on its standard output, or on its standard error when it fails."""
    assert main(["checkpoint", *argv]) == status
    out, error = capsys.readouterr()
    return out if status == 0 else error


def facts(report: str) -> dict[str, str]:
    """The labelled lines of a report: label -> its text on one line."""
    found: dict[str, str] = {}
    label = ""
    for line in report.split("\n\n")[1].splitlines():
        label = line[:13].strip() or label
        found[label] = f"{found.get(label, '')} {line[13:].strip()}".strip()
    return found


# ---- info


def test_info_of_openpi_jax_names_both_statistics_and_the_robots_that_fit(capsys, heads) -> None:
    report = printed(capsys, "info", str(PLACES["openpi_pi0"]), "--config", heads)
    assert report.startswith(f"{PLACES['openpi_pi0']}: openpi JAX, pi0\n")
    found = facts(report)
    assert "float32" in found["weights"]
    assert found["images"].startswith("base_0_rgb, left_wrist_0_rgb, right_wrist_0_rgb")
    assert found["statistics"] == (
        "physical-intelligence/libero: state 8, actions 7 (mean std q01 q99) "
        "trossen: state 14, actions 14 (mean std q01 q99)"
    )
    assert "action_horizon 50, max_token_len 48" in found["assumed"]
    assert "robot:=aloha " in report
    assert "robot:=libero_pi0 " in report
    assert "robot:=franka_droid" not in report  # its statistics are not there
    assert "asset_id: physical-intelligence/libero  # or trossen" in report


def test_info_takes_sizes_and_statistics_from_a_robot_file(capsys, heads) -> None:
    report = printed(capsys, "info", str(PLACES["openpi_pi05"]), "--config", heads, "--robot", "franka_droid")
    assert facts(report)["actions"].startswith("15 steps of 8 of 32 numbers")  # policy.pi05 of that file
    assert report.endswith("robot:=franka_droid fits.\n")
    report = printed(capsys, "info", str(PLACES["openpi_pi0"]), "--config", heads, "--robot", "aloha")
    assert "numbers of trossen" in report
    report = printed(capsys, "info", str(PLACES["openpi_pi05"]), "--config", heads, "--robot", "aloha")
    assert "robot:=aloha does not fit: norm_stats.state has 8 dimensions" in report


def test_info_of_lerobot_names_joints_relative_actions_and_leftovers(capsys, heads) -> None:
    report = printed(capsys, "info", str(PLACES["lerobot_pi0"]), "--config", heads)
    found = facts(report)
    assert found["images"].startswith("cam_high, cam_left_wrist, cam_right_wrist")
    assert found["actions"].endswith("relative to the state but for left_gripper, right_gripper")
    assert "mean/std as in LeRobot" in found["state"]
    assert found["tokenizer"].startswith("tokenizer/tokenizer.model, in the checkpoint")
    assert "lm_head" in found["not used"]
    assert "assumed" not in found
    assert "  - {name: left_gripper, action: absolute}" in report
    assert "  - {slot: cam_high}" in report


def test_info_of_our_own_names_its_robot(capsys) -> None:
    report = printed(capsys, "info", str(DEMO))
    found = facts(report)
    assert found["robot file"] == "demo_arm, in the checkpoint"
    assert found["rate"] == "20 actions per second"
    assert found["actions"].endswith("relative to the state but for gripper")
    assert "assumed" not in found
    row = next(line for line in report.splitlines() if line.startswith("  gripper "))
    stats = json.loads((DEMO / "norm_stats.json").read_text())["norm_stats"]
    assert [float(number) for number in row.replace("±", "").split()[1:]] == [
        pytest.approx(stats[part][field][5], abs=5e-4) for part in ("state", "actions") for field in ("mean", "std")
    ]


def test_info_as_json_is_complete(capsys, heads) -> None:
    found = json.loads(printed(capsys, "info", str(PLACES["lerobot_pi05"]), "--config", heads, "--json"))
    tensors = SafetensorsFile(PLACES["lerobot_pi05"] / "model.safetensors").tensors
    used = sum(math.prod(info.shape) for name, info in tensors.items() if "lm_head" not in name)
    assert found["parameters"] == used == found["dtypes"]["float32"]
    assert set(found["leftovers"]) == {name for name in tensors if "lm_head" in name}
    assert (found["model"], found["state_dim"], found["action_dim"]) == ("pi05", 8, 7)
    assert found["config"]["cameras"] == ["base_0_rgb", "left_wrist_0_rgb", "empty_camera_0"]
    assert len(found["norm_stats"]["state"]["q01"]) == 8
    assert found["robot_file"]["fits"] == ["libero"]


def test_info_reads_no_weights(capsys, heads, monkeypatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr(TorchSource, "pieces", refuse)
    monkeypatch.setattr(OrbaxLeaves, "read", refuse)
    for place in PLACES.values():
        printed(capsys, "info", str(place), "--config", heads)


@pytest.mark.parametrize("name", sorted(set(PLACES) - {"torch_pi0"}))
def test_the_snippet_completed_is_a_robot_file_that_fits(name: str) -> None:
    description = describe_checkpoint(PLACES[name], config=HEADS)
    if description.norm_stats is None:
        description = describe_checkpoint(PLACES[name], config=HEADS, asset_id="trossen")
    content = yaml.safe_load(robot_file.snippet(description))
    limits = {"position": [-1, 1], "velocity": 1, "acceleration": 1}
    content["joints"] = [{"unit": "rad", "kind": "revolute", "limits": limits, **joint} for joint in content["joints"]]
    kind = "sensor_msgs/msg/Image"
    content["cameras"] = [
        {"name": f"camera_{i}", "topic": f"/camera_{i}", "type": kind, "max_age_s": 0.1, **camera}
        for i, camera in enumerate(content["cameras"])
    ]
    content |= {
        "name": "mine",
        "control_rate_hz": 50,
        "policy_rate_hz": 1,
        "state": [{"topic": "/joint_states", "type": "sensor_msgs/msg/JointState", "max_age_s": 0.1}],
        "commands": [{"name": "all", "topic": "/commands", "type": "std_msgs/msg/Float64MultiArray"}],
        "action": {"source": "command", "max_age_s": 0.1},
    }
    robot = robot_from_yaml(yaml.safe_dump(content), "mine.yaml")
    assert robot_file.fits(description, robot)


def test_the_shipped_robot_files_find_their_checkpoints() -> None:
    description = describe_checkpoint(PLACES["openpi_pi05"], config=HEADS)
    fitting = [robot.name for robot in robot_file.shipped_robots() if robot_file.fits(description, robot)]
    assert fitting == ["franka_droid", "franka_droid_position"]
    own = describe_checkpoint(DEMO)
    assert [robot.name for robot in robot_file.shipped_robots() if robot_file.fits(own, robot)] == ["demo_arm"]


def test_padding_of_statistics_is_no_joint() -> None:
    std = np.array([0.5, 0.0, 0.2, 0.0, 0.0])
    assert Stats(mean=np.zeros(5), std=std).used_dim == 3  # the second joint merely never moved
    assert Stats(mean=np.zeros(5), std=np.zeros(5)).used_dim == 5


def test_notes_tell_what_is_special(tmp_path: Path) -> None:
    folder = tmp_path / "droid"
    shutil.copytree(PLACES["openpi_pi05"], folder)
    path = folder / "assets/droid/norm_stats.json"
    stats = json.loads(path.read_text())
    stats["norm_stats"]["state"]["q99"][2] = 98.5
    path.write_text(json.dumps(stats))
    (degrees,) = summary.notes(describe_checkpoint(folder, config=HEADS))
    assert "the state reach 98.5" in degrees
    blind = describe_checkpoint(folder, config=HEADS | {"discrete_state_input": False})
    assert any("does not see where the robot is" in note for note in summary.notes(blind))
    assert any("LoRA" in note for note in summary.notes(replace(blind, merged=42)))
    shutil.rmtree(folder / "assets")
    (base,) = summary.notes(describe_checkpoint(folder, config=HEADS))
    assert "no statistics" in base


def test_old_lerobot_checkpoints_are_noted() -> None:
    description = describe_checkpoint(PLACES["lerobot_pi05"], config=HEADS)
    padded = replace(description, settings=replace(description.settings, pad_state_text=True))
    (note,) = summary.notes(padded)
    assert "trained by LeRobot 0.4" in note
    (note,) = summary.notes(replace(description, undecided=f"{description.path}: nothing tells"))
    assert note == "nothing tells"


def test_a_checkpoint_that_draws_less_noise_is_noted_and_nothing_for_lerobot(tmp_path: Path) -> None:
    description = describe_checkpoint(PLACES["lerobot_pi05"], config=HEADS)
    calm = replace(description, settings=replace(description.settings, noise_scale=0.5))
    assert "0.5 times the usual noise" in summary.notes(calm)[0]
    with pytest.raises(CheckpointError, match="`noise_scale` of its config.json is 0.5, and LeRobot takes"):
        write_lerobot_files(calm, tmp_path)


# ---- convert and verify


def converted(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """What a conversion prints, its progress bar left out."""
    assert main(["checkpoint", "convert", *argv]) == 0
    return capsys.readouterr().out


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_convert_writes_what_its_dry_run_lists(capsys, tmp_path: Path) -> None:
    source, folder = str(PLACES["openpi_pi05"]), tmp_path / "new" / "droid"
    options = ["--to", "pi0_ros", "--robot", "franka_droid", "--tokenizer", str(REFERENCE / "tokenizer/tiny.model")]
    listing = converted(capsys, source, str(folder), *options, "--dry-run")
    assert list(tmp_path.iterdir()) == []
    report = converted(capsys, source, str(folder), *options)
    listed = [line.split()[-1] for line in listing.splitlines() if line.startswith("  ") and "iB  " in line]
    assert sorted(listed) == sorted(contents(folder))
    assert "no file of it says max_token_len 200" in report
    assert "tokenizer" not in report.partition("note")[2]
    assert [path.name for path in folder.parent.iterdir()] == ["droid"]
    description = describe_checkpoint(folder)
    assert (description.robot, description.config.action_horizon) == (load_robot("franka_droid"), 15)
    assert facts(printed(capsys, "info", str(folder)))["tokenizer"] == "tokenizer.model, in the checkpoint"


def test_verify_finds_a_conversion_equal_and_a_change_not(capsys, heads, tmp_path: Path) -> None:
    source = str(PLACES["openpi_pi0"])
    report = converted(capsys, source, str(tmp_path / "theirs"), "--to", "lerobot", "--robot", "aloha")
    assert report.endswith(f"pi0 checkpoint verify {source} {tmp_path / 'theirs'} --asset trossen\n")
    both = [source, str(tmp_path / "theirs"), "--asset", "trossen", "--config", heads, "--num", "1", "--steps", "1"]
    report = printed(capsys, "verify", *both)
    assert report.endswith("The same policy.\n")
    assert "equal, every bit" in report
    assert "equal: chosen state, chosen actions" in report
    assert "image_resize: pillow | torch (as the format has it)" in report
    other = printed_failing(capsys, "verify", *both[:3], "physical-intelligence/libero", *both[4:])
    assert "They differ in their statistics." in other  # of another robot
    converted(capsys, source, str(tmp_path / "half"), "--to", "pi0_ros", "--dtype", "bfloat16", "--asset", "trossen")
    half = [source, str(tmp_path / "half"), "--num", "1", "--steps", "1"]
    report = printed_failing(capsys, "verify", *half)
    assert "tensors differ" in report
    assert "They differ in their actions." in report
    printed(capsys, "verify", *half, "--tolerance", "1")


def printed_failing(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """What is printed with exit status 1."""
    assert main(["checkpoint", *argv]) == 1
    return capsys.readouterr().out


def test_verify_tells_settings_apart(capsys, tmp_path: Path) -> None:
    shutil.copytree(DEMO, tmp_path / "slow")
    path = tmp_path / "slow/config.json"
    content = json.loads(path.read_text())
    content["policy"]["fps"] = 10
    path.write_text(json.dumps(content))
    report = printed_failing(capsys, "verify", str(DEMO), str(tmp_path / "slow"), "--num", "1", "--steps", "1")
    assert re.search(r"fps: 20(\.0)? \| 10", report)
    assert report.endswith("They differ in fps.\n")


def test_convert_leaves_out_loud_what_the_target_cannot_hold(capsys, tmp_path: Path) -> None:
    source = str(PLACES["openpi_pi0"])
    report = converted(capsys, source, str(tmp_path / "a"), "--to", "lerobot", "--dry-run")
    assert "none is chosen" in report
    assert "gated google/paligemma-3b-pt-224" in report
    assert "whether actions are relative to the state: absolute is written" in " ".join(report.split())
    report = converted(capsys, source, str(tmp_path / "a"), "--to", "lerobot", "--robot", "aloha", "--dry-run")
    assert "left_gripper" in report  # its crank is in the robot file alone
    assert "relative to the state" not in report and "does not fit" not in report
    assert "{vision: {num_heads: 4}}" in " ".join(report.split())
    report = converted(capsys, source, str(tmp_path / "a"), "--to", "pi0_ros", "--dry-run")
    assert "no robot file in it" in report
    assert "num_heads" not in report


def test_convert_says_that_a_robot_does_not_fit(capsys, tmp_path: Path) -> None:
    options = [str(tmp_path / "new"), "--dry-run", "--asset", "trossen", "--to", "pi0_ros", "--robot"]
    report = converted(capsys, str(PLACES["openpi_pi0"]), *options, "franka_droid_fast")
    assert "note franka_droid_fast does not fit: camera 'wrist'" in " ".join(report.replace("robot file", "").split())
    droid = [str(PLACES["openpi_pi05"]), *options[:2], "--to", "lerobot", "--robot", "franka_droid"]
    assert "knows no velocities" in converted(capsys, *droid)


def test_convert_replaces_checkpoints_only(capsys, tmp_path: Path) -> None:
    source, home = str(PLACES["openpi_pi05"]), tmp_path / "home"
    (home / "droid").mkdir(parents=True)
    (home / "precious.txt").write_text("mine")
    convert = ("convert", source, "--to", "pi0_ros")
    assert "something is there already" in printed(capsys, *convert, str(home), status=2)
    assert "no checkpoint here" in printed(capsys, *convert, str(home), "--overwrite", status=2)
    shutil.copytree(PLACES["lerobot_pi0"], home / "run/pretrained_model")
    message = printed(capsys, *convert, str(home / "run"), "--overwrite", status=2)
    assert "only another checkpoint's own folder" in message
    assert (home / "run/pretrained_model/config.json").is_file()
    converted(capsys, source, str(home / "new"), "--to", "openpi")
    converted(capsys, source, str(home / "new"), "--to", "pi0_ros", "--overwrite")
    assert describe_checkpoint(home / "new").format == "pi0_ros"
    message = printed(
        capsys, "convert", str(home / "new"), str(home / "new"), "--to", "openpi", "--overwrite", status=2
    )
    assert "only another checkpoint" in message
    assert {path.name for path in home.iterdir()} == {"droid", "precious.txt", "run", "new"}


def test_a_full_disk_is_seen_before_anything_is_written(capsys, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    message = printed(capsys, "convert", str(DEMO), str(tmp_path / "new"), "--to", "lerobot", "--dry-run", status=2)
    assert "GiB left" in message
    assert list(tmp_path.iterdir()) == []


def test_a_conversion_that_fails_leaves_nothing(capsys, tmp_path: Path, monkeypatch) -> None:
    def broken(self: TorchSource, name: str) -> Any:
        yield from ()

    monkeypatch.setattr(TorchSource, "pieces", broken)
    message = printed(capsys, "convert", str(DEMO), str(tmp_path / "new"), "--to", "pi0_ros", status=2)
    assert "are not a tensor of shape" in message
    assert list(tmp_path.iterdir()) == []


def test_verify_shows_where_it_is(capsys) -> None:
    assert main(["checkpoint", "verify", str(DEMO), str(DEMO), "--num", "1", "--steps", "1"]) == 0
    out, error = capsys.readouterr()
    assert "comparing weights" in error and "100%" in error
    stages = [line for line in error.splitlines() if line.endswith(" ...")]
    assert stages == [f"{what} ..." for what in ("loading checkpoint", "running checkpoint on random inputs")] * 2
    assert "comparing" not in out


# ---- commands that are printed, and conversions that are killed


def shell(command: str) -> subprocess.CompletedProcess[str]:
    """Run what somebody copied from the screen."""
    place = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, timeout=300, env={**os.environ, **place}
    )


def test_the_command_that_convert_prints_runs_as_printed(capsys, tmp_path: Path) -> None:
    home = tmp_path / "my robot's $files"
    shutil.copytree(PLACES["openpi_pi0"], home / "pi0 base")
    (home / "vision heads.yaml").write_text(yaml.safe_dump(HEADS))
    options = ["--to", "lerobot", "--asset", "trossen", "--config", str(home / "vision heads.yaml")]
    report = converted(capsys, str(home / "pi0 base"), str(home / "new (1)"), *options)
    command = report.strip().splitlines()[-1].partition("Compare the two with: ")[2]
    assert command.startswith("pi0 checkpoint verify ")
    done = shell(f"{command} --num 1 --steps 1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("The same policy.\n")


def test_the_command_that_says_the_release_runs_as_printed(tmp_path: Path, capsys, heads) -> None:
    folder = tmp_path / "my run" / "pretrained model"
    shutil.copytree(PLACES["lerobot_pi0"], folder)
    (folder / "train_config.json").write_text('{"trackio": {}, "cudnn_deterministic": false}')
    message = printed(
        capsys, "convert", str(folder), str(tmp_path / "x"), "--to", "openpi", "--config", heads, status=2
    )
    done = shell(f"{message.split('`')[1]} --config {heads}")
    assert done.returncode == 0, done.stderr
    assert describe_checkpoint(tmp_path / "my run" / "pretrained model-pi0_ros").format == "pi0_ros"


_SLOWLY = """
import sys, time
from pi0_ros.checkpoints.sources import TorchSource
from pi0_ros.cli.main import main
read = TorchSource.pieces
def pieces(self, name):
    time.sleep(1)
    return read(self, name)
TorchSource.pieces = pieces
main(["checkpoint", "convert", *sys.argv[1:], "--to", "pi0_ros"])
"""


def test_what_a_killed_conversion_leaves_is_named_and_removed(capsys, tmp_path: Path) -> None:
    source, new = str(PLACES["lerobot_pi0"]), tmp_path / "new"
    heads = tmp_path / "heads.yaml"
    heads.write_text(yaml.safe_dump(HEADS))
    with subprocess.Popen(
        [sys.executable, "-c", _SLOWLY, source, str(new), "--config", str(heads)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        wait_until(lambda: any(tmp_path.glob(".new.partial-*/*.partial")), 120)
        process.kill()
    (left,) = tmp_path.glob(".new.partial-*")
    message = printed(capsys, "info", str(new), status=2)
    assert f"{left} is what a conversion that was killed left of it" in message
    converted(capsys, source, str(new), "--to", "pi0_ros", "--config", str(heads))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["heads.yaml", "new"]


def test_what_another_machine_may_be_writing_is_only_named(capsys, caplog, tmp_path: Path) -> None:
    other, mine = tmp_path / ".new.partial-elsewhere-1", tmp_path / f".new.partial-{socket.gethostname()}-{os.getpid()}"
    old = tmp_path / ".new.partial-1"  # of a version that wrote no host
    for folder in (other, old):
        folder.mkdir()
    converted(capsys, str(DEMO), str(tmp_path / "new"), "--to", "pi0_ros")
    assert other.is_dir() and old.is_dir() and not mine.exists()
    assert f"{other} is there: another conversion at work" in caplog.text


# ---- errors: one line, exit status 2


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder.joinpath("model.safetensors").write_text("version https://git-lfs"), "git lfs pull"),
        (lambda folder: folder.joinpath("model.safetensors").unlink(), "copy or download the weights too"),
        (lambda folder: folder.joinpath("config.json").write_text("{"), "config.json: not JSON"),
    ],
)
def test_broken_checkpoints_are_one_line(capsys, heads, tmp_path: Path, make: Any, words: str) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(PLACES["lerobot_pi05"], folder)
    make(folder)
    message = printed(capsys, "info", str(folder), "--config", heads, status=2)
    assert message.startswith(f"pi0 checkpoint: {folder}")
    assert words in message
    assert message.count("\n") == 1


def test_what_the_user_got_wrong_is_one_line(capsys, heads, tmp_path: Path) -> None:
    place = str(PLACES["openpi_pi0"])
    assert "no such checkpoint" in printed(capsys, "info", str(tmp_path / "nothing"), status=2)
    assert " gs://bucket/name FOLDER" in printed(capsys, "info", "gs://bucket/name", status=2)
    assert "--config FILE" in printed(
        capsys, "info", str(PLACES["torch_pi0"]), status=2
    )  # heads of an odd vision tower
    message = printed(capsys, "info", place, "--config", heads, "--asset", "franka", status=2)
    assert "physical-intelligence/libero, trossen" in message
    (tmp_path / "list.json").write_text("[1]")
    assert "expected a mapping" in printed(capsys, "info", place, "--config", str(tmp_path / "list.json"), status=2)
    (tmp_path / "wrong.json").write_text('{"horizon": 3}')
    message = printed(capsys, "info", place, "--config", str(tmp_path / "wrong.json"), status=2)
    assert "action_horizon" in message  # the keys that there are


def test_a_library_that_is_missing_is_one_line(capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorstore", None)
    message = printed(capsys, "info", str(PLACES["openpi_pi0"]), status=2)
    assert "pip install tensorstore" in message
    assert message.count("\n") == 1


def test_a_robot_that_chooses_no_statistics_leaves_them_open() -> None:
    description = describe_for(PLACES["openpi_pi0"], load_robot("so101"), HEADS, None, None)
    assert description.norm_stats is None


# ---- as a process


def test_the_command_itself() -> None:
    pi0 = Path(sys.executable).with_name("pi0")
    done = subprocess.run([pi0, "checkpoint", "info", DEMO], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{DEMO}: a checkpoint of this package, pi0\n")
    assert done.stderr == ""
