"""Simulated sessions as rosbags: the readings as the messages that the nodes would have sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from std_msgs.msg import String

from pi0_ros.bags.conventions import IN_CHARGE_TOPIC, IN_CHARGE_TYPE, PERSON, PROMPT_TOPIC, PROMPT_TYPE
from pi0_ros.bags.episode_writer import EpisodeWriter, Message
from pi0_ros.nodes.sim_messages import command_message, image_message, joint_message, to_cdr
from pi0_ros.robot import Robot, load_robot
from pi0_ros.sim.sessions import Reading, Session


def write_episode(session: Session, path: Path, extra: dict[str, str], took_over: bool = False) -> bool:
    """Write what was recorded as the bag `path`; True where it ended in success. `took_over`: from a policy."""
    plan, robot = session.plan, load_robot("demo_arm")
    kinds = {PROMPT_TOPIC: PROMPT_TYPE, **robot.topics, **({IN_CHARGE_TOPIC: IN_CHARGE_TYPE} if took_over else {})}
    said = {"seed": str(plan.seed), **extra, "prompt": plan.text, "robot": robot.name}
    writer = EpisodeWriter(path, kinds, {**said, "outcome": "interrupted", "success": "false"}, compression="zstd")

    def put(topic: str, message: Any, stamp_ns: int) -> None:
        writer.put(Message(topic, stamp_ns, to_cdr(message, kinds[topic])))

    try:
        put(PROMPT_TOPIC, String(data=plan.text), session.began_ns)
        if took_over:
            put(IN_CHARGE_TOPIC, String(data=PERSON), session.began_ns)
        for reading in session.readings:
            put(*_message(robot, reading), reading.stamp_ns)
    except BaseException:  # Ctrl-C: it is simulated again
        writer.discard()
        raise
    writer.close({**said, "outcome": "success" if session.done else "failure", "lost": "{}"})
    return session.done


def _message(robot: Robot, reading: Reading) -> tuple[str, Any]:
    """The topic and the message of a reading."""
    if reading.kind == "picture":
        topic = next(camera.topic for camera in robot.cameras if camera.name == reading.camera)
        return topic, image_message(reading.value, f"{reading.camera}_camera", reading.stamp_ns)
    if reading.kind == "joints":
        positions, velocities = reading.value
        return robot.state[0].topic, joint_message(positions, velocities, reading.stamp_ns)
    return robot.commands[0].topic, command_message(reading.value, reading.stamp_ns)
