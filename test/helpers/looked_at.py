"""One of each kind that `pi0 view` looks at, small and real; with `hostile`, every text in it tries to be markup."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import motion
import numpy as np
from bagmaker import STORE, Recipe, header, make_bag, string_message
from motion import FPS

from pi0_ros.cli.view import open_source
from pi0_ros.datasets.language import episode_columns
from pi0_ros.datasets.staged_episode import EpisodeStager
from pi0_ros.datasets.video import CODECS
from pi0_ros.datasets.writer_v30 import write_dataset
from pi0_ros.robot import Joint, load_robot, robot_to_yaml
from pi0_ros.training.evaluation import Predictions
from pi0_ros.training.loader import load_data
from pi0_ros.training.moments import write_moments
from pi0_ros.view.server import Server
from pi0_ros.view.source import Source

ROBOT = load_robot("demo_arm")
HOSTILE = (
    "<img src=x onerror=\"document.title='PWNED'\">",
    "</script><script>document.title='PWNED'</script>",
    "<svg/onload=document.title='PWNED'>",
    "javascript:document.title='PWNED'//",
)
HORIZON = 20


def dataset(folder: Path, hostile: bool = False) -> Path:
    """Three episodes that move. Hostile: the texts are tasks, joints and cameras, and no robot file says better."""
    motion.make(folder, prompts=HOSTILE[:3] if hostile else motion.PROMPTS)
    if hostile:
        (folder / "meta/pi0_robot.yaml").unlink()
        info = json.loads((folder / "meta/info.json").read_text())
        info["robot_type"] = HOSTILE[0]
        for key in ("observation.state", "action"):
            info["features"][key]["names"] = [f"{HOSTILE[i % 4]} {i}" for i in range(6)]
        (folder / "meta/info.json").write_text(json.dumps(info))
    return folder


def recordings(folder: Path, hostile: bool = False) -> Path:
    """Two recordings. In the first a person leads from 1.0 to 1.8 s, and the joints are silent from 2.1 to 2.5 s."""
    said = HOSTILE if hostile else ("put the red cube in the tray", "grasp", "policy", "success")
    extra = [
        (at, topic, "std_msgs/msg/String", string_message(text))
        for at, topic, text in (
            (0.0, "/pi0/in_charge", "policy"),
            (1.0, "/pi0/in_charge", "person"),
            (1.8, "/pi0/in_charge", "policy"),
            (0.5, "/pi0/subtask", said[1]),
        )
    ]

    def keep(topic: str, t_s: float) -> bool:
        return not (topic.endswith("joint_states") and 2.1 < t_s < 2.5)

    custom = {"prompt": said[0], "outcome": said[3]} | ({} if hostile else {"robot_file": robot_to_yaml(ROBOT)})
    folder.mkdir(parents=True)
    first = Recipe(custom_data=custom, extra=extra, keep=keep, prompts=((0.0, said[0]),))
    make_bag(folder / "a", ROBOT, first)
    make_bag(folder / "b<i>", ROBOT, Recipe(seconds=1.0))
    return folder


OLD, STOPPED = "picture is 0.31 s old", "emergency stop: emergency stop by ~/estop"


def incident(folder: Path) -> Path:
    """A flight recorder's file: the controller holds at 1.0 s for too old a picture, goes on at 1.6, is stopped at 2.4;
    only the stop is the reason why it was kept."""
    told = [(0.2, "RUNNING", "following chunks"), (1.0, "HOLDING", OLD), (1.6, "RUNNING", "following chunks")]
    told += [(at, "STOPPED", "emergency stop by ~/estop") for at in (2.4, 2.9)]
    extra = [
        (at, "/diagnostics", "diagnostic_msgs/msg/DiagnosticArray", diagnostics(state=state, reason=reason, fault=""))
        for at, state, reason in told
    ]
    custom = {"reason": STOPPED, "reasons": STOPPED, "outcome": "incident", "robot_file": robot_to_yaml(ROBOT)}
    return make_bag(folder, ROBOT, Recipe(custom_data=custom, extra=extra))


def diagnostics(name: str = "pi0_ros: controller", **values: str) -> Any:
    types = STORE.types
    pairs = [types["diagnostic_msgs/msg/KeyValue"](key=key, value=value) for key, value in values.items()]
    status = types["diagnostic_msgs/msg/DiagnosticStatus"](level=0, name=name, message="", hardware_id="", values=pairs)
    return types["diagnostic_msgs/msg/DiagnosticArray"](header=header(0), status=[status])


def many_joints(folder: Path) -> Path:
    """A dataset of two arms on a base: 17 joints, three cameras, one joint far outside its limits for half a second."""
    robot = load_robot("mobile_bimanual")
    writer = EpisodeStager(folder.with_name(f"{folder.name}-part"), FPS, CODECS["h264"])
    for number in range(60):
        at = number / FPS
        state, action = (
            np.array([_within(joint, at + lag) for joint in joints])
            for joints, lag in ((robot.state_joints, 0.0), (robot.action_joints, 0.1))
        )
        state[3] += 9.0 if 20 <= number < 30 else 0.0
        writer.add(state, action, {c.name: motion.picture(number, 0, k % 3) for k, c in enumerate(robot.cameras)})
    part = writer.close("carry the box to the table", episode_columns(np.arange(60) < 6, [(1.0, "lift")]))
    write_dataset(folder, [part], robot, FPS, CODECS["h264"], {"robot": robot.name, "fps": FPS, "bags": []})
    return folder


def _within(joint: Joint, at: float) -> float:
    lower, upper = (joint.lower, joint.upper) if np.isfinite(joint.upper - joint.lower) else (-1.0, 1.0)
    return float((lower + upper) / 2 + 0.4 * (upper - lower) * np.sin(at + len(joint.name)))


def without_cameras(folder: Path) -> Path:
    """A dataset of numbers only."""
    dataset(folder)
    info = json.loads((folder / "meta/info.json").read_text())
    info["features"] = {key: value for key, value in info["features"].items() if value["dtype"] != "video"}
    (folder / "meta/info.json").write_text(json.dumps(info))
    return folder


def diverged(folder: Path) -> Path:
    """A run whose loss is no number from step 610 on."""
    training_run(folder)
    with (folder / "progress.csv").open("a") as file:
        file.write('"last",610,61,800,1e-4,nan,nan,nan,nan,111,\n')
    return folder


def pages(place: Path) -> dict[str, Path]:
    """Every kind of page in every state that looks different: what it is, and where it lies."""
    found = {}
    for name, hostile in (("good", False), ("hostile", True)):
        data = dataset(place / name / "dataset", hostile)
        found |= {f"{name} dataset": data, f"{name} recordings": recordings(place / name / "bag", hostile)}
        harmless = place / "good" / "dataset"
        found[f"{name} evaluation"] = evaluation(place / name / "evaluation", harmless, hostile)
        found[f"{name} run"] = training_run(place / name / "run", hostile)
    words = ("put the red cube in the tray " * 40, "🤖 fold the towel " + 300 * "x", "ضع المكعب الأحمر في الصينية <b>")
    motion.make(place / "words", prompts=words)
    return found | {
        "long prompt": place / "words",
        "incident": incident(place / "incident"),
        "many joints": many_joints(place / "many"),
        "no cameras": without_cameras(place / "blind"),
        "diverged run": diverged(place / "diverged"),
    }


def evaluation(folder: Path, data: Path, hostile: bool = False) -> Path:
    """What `pi0 eval` writes, of a policy that is worst in episode 1 at frame 20."""
    loaded = load_data(data, 32)
    rows = np.concatenate([np.arange(start, stop, HORIZON // 2) for start, stop in loaded.spans])
    recorded = loaded.action[np.minimum(rows[:, None] + np.arange(HORIZON), len(loaded.action) - 1)].astype(float)
    off = np.full(len(rows), 0.02)
    off[rows == loaded.spans[1][0] + 20] = 0.3
    found = Predictions(rows, recorded + off[:, None, None], recorded, recorded[:, 0], 1.0)
    folder.mkdir(parents=True)
    write_moments(folder, found, loaded, ROBOT)
    errors = [
        {"joint": HOSTILE[0] if hostile else joint.name, "unit": joint.unit, "mean": 0.02, "p95": 0.3, "first": 0.02,
         "last": 0.02, "of_holding": 0.5}
        for joint in ROBOT.action_joints
    ]  # fmt: skip
    errors.append({"joint": "all that move", "unit": "", "of_holding": 0.5})
    content = {"checkpoint": HOSTILE[1] if hostile else "towels", "episodes": [0, 1, 2], "chunks": len(rows)}
    (folder / "error.json").write_text(json.dumps({**content, "errors": errors}))
    if hostile:
        moments = json.loads((folder / "moments.json").read_text())
        for place, joint in enumerate(moments["joints"]):
            joint["name"], joint["unit"] = HOSTILE[place % 4], HOSTILE[(place + 1) % 4]
        moments["episodes"] = [{"number": n, "prompt": HOSTILE[n % 4]} for n in range(3)]
        moments["worst"][0]["pictures"] = {HOSTILE[0]: "moments/../../../secret.jpg"}
        (folder / "moments.json").write_text(json.dumps(moments))
    return folder


def training_run(folder: Path, hostile: bool = False) -> Path:
    """A run of two stages with 60 reports, which wrote a held-out loss at times, and a sheet."""
    folder.mkdir(parents=True)
    extra = f'"{HOSTILE[2]}"' if hostile else "grounding"
    stage = HOSTILE[0].replace('"', '""') if hostile else "all"
    lines = [f"stage,step,seconds,frames_per_s,lr,loss,flow,{extra},grad_norm,param_norm,val_flow"]
    for step in range(1, 61):
        loss = 2.0 / step
        val = f"{1.2 * loss:.4g}" if step % 20 == 0 else ""
        name = f'"{stage}"' if step <= 40 else '"last"'
        lines.append(
            f"{name},{10 * step},{step},800,{1e-4 * step:.4g},{loss:.4g},{loss / 2:.4g},0.1,1,{50 + step},{val}"
        )
    (folder / "progress.csv").write_text("\n".join(lines) + "\n")
    (folder / "first_batch.png").write_bytes(png((4, 6)))
    (folder / "checkpoint").mkdir()
    (folder / "checkpoint" / "model.safetensors").write_bytes(bytes(2048))
    return folder


def png(size: tuple[int, int]) -> bytes:
    from io import BytesIO

    from PIL import Image

    buffer = BytesIO()
    Image.new("RGB", size, (200, 30, 30)).save(buffer, "PNG")
    return buffer.getvalue()


@contextmanager
def served(what: Path | Source, host: str = "127.0.0.1") -> Iterator[Server]:
    """A server in a thread of its own, on a free port."""
    source = open_source(what, None, None) if isinstance(what, Path) else what
    with Server(source, host, 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


__all__ = ["FPS", "HOSTILE", "HORIZON", "ROBOT", "dataset", "evaluation", "recordings", "served", "training_run"]
