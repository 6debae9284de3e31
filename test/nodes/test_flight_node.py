"""The flight recorder over real DDS: what was before an incident is kept with its reason; memory and disk end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

rclpy = pytest.importorskip("rclpy")
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from recorder_arm import BASE, ROBOT_FILE, STATE, Driver, add_node, custom_data, read, spin_until  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from pi0_ros.conversion.bag_check import check_bag  # noqa: E402
from pi0_ros.nodes.flight_node import FlightNode, make_room  # noqa: E402
from pi0_ros.nodes.messages import diagnostic_array, diagnostic_status  # noqa: E402

pytestmark = pytest.mark.dds
FEW_MB = 2


def flight_node(executor: SingleThreadedExecutor, folder: Path, **values: Any) -> FlightNode:
    """A node that listens to the arm."""
    (folder / "arm.yaml").write_text(ROBOT_FILE)
    values = {"robot": str(folder / "arm.yaml"), "out_dir": str(folder / "flights"), "after_s": 0.3, **values}
    overrides = [Parameter(name, value=value) for name, value in values.items()]
    node = FlightNode(context=executor.context, parameter_overrides=overrides)
    executor.add_node(node)
    return node


def bags(folder: Path) -> list[Path]:
    return sorted((folder / "flights").glob("episode_??????"))


def test_a_fault_is_kept_with_what_was_before_it(executor: SingleThreadedExecutor, tmp_path: Path) -> None:
    flight = flight_node(executor, tmp_path)
    driver = Driver(add_node(executor, "driver"))
    said = driver.node.create_publisher(DiagnosticArray, "/diagnostics", 10)
    mark = driver.node.create_publisher(String, "pi0/mark", 10)

    def report(state: str, fault: str = "") -> None:
        values = {"state": state, "reason": "following chunks", "fault": fault}
        status = diagnostic_status("controller", DiagnosticStatus.OK, state, values)
        said.publish(diagnostic_array(driver.node.get_clock().now().to_msg(), [status]))

    spin_until(executor, lambda: not flight.recorder.missing() and said.get_subscription_count() >= 2, "subscriptions")
    for _ in range(10):
        driver.all()
        report("RUNNING")
        executor.spin_once(timeout_sec=0.05)
    spin_until(executor, lambda: len(flight.recorder.early) >= 45, lambda: len(flight.recorder.early))
    assert not bags(tmp_path), "nothing is written before something happens"
    report("DISARMED", "yaw cannot be there")
    spin_until(executor, lambda: bags(tmp_path), "an incident")
    (path,) = bags(tmp_path)
    messages, about = read(path), custom_data(path)
    assert about["reason"] == about["reasons"] == "fault: yaw cannot be there" and about["outcome"] == "incident"
    assert len(messages[BASE]) == len(messages[STATE]) == 10 and len(messages["/diagnostics"]) >= 11
    check = check_bag(path)
    assert check.robot == "arm" and check.streams, check.findings

    driver.all()  # a camera is gone later: what there is is kept all the same
    mark.publish(String(data="it hesitated"))
    spin_until(executor, lambda: len(bags(tmp_path)) == 2, "a mark")
    assert custom_data(bags(tmp_path)[1])["reason"] == "mark: it hesitated"

    client = driver.node.create_client(Trigger, "/flight/save")
    spin_until(executor, client.service_is_ready, "the service")
    answer = client.call_async(Trigger.Request())
    spin_until(executor, answer.done, "its answer")
    assert answer.result().success and answer.result().message.endswith("episode_000002")
    flight.close()
    assert custom_data(bags(tmp_path)[2])["reason"] == "asked for", "what is under way at the end is finished"


def test_memory_is_bounded(executor: SingleThreadedExecutor, tmp_path: Path) -> None:
    flight = flight_node(executor, tmp_path, memory_mb=FEW_MB)
    driver = Driver(add_node(executor, "driver"))
    spin_until(executor, lambda: not flight.recorder.missing(), "subscriptions")
    end = time.monotonic() + 60.0
    heard = lambda: flight.recorder.meters[BASE].heard_s is not None  # noqa: E731
    sent = 0
    while (sent < 4 * FEW_MB * 1_000_000 or not heard()) and time.monotonic() < end:
        driver.image(BASE)
        sent += 96 * 96 * 3
        for _ in range(3):
            executor.spin_once(timeout_sec=0.0)
    held = sum(len(early.message.data) for early in flight.recorder.early)
    assert 0.5e6 * FEW_MB < held <= FEW_MB * 1_000_000 and heard()


def test_the_oldest_incidents_make_room(tmp_path: Path) -> None:
    for number in range(4):
        folder = tmp_path / f"episode_{number:06d}"
        folder.mkdir()
        (folder / "data").write_bytes(bytes(1000))
    (tmp_path / "mine").mkdir()
    removed = make_room(tmp_path, 2500, tmp_path / "episode_000003")
    assert [path.name for path in removed] == ["episode_000000", "episode_000001"]
    assert make_room(tmp_path, 10, tmp_path / "episode_000003")[-1].name == "episode_000002"
    assert {path.name for path in tmp_path.iterdir()} == {"episode_000003", "mine"}
