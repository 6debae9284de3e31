"""Two robots of one kind in one domain, under `left` and `right`: nothing of the one moves, names or stops the other.

`PI0_TWO_ROBOTS_S=600` lets them run so long.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import wait_until

rclpy = pytest.importorskip("rclpy")
pytest.importorskip("rosbags")
from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from launched import ROBOT, Body, children, clear, launch  # noqa: E402
from rclpy.node import Node  # noqa: E402
from spinning import spinning  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from pi0_ros.bags.reader import Bag  # noqa: E402
from pi0_ros.nodes.messages import diagnostic_values  # noqa: E402
from pi0_ros.nodes.recorder_client import RecorderClient  # noqa: E402

pytestmark = [pytest.mark.dds, pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")]
SIDES = ("left", "right")
SECONDS = float(os.environ.get("PI0_TWO_ROBOTS_S", "3"))


class Desk(Node):
    """A person's station in one robot's namespace."""

    def __init__(self, context: rclpy.Context, side: str) -> None:
        super().__init__("desk", context=context, namespace=side)
        self.statuses: dict[str, dict[str, str]] = {}
        self.hardware: set[str] = set()
        self.create_subscription(DiagnosticArray, "/diagnostics", self._hear, 20)
        self.estop = self.create_client(Trigger, "controller/estop")
        self.recorder = RecorderClient(self, "recorder")

    def _hear(self, array: DiagnosticArray) -> None:
        for status in array.status:
            self.statuses[status.name] = diagnostic_values(status)
            self.hardware.add(status.hardware_id)


@pytest.fixture
def stations(ros_context: rclpy.Context) -> Iterator[dict[str, tuple[Body, Desk]]]:
    made = {side: (Body(ros_context, side, cameras=True), Desk(ros_context, side)) for side in SIDES}
    with spinning(ros_context, *(node for nodes in made.values() for node in nodes)):
        yield made


def test_two_robots_in_one_domain(stations: dict[str, tuple[Body, Desk]], tmp_path: Path) -> None:
    words = ["robot:=demo_arm", "backend:=zmq", "server:=tcp://127.0.0.1:9", "auto_arm:=true", "monitor:=false"]
    patient = tmp_path / "patient.yaml"  # a busy machine must not disarm
    patient.write_text(
        "controller:\n  ros__parameters:\n    rearm_after_s: 600.0\n    chunk_timeout_s: 600.0\n    tracking_s: 0.0\n"
    )
    words.append(f"params_file:={patient}")
    launched = []
    try:
        for side in SIDES:
            (tmp_path / side).mkdir()
            launched.append(launch("pi0 up", tmp_path / side, [*words, f"namespace:={side}"]))
            record = [f"namespace:={side}", "robot:=demo_arm", "out_dir:=bags"]
            launched.append(launch("pi0 up", tmp_path / side, record, "record"))
        told = lambda: "\n".join(one.printed.decode(errors="replace")[-1500:] for one in launched)  # noqa: E731
        wait_until(lambda: all(body.drives() for body, _ in stations.values()), 90.0, told)
        for one in launched:
            one.nodes = children(one.process.pid)
        for _, desk in stations.values():
            heard = [f"rate_hz {topic}" for topic in ROBOT.topics]
            wait_until(lambda: all(float(desk.recorder.status.get(k, 0)) > 0 for k in heard), 30.0, told)  # noqa: B023
            wait_until(lambda: desk.recorder.act("start"), 30.0)  # noqa: B023
            wait_until(desk.recorder.answered, 30.0)
            answer = desk.recorder.answer()
            assert answer is not None and answer[1], answer
        left, right = stations["left"], stations["right"]
        before = {side: len(body.commands) for side, (body, _) in stations.items()}
        time.sleep(SECONDS)
        said = {name: (s.get("state"), s.get("reason")) for name, s in stations["left"][1].statuses.items()}
        assert all(len(body.commands) > before[side] for side, (body, _) in stations.items()), said

        future = left[1].estop.call_async(Trigger.Request())
        wait_until(future.done, 20.0)
        wait_until(lambda: left[1].statuses["pi0_ros: left/controller"]["state"] == "STOPPED", 20.0)
        wait_until(lambda: left[0].last_velocity() == 0.0, 10.0)
        stopped = len(left[0].commands)
        sent = len(right[0].commands)
        said = lambda: f"the other one moving on: {right[1].statuses.get('pi0_ros: right/controller')}"  # noqa: E731
        wait_until(lambda: len(right[0].commands) > sent + 50 and right[0].drives(), 30.0, said)
        assert all(np.all(np.array(m.points[0].velocities) == 0.0) for m in left[0].commands[stopped:])
        names = {name for name in left[1].statuses if name.startswith("pi0_ros: ")}
        nodes = "controller", "policy", "policy link", "recorder"
        assert names == {f"pi0_ros: {side}/{node}" for side in SIDES for node in nodes}
        wanted = {f"/{side}/pi0/{name}" for side in SIDES for name in ("plan", "state")}
        said = lambda: {n for n, _ in left[1].get_topic_names_and_types() if n.endswith(("pi0/plan", "pi0/state"))}  # noqa: E731
        wait_until(lambda: said() == wanted, 20.0, lambda: str(said()))
        assert {"left/demo_arm", "right/demo_arm"} <= left[1].hardware
        assert "demo_arm" not in left[1].hardware
        other = left[1].statuses["pi0_ros: right/controller"]
        assert "stop" not in other["reason"], other  # a busy machine may have made it hold
        for side, (_, desk) in stations.items():
            assert desk.recorder.status["episode"].startswith(str(tmp_path / side))
            wait_until(lambda: desk.recorder.act("success"), 30.0)  # noqa: B023
            wait_until(desk.recorder.answered, 60.0)
        for one in launched:
            one.process.send_signal(2)
        wait_until(lambda: all(one.process.poll() is not None for one in launched), 40.0, told)
        for side in SIDES:
            bag = next((tmp_path / side / "bags").glob("episode_*"))
            with Bag(bag) as recorded:  # by the robot file's own names, whatever the namespace
                counts = {topic: info.count for topic, info in recorded.info.topics.items()}
            assert set(ROBOT.topics) <= set(counts) and all(counts[topic] > 0 for topic in ROBOT.topics), counts
    finally:
        for one in launched:
            one.nodes |= children(one.process.pid)
            clear(one)
