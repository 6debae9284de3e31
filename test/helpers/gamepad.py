"""A gamepad's driver as ROS 2's `joy` is: sensor_msgs/Joy twenty times a second, and at once when something changes.

python gamepad.py    then a line each on stdin: "button 4 1", "axis 0 -0.5"; the end of stdin unplugs it
"""

from __future__ import annotations

import sys
import threading
import time

import rclpy
from rclpy.node import Node
from sensor_msgs.msg import Joy

AXES, BUTTONS, REPEAT_S = 8, 11, 0.05


def main() -> None:
    rclpy.init()
    node = Node("joy_node")
    publisher = node.create_publisher(Joy, "joy", 10)
    message, lock, unplugged = Joy(axes=[0.0] * AXES, buttons=[0] * BUTTONS), threading.Lock(), threading.Event()

    def say() -> None:
        message.header.stamp = node.get_clock().now().to_msg()
        publisher.publish(message)

    def listen() -> None:
        for line in sys.stdin:
            kind, number, value = line.split()
            with lock:
                if kind == "button":
                    message.buttons[int(number)] = int(value)
                else:
                    message.axes[int(number)] = float(value)
                say()
        unplugged.set()

    threading.Thread(target=listen, daemon=True).start()
    while not unplugged.is_set():
        with lock:
            say()
        time.sleep(REPEAT_S)


if __name__ == "__main__":
    main()
