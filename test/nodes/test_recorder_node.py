"""The recorder over real DDS: every message, unchanged, in bags that rosbags reads."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

rclpy = pytest.importorskip("rclpy")
from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.qos import ReliabilityPolicy  # noqa: E402
from rclpy.serialization import deserialize_message, serialize_message  # noqa: E402
from recorder_arm import (  # noqa: E402
    BASE,
    COMMAND,
    LIMIT_S,
    ROBOT_FILE,
    STATE,
    WRIST,
    Driver,
    add_node,
    arm_robot,
    custom_data,
    read,
    spin_until,
)
from sensor_msgs.msg import Image, Joy  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from pi0_ros.bags.episode_writer import EpisodeWriter  # noqa: E402
from pi0_ros.bags.reader import Bag  # noqa: E402
from pi0_ros.bags.recovery import recover  # noqa: E402
from pi0_ros.launching.launches import ros_arguments  # noqa: E402
from pi0_ros.nodes.recorder import PROMPT_TOPIC, Recorder, RecorderError, RecorderOptions, next_index  # noqa: E402
from pi0_ros.nodes.recorder_node import joy_buttons  # noqa: E402
from pi0_ros.robot import robot_to_yaml  # noqa: E402


def heard(recorder: Recorder, driver: Driver) -> bool:
    """Everything is subscribed to, as both sides see it."""
    matched = all(publisher.get_subscription_count() == 1 for publisher in driver.publishers.values())
    return matched and not recorder.missing()


@pytest.mark.parametrize("reliability", [ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT])
def test_an_episode_holds_every_message_unchanged(
    executor: SingleThreadedExecutor, tmp_path: Path, reliability: ReliabilityPolicy
) -> None:
    driver = Driver(add_node(executor, "driver"), reliability)
    recorder = Recorder(add_node(executor, "recorder"), arm_robot(), tmp_path)
    spin_until(executor, partial(heard, recorder, driver), "subscriptions")
    before_ns = recorder.node.get_clock().now().nanoseconds
    recorder.start("put the blue cube in the tray", {"seed": "7"})
    for _ in range(20):
        driver.all()
        executor.spin_once(timeout_sec=0.0)
    spin_until(executor, lambda: sum(recorder.counts.values()) == 81, f"all messages, has {recorder.counts}")
    recording = recorder.stop("success")
    messages = read(recording.path)
    assert recording.path == tmp_path / "episode_000000"
    assert recording.counts == {PROMPT_TOPIC: 1, BASE: 20, WRIST: 20, STATE: 20, COMMAND: 20}
    for topic, sent in driver.sent.items():
        # Decoded, because the padding of CDR is whatever lay in memory.
        assert [deserialize_message(data, type(sent[0])) for _, data in messages[topic]] == sent
    stamps = [stamp for stream in messages.values() for stamp, _ in stream]
    assert before_ns <= min(stamps) <= max(stamps) <= recorder.node.get_clock().now().nanoseconds
    assert messages[PROMPT_TOPIC][0][0] == min(stamps)
    assert messages[PROMPT_TOPIC][0][1] == serialize_message(String(data="put the blue cube in the tray"))
    expected = {"prompt": "put the blue cube in the tray", "robot": "arm", "outcome": "success"}
    expected |= {"seed": "7", "lost": "{}", "robot_file": robot_to_yaml(arm_robot())}
    assert custom_data(recording.path) == expected


def test_two_cameras_several_times_faster_than_real_time_lose_nothing(
    executor: SingleThreadedExecutor, tmp_path: Path
) -> None:
    """400 images, 1000 states and commands: ten seconds of the demo arm in one burst of a few seconds."""
    driver = Driver(add_node(executor, "driver"))
    recorder = Recorder(add_node(executor, "recorder"), arm_robot(), tmp_path)
    spin_until(executor, partial(heard, recorder, driver), "subscriptions")
    recorder.start()
    for tick in range(500):
        driver.joints(), driver.command()
        if tick % 5 in (0, 2):
            driver.image(BASE), driver.image(WRIST)
        for _ in range(4):
            executor.spin_once(timeout_sec=0.0)
    spin_until(executor, lambda: sum(recorder.counts.values()) == 1401, "all messages")
    recording = recorder.stop()
    assert recorder.pending == 0
    assert set(recording.lost.values()) == {0}
    assert {topic: len(stream) for topic, stream in read(recording.path).items()} == recording.counts


def test_what_the_recorder_could_not_take_is_counted(executor: SingleThreadedExecutor, tmp_path: Path) -> None:
    driver = Driver(add_node(executor, "driver"))
    recorder = Recorder(add_node(executor, "recorder"), arm_robot(), tmp_path)
    spin_until(executor, partial(heard, recorder, driver), "subscriptions")
    recorder.start()
    driver.all()
    spin_until(executor, lambda: sum(recorder.counts.values()) == 5, "the first of each")
    for _ in range(200):  # nobody listens meanwhile, and fewer images than these can wait
        driver.image(BASE)
    driver.image(WRIST)
    spin_until(executor, lambda: recorder.counts[WRIST] == 2, "the second of the wrist")
    for _ in range(300):
        executor.spin_once(timeout_sec=0.0)
    recording = recorder.stop()
    assert recording.counts[BASE] < 201
    assert recording.lost == {PROMPT_TOPIC: 0, BASE: 201 - recording.counts[BASE], WRIST: 0, STATE: 0, COMMAND: 0}
    assert f"{BASE}: {recording.counts[BASE]}, {recording.lost[BASE]} lost" in recording.summary().splitlines()
    assert custom_data(recording.path)["lost"] == json.dumps({BASE: recording.lost[BASE]})


def test_losses_of_two_publishers_on_one_topic_are_not_known(executor: SingleThreadedExecutor, tmp_path: Path) -> None:
    drivers = [Driver(add_node(executor, name)) for name in ("driver", "other_driver")]
    recorder = Recorder(add_node(executor, "recorder"), arm_robot(), tmp_path)
    for driver in drivers:
        spin_until(executor, partial(heard, recorder, driver), "subscriptions")
    recorder.start()
    for _ in range(5):
        for driver in drivers:
            driver.joints()
    spin_until(executor, lambda: recorder.counts[STATE] == 10, "all messages")
    recording = recorder.stop()
    assert recording.lost[STATE] is None and recording.lost[BASE] == 0
    assert f"{STATE}: 10, losses not known" in recording.summary().splitlines()


def test_the_seconds_before_start_are_in_the_bag(executor: SingleThreadedExecutor, tmp_path: Path) -> None:
    driver = Driver(add_node(executor, "driver"))
    options = RecorderOptions(pre_roll_s=5.0)
    recorder = Recorder(add_node(executor, "recorder"), arm_robot(), tmp_path, options)
    spin_until(executor, partial(heard, recorder, driver), "subscriptions")
    for _ in range(10):
        driver.all()
    spin_until(executor, lambda: len(recorder.early) == 40, "the pre-roll")
    started_ns = recorder.node.get_clock().now().nanoseconds
    recorder.start()
    for _ in range(5):
        driver.all()
    spin_until(executor, lambda: sum(recorder.counts.values()) == 61, "all messages")
    recording = recorder.stop()
    messages = read(recording.path)
    assert {topic: len(stream) for topic, stream in messages.items()} == recording.counts
    assert set(recording.lost.values()) == {0}
    images = [deserialize_message(data, Image) for _, data in messages[BASE]]
    assert images == driver.sent[BASE]
    assert [stamp < started_ns for stamp, _ in messages[BASE]] == 10 * [True] + 5 * [False]
    assert messages[PROMPT_TOPIC][0][0] == min(stamp for stream in messages.values() for stamp, _ in stream)
    # What lies before an episode's start belongs to one episode only.
    recorder.start()
    assert len(read(recorder.stop().path)[BASE]) == 0


def test_the_pre_roll_is_bounded_in_seconds_and_bytes(executor: SingleThreadedExecutor, tmp_path: Path) -> None:
    driver = Driver(add_node(executor, "driver"))
    small = RecorderOptions(pre_roll_s=60.0, queue_bytes=200_000)
    short = RecorderOptions(pre_roll_s=0.1)
    recorders = [Recorder(add_node(executor, f"r{i}"), arm_robot(), tmp_path, o) for i, o in enumerate((small, short))]
    spin_until(executor, lambda: all(p.get_subscription_count() == 2 for p in driver.publishers.values()), "both")
    for _ in range(20):
        driver.image(BASE)
    spin_until(executor, lambda: all(r.meters[BASE].received == 20 for r in recorders), "all images")
    assert len(recorders[0].early) == 3  # of 27.7 kB each, in 100 kB
    time.sleep(0.2)
    driver.image(BASE)
    spin_until(executor, lambda: all(r.meters[BASE].received == 21 for r in recorders), "one image more")
    assert len(recorders[1].early) == 1


def test_an_episode_ends_whole_before_the_disk_is_full(
    executor: SingleThreadedExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [5_000_000_000]
    monkeypatch.setattr("pi0_ros.nodes.recorder.free_bytes", lambda folder: free[0])
    driver, ended = Driver(add_node(executor, "driver")), []
    node = add_node(executor, "recorder")
    recorder = Recorder(node, arm_robot(), tmp_path, on_end=ended.append)
    spin_until(executor, partial(heard, recorder, driver), "subscriptions")
    path = recorder.start()
    for _ in range(10):
        driver.all()
    spin_until(executor, lambda: sum(recorder.counts.values()) == 41, "all messages")
    free[0] = 999_000_000
    spin_until(executor, lambda: not recorder.recording, "the end")
    assert {topic: len(stream) for topic, stream in read(path).items()}[BASE] == 10
    said = custom_data(path)
    assert (said["outcome"], said["success"]) == ("interrupted", "false")
    assert said["problem"] == f"999 MB are free in {tmp_path}, less than 1000 MB"
    assert ended == [recorder.problem] and said["problem"] in recorder.problem and str(path) in recorder.problem
    with pytest.raises(RecorderError, match="999 MB are free in .*: free the disk or record elsewhere"):
        recorder.start()
    free[0] = 5_000_000_000
    recorder.start()
    assert recorder.problem == ""
    assert recorder.stop().outcome == "unknown"


def test_extra_topics_are_recorded_once_they_appear(executor: SingleThreadedExecutor, tmp_path: Path) -> None:
    node = add_node(executor, "driver")
    driver = Driver(node)
    options = RecorderOptions(extra_topics=("pi0/subtask", "nobody/speaks"))
    recorder = Recorder(add_node(executor, "recorder"), arm_robot(), tmp_path, options)
    spin_until(executor, partial(heard, recorder, driver), "subscriptions")
    recorder.start()
    publisher = node.create_publisher(String, "pi0/subtask", 1)
    spin_until(executor, publisher.get_subscription_count, "subscription of the extra topic")
    publisher.publish(String(data="reach"))
    spin_until(executor, lambda: recorder.counts.get("/pi0/subtask"), "its message")
    recording = recorder.stop()
    messages = read(recording.path)
    assert deserialize_message(messages["/pi0/subtask"][0][1], String).data == "reach"
    assert "/nobody/speaks" not in messages and recording.lost["/pi0/subtask"] == 0


def test_discard_removes_and_numbers_go_on(executor: SingleThreadedExecutor, tmp_path: Path) -> None:
    tmp_path = tmp_path / "bags"
    (tmp_path / "episode_000004").mkdir(parents=True)
    (tmp_path / "episode_000011.partial").mkdir()
    (tmp_path / "notes").mkdir()
    assert next_index(tmp_path) == 12
    driver = Driver(add_node(executor, "driver"))
    recorder = Recorder(add_node(executor, "recorder"), arm_robot(), tmp_path)
    spin_until(executor, partial(heard, recorder, driver), "subscriptions")
    assert recorder.start() == tmp_path / "episode_000012"
    assert (tmp_path / "episode_000012.partial").is_dir() and not (tmp_path / "episode_000012").exists()
    driver.all()
    spin_until(executor, lambda: sum(recorder.counts.values()) == 5, "messages")
    recorder.discard()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["episode_000004", "episode_000011.partial", "notes"]
    assert next_index(tmp_path) == 12
    recorder.start()
    assert recorder.stop().path == tmp_path / "episode_000012"
    recorder.start()
    assert recorder.close() == tmp_path / "episode_000013.partial"
    assert custom_data(tmp_path / "episode_000013.partial")["outcome"] == "interrupted"


def test_refusals_say_what_to_do(executor: SingleThreadedExecutor, tmp_path: Path) -> None:
    recorder = Recorder(add_node(executor, "recorder"), arm_robot(), tmp_path)
    with pytest.raises(RecorderError, match=f"nothing publishes {BASE}, {WRIST}, {STATE}: start the robot's drivers"):
        recorder.start()
    with pytest.raises(RecorderError, match="call start first"):
        recorder.stop()
    driver = Driver(add_node(executor, "driver"))
    spin_until(executor, partial(heard, recorder, driver), "subscriptions")
    recorder.start()
    with pytest.raises(RecorderError, match="already recording episode_000000"):
        recorder.start()
    recorder.discard()
    unnamed = Recorder(recorder.node, replace(arm_robot(), prompt=""), tmp_path)
    with pytest.raises(RecorderError, match="no prompt"):
        unnamed.start(" ")


@pytest.fixture
def process(tmp_path: Path, ros_domain: int, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[bytes]]:
    """`recorder_node` as a user starts it; parametrized: with a file size limit and parameters."""
    robot = tmp_path / "arm.yaml"
    robot.write_text(ROBOT_FILE)
    limit, parameters = getattr(request, "param", (resource.RLIM_INFINITY, {}))
    arguments = ros_arguments({"robot": str(robot), "out_dir": str(tmp_path / "bags"), **parameters})
    command = [sys.executable, "-m", "pi0_ros.nodes.recorder_node", *arguments]
    process = subprocess.Popen(
        command, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def call(executor: SingleThreadedExecutor, node: Node, service: str) -> Trigger.Response:
    client = node.create_client(Trigger, f"/recorder/{service}")
    spin_until(executor, client.service_is_ready, service)
    future = client.call_async(Trigger.Request())
    spin_until(executor, future.done, service)
    return future.result()


def states(node: Node) -> dict[str, str]:
    """A dict that follows the recorder's diagnostics."""
    state: dict[str, str] = {}

    def remember(array: DiagnosticArray) -> None:
        for status in array.status:
            if status.name == "pi0_ros: recorder":
                state.update({"message": status.message} | {pair.key: pair.value for pair in status.values})

    node.create_subscription(DiagnosticArray, "/diagnostics", remember, 10)
    return state


