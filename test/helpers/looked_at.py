"""One of each kind that `pi0 view` looks at, small and real; with `hostile`, every text in it tries to be markup."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import motion
import numpy as np
from bagmaker import Recipe, make_bag, string_message
from motion import FPS

from pi0_ros.cli.view import open_source
from pi0_ros.robot import load_robot, robot_to_yaml
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
