"""Browser view: the arm, what lies before it, its cameras, the plan, and buttons to tell it what to do.

    ros2 run pi0_ros viewer_node --ros-args -p robot:=demo_arm

It listens to topics only: the robot's cameras and joint states, markers (`pi0/markers` and what the parameter
`marker_topics` names), `pi0/ghost` and `/diagnostics`. Its buttons publish prompts and call the services of the
controller and the recorder. The page is served on this machine only, unless `host` says otherwise: with `0.0.0.0` to
everyone who has the printed address with its token, who may then move the robot. Through SSH it is
`ssh -L 8080:localhost:8080 robot`. Pages of other sites are refused (`monitor/web_guard.py`), and all text is shown as
text.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
import viser
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory
from visualization_msgs.msg import Marker, MarkerArray

from pi0_ros.base.share import share_path
from pi0_ros.control.chunk import ChunkError
from pi0_ros.monitor import offers
from pi0_ros.monitor.hands import HandsModel, undrawn
from pi0_ros.monitor.kinematics import UrdfError, parse_urdf
from pi0_ros.monitor.model import RobotModel, robot_model
from pi0_ros.monitor.panel import Actions, Panel, prompt_choices
from pi0_ros.monitor.panel_text import Health, JointRow, StreamRow, numbers
from pi0_ros.monitor.scene import Scene
from pi0_ros.monitor.top_bar import Standing, TopBar
from pi0_ros.monitor.web_guard import Guard, guarded
from pi0_ros.nodes.messages import (
    LATCHED,
    LATEST,
    SENSOR,
    STATES,
    STATUS,
    diagnostic_values,
    message_class,
    sent_from_message,
    status_name,
)
from pi0_ros.nodes.parameters import declare
from pi0_ros.nodes.robots import robot_of
from pi0_ros.nodes.running import run_node
from pi0_ros.observation.camera_picture import decoder_of
from pi0_ros.observation.images import ImageError, stream_of
from pi0_ros.observation.joint_messages import MessageError, decode_positions
from pi0_ros.observation.video_stream import VideoStream, decoded
from pi0_ros.robot import StateTopic

PERIOD_S = 1 / 15
NICENESS = 10  # the view never takes a core from the policy or the controller
IMAGE_PERIOD_S = 0.1
TABLE_PERIOD_S = 0.5
HEALTH_STALE_S = 5.0
GHOST_STALE_S = 1.0
SILENT_S = 2.0  # a picture older than that says so
RATE_OVER = 30  # messages
NO_CONTROLLER = "NO CONTROLLER"
OUTCOME_S = 0.5  # longest wait for the recorder to have the outcome


class ViewerNode(Node):
    """Callbacks store the newest message; a timer draws it while somebody looks."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("viewer", **kwargs)
        values = declare(self, "viewer")
        self.robot = robot_of(self, values["robot"])
        host, port, closed_at = values["host"], values["port"], values["gripper_closed_at"]
        prompts, prompt_topics = values["prompts"], values["prompt_topics"]
        topics = list(filter(None, values["marker_topics"])) or ["pi0/markers", f"{self.robot.name}/objects"]
        controller, recorder, scene_service = values["controller"], values["recorder"], values["scene_service"]
        roles = {"policy": "policy", "controller": controller, "recorder": recorder, "task": "task"}
        self._own = {status_name(self, name): role for role, name in roles.items()}

        self._todo: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._wake = self.create_guard_condition(self._work)
        self._state = np.where(self.robot.speed_mask, 0.0, np.nan)  # [J]; a speed moves nothing that is drawn
        self._ghost: dict[str, float] = {}  # where the plan ends: URDF joint -> rad or m
        self._ghost_heard = -np.inf
        self._images: dict[str, tuple[float, Any]] = {}  # camera -> when its newest picture came, steady s, and it
        self._videos = {camera.name: VideoStream() for camera in self.robot.cameras}  # of those that send streams
        self._decoders = {camera.name: decoder_of(camera) for camera in self.robot.cameras}
        self._markers: dict[tuple[str, int], Marker] = {}
        self._health: dict[str, tuple[float, DiagnosticStatus]] = {}
        self._images_shown = self._tables_shown = 0.0
        self._commanded = np.full(len(self.robot.joints), np.nan)
        self._arrivals: dict[str, deque[float]] = {  # of each stream's newest messages
            name: deque(maxlen=RATE_OVER) for name in (*self._videos, *(item.topic for item in self.robot.state))
        }
        self._prompt = self.robot.prompt
        self._notice = ""

        self._prompt_publishers = [self.create_publisher(String, topic, LATCHED) for topic in prompt_topics]
        self._outcome = self.create_publisher(String, f"{recorder}/outcome", 1)
        self._arm = self.create_client(SetBool, f"{controller}/arm")
        self._takeover = self.create_client(SetBool, f"{controller}/takeover")
        self._triggers = {
            **{name: self.create_client(Trigger, f"{controller}/{name}") for name in ("estop", "reset")},
            **{name: self.create_client(Trigger, f"{recorder}/{name}") for name in ("start", "stop", "discard")},
            **({"new scene": self.create_client(Trigger, scene_service)} if scene_service else {}),
        }
        guard = Guard(host)
        bar = TopBar(self._standing, lambda: self._later(lambda: self._control("estop")))
        with contextlib.redirect_stdout(io.StringIO()), guarded(guard, bar):  # viser's banner
            self.server = viser.ViserServer(host=host, port=port, verbose=False)
        self.scene = Scene(self.server)
        self._closed_at, self._urdf_text = closed_at, ""
        self.model: RobotModel | None = None
        self.actions = Actions(
            instruct=lambda text: self._later(lambda: self._instruct(text)),
            control=lambda what: self._later(lambda: self._control(what)),
            record=lambda what: self._later(lambda: self._record(what)),
            show=lambda what, on: self._later(lambda: self._show(what, on)),
        )
        choices = [prompt for prompt in prompts if prompt] or prompt_choices(self.robot.prompt)
        self._by_switch = bool(self.robot.takeover.topics) and self.robot.takeover.begins == "switch"
        by_poses = bool(self.robot.poses)
        self.panel = Panel(self.server, self.robot.name, choices, self.actions, bool(scene_service), by_poses)
        self._frame: str | None = None  # in which markers must be; None: any
        self._load_model()

        for camera in self.robot.cameras:
            store = partial(self._on_picture, camera.name)
            self.create_subscription(message_class(camera.type), camera.topic, store, SENSOR)
        for state in self.robot.state:
            self.create_subscription(message_class(state.type), state.topic, partial(self._on_state, state), STATES)
        for topic in topics:
            self.create_subscription(MarkerArray, topic, self._on_markers, SENSOR)
        self.create_subscription(JointState, "pi0/ghost", self._on_ghost, SENSOR)
        self.create_subscription(JointTrajectory, "pi0/command", self._on_command, LATEST)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self.create_timer(PERIOD_S, self._draw, clock=Clock(clock_type=ClockType.STEADY_TIME))
        shown = "localhost" if host in ("127.0.0.1", "0.0.0.0") else host
        print(f"browser view: http://{shown}:{self.port}{guard.query()}", flush=True)

    @property
    def port(self) -> int:
        """The port that is served."""
        return int(self.server.get_port())

    def close(self) -> None:
        """Stop serving."""
        self.server.stop()

    def _load_model(self) -> None:
        """The robot file's URDF, until a driver says another on robot_description."""
        if self.robot.urdf is not None:
            path = Path(share_path().joinpath(self.robot.urdf))
            self._build_model(path.read_text("utf8"), str(path), path.parent)
        else:
            self.panel.show_undrawn(undrawn(self.robot, drawn=False))
        if self.robot.poses:
            hands = HandsModel(self.robot)
            self._frame = hands.frame(hands.tips[0])
            self.scene.look_into(hands.room())
        else:
            self.create_subscription(String, "robot_description", self._on_description, LATCHED)

    def _build_model(self, text: str, origin: str, folder: Path) -> None:
        self._urdf_text = text
        model = robot_model(self.robot, parse_urdf(text, origin), closed_at=self._closed_at)
        if not self.scene.add_robot(model, text, folder):
            self.get_logger().warning(f"{origin}: none of its shapes is found here: the robot is drawn as sticks")
        self.model, self._frame = model, model.urdf.root
        self.panel.show_undrawn(undrawn(self.robot, True, model.unmatched))

    def _on_description(self, message: String) -> None:
        if message.data == self._urdf_text:
            return
        try:
            self._build_model(message.data, "robot_description", Path.cwd())
        except UrdfError as error:
            self.get_logger().error(f"{error}; {'the one before' if self.model else 'no robot'} is drawn")

    # ------------------------------------------------------------------------------------------------------- listening

    def _on_state(self, topic: StateTopic, message: Any) -> None:
        self._arrivals[topic.topic].append(time.monotonic())
        try:
            values = decode_positions(topic, message)
            heard = np.isfinite(values)
            self._state[self.robot.indices(topic.joints)[heard]] = values[heard]
        except MessageError as error:
            self.get_logger().warning(f"not drawn: {error}", throttle_duration_sec=5.0)

    def _on_command(self, message: JointTrajectory) -> None:
        with contextlib.suppress(ChunkError):  # not ours: the controller's own are whole
            sent = sent_from_message(message, self.robot.action_names)
            self._commanded[self.robot.indices(self.robot.action_names)] = sent

    def _on_ghost(self, message: JointState) -> None:
        self._ghost = dict(zip(message.name, message.position))
        self._ghost_heard = time.monotonic()

    def _on_markers(self, array: MarkerArray) -> None:
        for marker in array.markers:
            frame = marker.header.frame_id
            if self._frame is not None and frame.rpartition("/")[2] not in (self._frame, ""):
                text = f"marker {marker.ns} in frame {frame} not drawn: only {self._frame} is known here"
                self.get_logger().warning(text, throttle_duration_sec=10.0)
            else:
                self._markers[marker.ns, marker.id] = marker

    def _on_diagnostics(self, array: DiagnosticArray) -> None:
        for status in array.status:
            if status.name in self._own:
                self._health[self._own[status.name]] = time.monotonic(), status
            elif not status.name.startswith(STATUS):  # else of another robot's
                self._health[status.name] = time.monotonic(), status

    # --------------------------------------------------------------------------------------------------------- drawing

    def _draw(self) -> None:
        if not self.server.get_clients():
            return
        now = time.monotonic()
        with self.server.atomic():
            if self.model is not None and not np.isnan(self._state).any():
                positions = self.model.urdf_positions(self._state)
                self.scene.move_robot({name: float(value) for name, value in positions.items()})
                self._draw_ghosts(self.model, positions, now)
            drawn, self._markers = self._markers, {}
            for marker in drawn.values():
                self.scene.draw(marker, now)
            self.scene.forget_expired(now)
        if now - self._images_shown >= IMAGE_PERIOD_S and self._images:
            self._images_shown = now
            self._draw_images(now)
        self._draw_health(now)
        if now - self._tables_shown >= TABLE_PERIOD_S:
            self._tables_shown = now
            self._draw_tables(now)

    def _draw_ghosts(self, model: RobotModel, positions: Mapping[str, np.ndarray], now: float) -> None:
        ghost = self._ghost if now - self._ghost_heard < GHOST_STALE_S else {}
        here, there = (model.urdf.poses(where) for where in (positions, ghost or positions))
        apart = {tip: float(np.linalg.norm(here[tip][:3, 3] - there[tip][:3, 3])) for tip in model.tips}
        self.scene.move_ghosts(ghost, apart)

    def _draw_tables(self, now: float) -> None:
        """Every joint between its limits, and how old every stream is."""
        joints = zip(self.robot.joints, self._state, self._commanded, strict=True)
        rows = [
            JointRow(joint.name, joint.unit, joint.lower, joint.upper, float(is_at), float(sent))
            for joint, is_at, sent in joints
            if not joint.writes_rotation  # its numbers mean nothing alone: the axes in the scene show it
        ]
        self.panel.show_joints(rows)
        limits = {item.topic: item.max_age_s for item in self.robot.state}
        limits |= {camera.name: camera.max_age_s for camera in self.robot.cameras}
        self.panel.show_streams([self._stream(name, limits[name], now) for name in self._arrivals])

    def _stream(self, name: str, limit_s: float, now: float) -> StreamRow:
        came = self._arrivals[name]
        age_s = now - came[-1] if came else np.inf
        span = came[-1] - came[0] if len(came) > 1 else 0.0
        rate = (len(came) - 1) / span if span > 0 and age_s < HEALTH_STALE_S else 0.0
        return StreamRow(name, age_s, rate, limit_s)

    def _on_picture(self, camera: str, message: Any) -> None:
        self._arrivals[camera].append(time.monotonic())
        if stream_of(message):
            with contextlib.suppress(ImageError):  # drawing the message says so
                message = decoded(self._videos[camera], message, time.monotonic_ns())
        if message is not None:
            self._images[camera] = time.monotonic(), message

    def _draw_images(self, now: float) -> None:
        images = {}
        for camera in self.robot.cameras:
            if camera.name in self._images:
                try:
                    images[camera.name] = self._decoders[camera.name](self._images[camera.name][1])
                except ImageError as error:
                    self.get_logger().warning(f"{camera.topic} not drawn: {error}", throttle_duration_sec=5.0)
        if images:
            ages = {name: now - self._images[name][0] for name in images}  # messages of a stream may come without any
            self.panel.show_images(images, {name: age for name, age in ages.items() if age > SILENT_S})

    def _draw_health(self, now: float) -> None:
        rows = []
        for name, (heard, status) in sorted(self._health.items()):
            silent = now - heard > HEALTH_STALE_S
            text = (
                f"silent for {now - heard:.0f} s" if silent else f"{status.message}{numbers(diagnostic_values(status))}"
            )
            rows.append(Health(name, 3 if silent else ord(status.level), text))
        self.panel.show_health(rows)
        controller, recorder = self._values("controller", now), self._values("recorder", now)
        if "recorder" in self._health:
            last = diagnostic_values(self._health["recorder"][1])
            who = (controller or {}).get("in_charge", "")
            self.panel.show_recording(last, who, offers.recording(recorder))
        policy = self._values("policy", now)
        prompt = (policy or {}).get("prompt") or self._prompt
        offer = offers.motion(controller, self._by_switch)
        self.panel.show_headline(prompt, self._notice, offer, heeded=policy is not None)
        self.panel.log("state", controller["state"] if controller else NO_CONTROLLER)
        self.panel.log("prompt", f"told: {prompt}" if prompt else "")
        self.panel.log("notice", self._notice)
        for row in rows:
            self.panel.log(row.name, f"{row.name}: {row.text.partition(' (')[0]}" if row.level else "")

    def _standing(self) -> Standing:
        """What the bar says; called from threads of the web server."""
        now = time.monotonic()
        controller, recorder = self._values("controller", now), self._values("recorder", now) or {}
        details = [f"recording {recorder.get('duration_s')} s"] if recorder.get("state") == "recording" else []
        if controller is None:
            details.append("none is heard: nothing is known of its state")
            return Standing(NO_CONTROLLER, ", ".join(details), self._notice)
        who = controller.get("in_charge", "")
        details += [f"{who} in charge"] if who else []
        details += [controller["reason"]] if controller.get("reason") else []
        return Standing(controller.get("state", "?"), " · ".join(details), self._notice)

    def _values(self, name: str, now: float) -> dict[str, str] | None:
        """The values of the status of our policy, controller or recorder, None unless it was heard of late."""
        heard, status = self._health.get(name, (-np.inf, None))
        return diagnostic_values(status) if status and now - heard <= HEALTH_STALE_S else None

    # --------------------------------------------------------------------------------------------------------- buttons

    def _later(self, work: Callable[[], None]) -> None:
        """Do `work` in the executor's thread: the web server calls from its own."""
        self._todo.put(work)
        self._wake.trigger()

    def _work(self) -> None:
        while True:
            try:
                work = self._todo.get_nowait()
            except Empty:
                return
            work()

    def _instruct(self, text: str) -> None:
        if text.strip():
            self._prompt = text.strip()
            for publisher in self._prompt_publishers:
                publisher.publish(String(data=self._prompt))

    def _control(self, what: str) -> None:
        if what in ("arm", "disarm"):
            self._call(what, self._arm, SetBool.Request(data=what == "arm"))
        elif what in ("take over", "hand back"):
            self._call(what, self._takeover, SetBool.Request(data=what == "take over"))
        else:
            self._trigger(what)

    def _trigger(self, name: str) -> None:
        self._call(name, self._triggers[name], Trigger.Request())

    def _record(self, what: str) -> None:
        if what in ("success", "failure"):
            self._outcome.publish(String(data=what))
            self._outcome.wait_for_all_acked(Duration(seconds=OUTCOME_S))  # it must be there before the stop
            what = "stop"
        self._trigger(what)

    def _show(self, what: str, visible: bool) -> None:
        if what == "ghost":
            self.scene.show_ghost(visible)
        else:
            self.scene.show_namespace(what, visible)

    def _call(self, name: str, client: Any, request: Any) -> None:
        if not client.service_is_ready():
            self._notice = f"{name}: nobody offers {client.srv_name}"
            return
        client.call_async(request).add_done_callback(partial(self._answered, name))

    def _answered(self, name: str, future: Any) -> None:
        response = future.result()
        first_line = response.message.partition("\n")[0]
        self._notice = f"{name}: {'done' if response.success else 'refused'}{first_line and ', '}{first_line}"


def main(args: list[str] | None = None) -> int:
    """Serve the view until SIGINT or SIGTERM."""
    os.nice(NICENESS)
    return run_node("viewer", ViewerNode, args, ViewerNode.close)


if __name__ == "__main__":
    sys.exit(main())