def drive(driver: Driver, seconds: float) -> None:
    """Cameras at 20 Hz, joints and commands at 40 Hz."""
    for tick in range(int(40 * seconds)):
        driver.joints(), driver.command()
        if tick % 2:
            driver.image(BASE), driver.image(WRIST)
        time.sleep(1 / 40)


def test_the_node_records_by_service_and_survives_kill_9(
    executor: SingleThreadedExecutor, process: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    node = add_node(executor, "driver")
    driver = Driver(node)
    prompt = node.create_publisher(String, "/recorder/prompt", 1)
    outcome = node.create_publisher(String, "/recorder/outcome", 1)
    state = states(node)
    everyone = (prompt, outcome, *driver.publishers.values())
    spin_until(executor, lambda: all(publisher.get_subscription_count() for publisher in everyone), "recorder")
    prompt.publish(String(data="put the green cube in the tray"))
    spin_until(executor, lambda: state.get("prompt", "").startswith("put the green"), "prompt in diagnostics")
    assert not call(executor, node, "stop").success
    started = call(executor, node, "start")
    assert started.success and started.message == str(tmp_path / "bags/episode_000000")
    for _ in range(10):
        driver.all()
    spin_until(executor, lambda: state.get(f"messages {COMMAND}") == "10", "count in diagnostics")
    assert state["state"] == "recording"
    outcome.publish(String(data="success"))
    spin_until(executor, lambda: state.get("outcome") == "success", "outcome in diagnostics")
    stopped = call(executor, node, "stop")
    assert stopped.success and f"{BASE}: 10" in stopped.message.splitlines()
    path = Path(stopped.message.splitlines()[0])
    assert custom_data(path)["outcome"] == "success"
    assert custom_data(path)["prompt"] == "put the green cube in the tray"

    assert call(executor, node, "start").message.endswith("episode_000001")
    for _ in range(60):  # 3.3 MB: more than one MCAP chunk reaches the disk
        driver.all()
    spin_until(executor, lambda: state.get(f"messages {BASE}") == "60" and state["queue"] == "0", "second episode")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(read(path)[BASE]) == 10
    left = tmp_path / "bags/episode_000001.partial"
    assert left.is_dir() and not (tmp_path / "bags/episode_000001").exists()
    assert next_index(tmp_path / "bags") == 2
    salvaged = read(recover(left))
    assert len(salvaged[PROMPT_TOPIC]) == 1
    assert 35 <= len(salvaged[BASE]) <= 60 and 35 <= len(salvaged[STATE]) <= 60
    image = deserialize_message(salvaged[BASE][-1][1], Image)
    assert image == driver.sent[BASE][10 + len(salvaged[BASE]) - 1]


def test_nothing_to_recover_is_said(tmp_path: Path) -> None:
    (tmp_path / "episode_000000.partial").mkdir()
    with pytest.raises(ValueError, match=r"episode_000000\.partial: holds no MCAP file"):
        recover(tmp_path / "episode_000000.partial")
    EpisodeWriter(tmp_path / "episode_000001", {STATE: "sensor_msgs/msg/JointState"})
    with pytest.raises(ValueError, match="not one whole message"):
        recover(tmp_path / "episode_000001.partial")


def test_sigterm_in_the_middle_of_an_episode_keeps_it_as_partial(
    executor: SingleThreadedExecutor, process: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    node = add_node(executor, "driver")
    driver = Driver(node)
    matched = driver.publishers.values()
    spin_until(executor, lambda: all(publisher.get_subscription_count() for publisher in matched), "recorder")
    assert call(executor, node, "start").success
    process.terminate()
    assert process.wait(LIMIT_S) == 0
    assert custom_data(tmp_path / "bags/episode_000000.partial")["outcome"] == "interrupted"


def test_convert_salvages_the_episode_of_a_killed_recorder(
    executor: SingleThreadedExecutor, process: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    for library in ("av", "pyarrow"):
        pytest.importorskip(library)
    from pi0_ros.cli.main import main

    node = add_node(executor, "driver")
    driver = Driver(node)
    matched = driver.publishers.values()
    spin_until(executor, lambda: all(publisher.get_subscription_count() for publisher in matched), "recorder")
    assert call(executor, node, "start").success
    drive(driver, 3.0)
    process.send_signal(signal.SIGKILL)
    process.wait()
    partial = tmp_path / "bags/episode_000000.partial"
    assert [file.name for file in partial.iterdir()] == ["episode_000000.mcap"]  # as a kill leaves it
    with Bag(partial) as bag:
        assert bag.info.custom_data["prompt"] == "put the red cube in the tray"
        assert bag.info.custom_data["outcome"] == "interrupted"
        assert "before its index" in bag.info.damage[0]
        assert bag.info.topics[STATE].count >= 60  # of 120: at most the last half second and a chunk are gone
    arguments = ["convert", str(tmp_path / "bags"), str(tmp_path / "dataset"), "--robot", str(tmp_path / "arm.yaml")]
    assert main([*arguments, "--include-failed"]) == 0
    info = json.loads((tmp_path / "dataset/meta/info.json").read_text())
    assert info["total_episodes"] >= 1 and info["total_frames"] >= 20  # a busy machine leaves gaps


@pytest.mark.parametrize("process", [(2_500_000, {})], indirect=True, ids=["2.5 MB a file"])
def test_a_disk_that_refuses_ends_the_episode_and_spares_the_others(
    executor: SingleThreadedExecutor, process: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    """The kernel refuses to let files grow beyond a limit: the same error path as a full disk."""
    node = add_node(executor, "driver")
    driver, state = Driver(node), states(node)
    matched = driver.publishers.values()
    spin_until(executor, lambda: all(publisher.get_subscription_count() for publisher in matched), "recorder")
    assert call(executor, node, "start").success
    driver.all()
    spin_until(executor, lambda: state.get(f"messages {COMMAND}") == "1", "first episode")
    assert call(executor, node, "success").success
    assert call(executor, node, "start").success
    sent = 0

    def ended() -> bool:
        nonlocal sent
        driver.all()  # what a busy machine loses on the way does not fill the disk: until it is full
        sent += 1
        return bool(state.get("problem"))

    spin_until(executor, ended, "the end of the second episode")
    assert "writing failed: [Errno 27] File too large" in state["problem"] and state["state"] == "idle"
    first, second = tmp_path / "bags/episode_000000", tmp_path / "bags/episode_000001"
    assert custom_data(first)["outcome"] == "success" and len(read(first)[BASE]) == 1
    assert custom_data(second)["outcome"] == "interrupted" and "File too large" in custom_data(second)["problem"]
    written = {topic: len(stream) for topic, stream in read(second).items()}
    assert 20 <= written[BASE] < sent
    assert 0 < json.loads(custom_data(second)["lost"])[BASE] <= sent - written[BASE]
    assert not call(executor, node, "stop").success
    assert call(executor, node, "start").success
    spin_until(executor, lambda: state["state"] == "recording" and not state["problem"], "the third episode")


@pytest.mark.parametrize("process", [(-1, {"joy_buttons": "toggle=0 failure=2"})], indirect=True, ids=["joystick"])
def test_the_buttons_of_a_joystick_start_and_mark(
    executor: SingleThreadedExecutor, process: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    node = add_node(executor, "driver")
    driver, state = Driver(node), states(node)
    joy = node.create_publisher(Joy, "joy", 10)
    matched = (joy, *driver.publishers.values())
    spin_until(executor, lambda: all(publisher.get_subscription_count() for publisher in matched), "recorder")
    for buttons in ([1, 0, 0], [1, 0, 0], [0, 1, 0]):  # held, then another that means nothing
        joy.publish(Joy(buttons=buttons))
    spin_until(executor, lambda: state.get("state") == "recording", "start")
    joy.publish(Joy(buttons=[0, 0, 1]))
    spin_until(executor, lambda: state.get("saved") == "1", "stop")
    assert custom_data(tmp_path / "bags/episode_000000")["outcome"] == "failure"


def test_buttons_are_read_strictly() -> None:
    assert joy_buttons("start=0 stop=1  discard=10") == {0: "start", 1: "stop", 10: "discard"}
    for wrong, what in (("begin=0", "'begin=0': write"), ("start", "'start': write"), ("start=0 stop=0", "0 is there")):
        with pytest.raises(ValueError, match=what):
            joy_buttons(wrong)
