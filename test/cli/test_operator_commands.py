"""`pi0 arm`, `disarm`, `estop`, `reset`, `takeover`, `prompt`, `state` against a real controller and recorder."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import pytest
from conftest import Processes, wait_until

rclpy = pytest.importorskip("rclpy")
from launched import Body  # noqa: E402
from rclpy.client import Client  # noqa: E402
from spinning import spinning  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from pi0_ros.cli.main import main  # noqa: E402

pytestmark = pytest.mark.dds


@pytest.fixture
def body(ros_context: rclpy.Context) -> Iterator[Body]:
    node = Body(ros_context)
    with spinning(ros_context, node):
        yield node


def test_a_robot_is_run_by_commands_alone(body: Body, processes: Processes, capsys: pytest.CaptureFixture[str]) -> None:
    processes.node("controller_node", robot="demo_arm", rearm_after_s=600.0, chunk_timeout_s=600.0)
    processes.node("recorder_node", robot="demo_arm")
    processes.wait_for_output("controller_node", "DISARMED")
    wait_until(lambda: main(["arm"]) == 0, 40.0, lambda: capsys.readouterr().out)
    wait_until(body.moving, 20.0)
    assert main(["prompt", "fold", "the", "towel"]) == 0
    assert "/recorder" in capsys.readouterr().out
    processes.wait_for_output("recorder_node", "'fold the towel'")
    assert main(["state", "-v"]) == 0
    shown = capsys.readouterr().out
    assert "controller" in shown and "recorder" in shown and "prompt: fold the towel" in shown
    capsys.readouterr()
    assert main(["takeover"]) == 0
    assert "it holds until /demo_arm/teleop is heard" in capsys.readouterr().out
    assert main(["takeover", "--end"]) == 0
    assert "handed back" in capsys.readouterr().out
    assert main(["takeover", "--end"]) == 0
    assert "nobody had taken over" in capsys.readouterr().out
    assert main(["estop"]) == 0
    assert "controller: stopping" in capsys.readouterr().out
    wait_until(lambda: body.last_velocity() == 0.0, 10.0)
    assert main(["takeover"]) == 1
    assert main(["arm"]) == 1
    assert "refused: " in capsys.readouterr().out
    assert main(["state"]) == 1  # STOPPED is an error
    wait_until(lambda: main(["reset"]) == 0, 20.0)
    assert main(["disarm"]) == 0


def test_a_controller_that_connects_late_is_asked_to_stop(
    ros_context: rclpy.Context, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three are found; `left` is asked at once, `right` connects after the search is over, `lost` never does."""
    stopped: list[str] = []
    node = rclpy.create_node("controllers", context=ros_context)

    def offer(name: str) -> None:
        def stop(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            stopped.append(name)
            response.success, response.message = True, "stopping"
            return response

        node.create_service(Trigger, f"/{name}/controller/estop", stop)

    for name in ("left", "right", "lost"):
        offer(name)
    late_at = [math.inf]  # from when on `right` is connected
    ready = Client.service_is_ready

    def connected(client: Client) -> bool:
        if not ready(client) or "/lost/" in client.srv_name:
            return False
        if "/left/" in client.srv_name:
            late_at[0] = min(late_at[0], time.monotonic() + 1.5)
            return True
        return time.monotonic() > late_at[0]

    monkeypatch.setattr(Client, "service_is_ready", connected)
    monkeypatch.setattr("pi0_ros.nodes.operator.ANSWER_S", 5.0)
    with spinning(ros_context, node):
        assert main(["estop"]) == 1
    assert stopped == ["left", "right"]
    said = capsys.readouterr().out
    assert "left/controller: stopping" in said and "right/controller: stopping" in said
    assert "lost/controller: NOT STOPPED: was not asked: its service did not connect" in said


def test_nobody_there_is_said(ros_domain: int, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["arm"], ["takeover"], ["estop"], ["estop", "--namespace", "left"], ["prompt", "x"]):
        assert main([*words, "--timeout", "0.3"]) == 2
        assert "nobody offers" in capsys.readouterr().err
    assert main(["state", "--timeout", "0.3"]) == 1


def test_commands_that_do_not_exist_and_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["confert"])
    assert ended.value.code == 2
    assert "did you mean `pi0 convert`?" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("pi0_ros 0.")
