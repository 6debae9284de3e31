"""H.264 and H.265 in the messages of other packages, over real DDS: the same pictures as from a CompressedImage, and
none of one that was cut short."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import wait_until

pytest.importorskip("rclpy")
pytest.importorskip("av")
import av
from rclpy.node import Node
from rclpy.qos import QoSProfile
from spinning import spinning
from video import COMPRESSED, NAMES, encoded

from pi0_ros.nodes.messages import message_class, ns_to_stamp
from pi0_ros.observation.images import stream_of
from pi0_ros.observation.video_stream import VideoStream

PICTURES, STEP_NS = 12, 50_000_000
CUT = 7  # this one comes without its end: nothing is shown until the next key picture, the tenth


def filled(kind: str, number: int, data: bytes, stamp_ns: int, encoder: str) -> Any:
    """A message of the type with one picture."""
    message, stamp = message_class(kind)(), ns_to_stamp(stamp_ns)
    message.data = np.frombuffer(data, np.uint8)
    if kind.endswith("CompressedVideo"):
        message.timestamp, message.format = stamp, NAMES[encoder]
    elif kind.endswith("FFMPEGPacket"):
        message.header.stamp, message.encoding, message.pts, message.flags = stamp, encoder, number, number % 5 == 0
        message.width, message.height = 96, 64
    else:
        message.header.stamp, message.format = stamp, NAMES[encoder]
    return message


@pytest.mark.dds
def test_pictures_of_video_messages_are_those_of_compressed_images(
    ros_context, message_package: Callable[[str], None]
) -> None:
    message_package("ffmpeg_image_transport_msgs")
    message_package("foxglove_msgs")
    for encoder in NAMES:
        if encoder in av.codec.codecs_available:
            sent = encoded(PICTURES, 5, encoder)
            _told_alike(ros_context, encoder, [*sent[:CUT], sent[CUT][:-3], *sent[CUT + 1 :]])


def _told_alike(ros_context: Any, encoder: str, sent: list[bytes]) -> None:
    shown, began_ns = {}, time.time_ns()
    for kind in (COMPRESSED, "ffmpeg_image_transport_msgs/msg/FFMPEGPacket", "foxglove_msgs/msg/CompressedVideo"):
        stream, heard, topic = VideoStream(), [], f"/{kind.lower().rpartition('/')[2]}"

        def on_message(message: Any, stream: Any = stream, heard: list = heard) -> None:
            assert stream_of(message)
            heard.append(stream.take(message, began_ns + len(heard) * STEP_NS))

        node = Node("camera", context=ros_context)
        node.create_subscription(message_class(kind), topic, on_message, QoSProfile(depth=50))
        publisher = node.create_publisher(message_class(kind), topic, QoSProfile(depth=50))
        with spinning(ros_context, node):
            wait_until(lambda publisher=publisher: publisher.get_subscription_count() > 0, 30.0, "a listener")
            for number, data in enumerate(sent):
                publisher.publish(filled(kind, number, data, began_ns + number * STEP_NS, encoder))
            wait_until(lambda heard=heard: len(heard) == PICTURES, 30.0, "all pictures")
        shown[kind] = heard
    first, *others = shown.values()
    assert [number for number, picture in enumerate(first) if picture is None] == list(range(CUT, 10))
    assert len({picture.tobytes() for picture in first if picture is not None}) == PICTURES - 3
    for other in others:
        for ours, theirs in zip(other, first, strict=True):
            assert (ours is None) == (theirs is None)
            if ours is not None:
                np.testing.assert_array_equal(ours, theirs)
