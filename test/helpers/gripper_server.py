"""A gripper behind an action server, without physics: it goes where its newest goal sends it, and says where it is."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from following import Follower
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.context import Context
from rclpy.node import Node
from rclpy.task import Future
from sensor_msgs.msg import JointState

from pi0_ros.nodes.messages import action_class

RATE_HZ = 50.0


class GripperServer(Node):
    """Serves GripperCommand or ParallelGripperCommand at `action`; its joint states go to `states`, in m."""

    def __init__(
        self, context: Context, action: str, kind: str, states: str = "joint_states", joint: str = "finger_joint"
    ) -> None:
        super().__init__("gripper_driver", context=context)
        self.goals: list[Any] = []  # those it took
        self.refuses = self.aborts = self.hang = self.refuses_while_it_works = False
        self.stalls = False  # its results say so: fingers on an object, where the driver counts that as success
        self.answers_after_s, self._works = 0.0, 0
        self.cancelled = 0  # goals that were asked to be cancelled
        self._kind, self._joint = action_class(kind), joint
        self._many = kind.endswith("ParallelGripperCommand")
        self._finger = Follower([joint], np.array([0.0]), 0.4)
        self._server = ActionServer(
            self, self._kind, action, self._execute, goal_callback=self._take, cancel_callback=self._cancel
        )
        self._states = self.create_publisher(JointState, states, 10)
        self.create_timer(1.0 / RATE_HZ, self._feel)

    @property
    def position(self) -> float:
        """Where the finger is, m."""
        return float(self._finger.position[0])

    def asked(self) -> list[float]:
        """The positions of the goals it took."""
        return [goal.command.position[0] if self._many else goal.command.position for goal in self.goals]

    def _take(self, goal: Any) -> GoalResponse:
        time.sleep(self.answers_after_s)
        if self.refuses or (self.refuses_while_it_works and self._works):
            return GoalResponse.REJECT
        self.goals.append(goal)
        self._finger.send([self._joint], [self.asked()[-1]])
        return GoalResponse.ACCEPT

    def _cancel(self, handle: Any) -> CancelResponse:
        self.cancelled += 1
        return CancelResponse.ACCEPT

    async def _execute(self, handle: Any) -> Any:
        self._works += 1
        handle.publish_feedback(self._says(self._kind.Feedback()))
        if self.hang:  # until somebody looks
            waits = Future()
            timer = self.create_timer(0.5, lambda: waits.set_result(None))
            await waits
            self.destroy_timer(timer)
        self._works -= 1
        handle.abort() if self.aborts else handle.succeed()
        return self._says(self._kind.Result(stalled=self.stalls, reached_goal=not self.stalls and not self.aborts))

    def _says(self, message: Any) -> Any:
        """A feedback or a result with where the finger is."""
        if self._many:
            message.state = JointState(name=[self._joint], position=[self.position], effort=[3.0])
        else:
            message.position, message.effort = self.position, 3.0
        return message

    def _feel(self) -> None:
        joints = self._finger.move()
        message = JointState(name=list(joints), position=list(joints.values()))
        message.header.stamp = self.get_clock().now().to_msg()
        self._states.publish(message)

    def destroy_node(self) -> None:
        self._server.destroy()
        super().destroy_node()
