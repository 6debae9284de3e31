"""The panel beside the browser's scene: camera images, instructions, safety buttons, recording and health."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import viser

from pi0_ros.monitor.panel_text import (
    LARGE,
    STYLE,
    Health,
    JointRow,
    StreamRow,
    headline,
    health_lines,
    joint_table,
    legend,
    log_lines,
    stream_table,
)

COLOURS = ("red", "green", "blue")
IMAGE_HEIGHT = 192  # pixels; small camera images are enlarged to it without smoothing
LARGE_HEIGHT = 480  # the same, of enlarged ones
LOG_LINES = 12
STOP_KEY = "S"  # with Shift


@dataclass(frozen=True)
class Actions:
    """What the panel's buttons do. Called from threads of the web server."""

    instruct: Callable[[str], None]
    control: Callable[[str], None]  # estop | arm | disarm | reset | take over | hand back | new scene
    record: Callable[[str], None]  # start | success | failure | discard
    show: Callable[[str, bool], None]  # ghost | planned | executed | commanded, visible


def prompt_choices(prompt: str) -> list[str]:
    """`prompt` for every colour when it names one ("put the red cube in the tray"), else `prompt` alone."""
    pattern = re.compile(rf"\b({'|'.join(COLOURS)})\b")
    if not pattern.search(prompt):
        return [prompt] if prompt else []
    return [pattern.sub(colour, prompt, count=1) for colour in COLOURS]


class Panel:
    """The controls. Methods may be called from any one thread."""

    def __init__(
        self,
        server: viser.ViserServer,
        title: str,
        prompts: Sequence[str],
        actions: Actions,
        new_scene: bool = False,
        takeover: bool = False,
    ) -> None:
        gui = server.gui
        gui.configure_theme(
            control_width="medium",
            dark_mode=True,
            show_logo=False,
            show_share_button=False,
            brand_color=(20, 160, 190),
        )
        gui.set_panel_label(title)
        gui.main_panel.dock_right()
        with gui.add_folder("Controller"):
            gui.add_html(STYLE)  # keeps this folder in sight
            self._headline = gui.add_html(headline("waiting for the robot", "", ""))
            gui.add_button("EMERGENCY STOP", color="red", hint=f"Shift + {STOP_KEY}").on_click(
                lambda _: actions.control("estop")
            )
            stop = gui.add_command("EMERGENCY STOP", hotkey=STOP_KEY, modifier="shift")
            stop.on_trigger(lambda _: actions.control("estop"))
            controls = gui.add_button_group("motion", ("arm", "disarm", "reset"), hint="reset: after a stop, then arm")
            controls.on_click(lambda event: actions.control(event.target.value))
            if takeover:
                lead = gui.add_button_group(
                    "lead", ("take over", "hand back"), hint="by your own poses; then the policy"
                )
                lead.on_click(lambda event: actions.control(event.target.value))
        with gui.add_folder("Cameras"):
            self._images = gui.add_image(np.full((IMAGE_HEIGHT, 2 * IMAGE_HEIGHT, 3), 30, np.uint8), format="jpeg")
            gui.add_button("Enlarge").on_click(lambda event: self._enlarge(event.client))
        with gui.add_folder("Instruction"):
            for prompt in prompts:
                colour = next((colour for colour in COLOURS if re.search(rf"\b{colour}\b", prompt)), None)
                button = gui.add_button(prompt, color=colour)
                button.on_click(lambda _, prompt=prompt: actions.instruct(prompt))
            with gui.add_form(None) as form:  # Enter sends
                text = gui.add_text("or in words", "")
                gui.add_button("Send").on_click(lambda _: form.submit())
            form.on_submit(lambda _: actions.instruct(text.value))
            if new_scene:
                gui.add_button("New scene").on_click(lambda _: actions.control("new scene"))
        with gui.add_folder("Recording", visible=False) as self._recording:
            for label, options in (("episode", ("start", "discard")), ("save as", ("success", "failure"))):
                group = gui.add_button_group(label, options)
                group.on_click(lambda event: actions.record(event.target.value))
        with gui.add_folder("Health"):
            self._health = gui.add_html(log_lines([("", "nothing on /diagnostics yet")]))
            self._streams = gui.add_html("")
        with gui.add_folder("Log"):
            self._log_shown = gui.add_html(log_lines(()))
        with gui.add_folder("Joints: blue is, orange is sent", expand_by_default=False):
            self._joints = gui.add_html("")
        with gui.add_folder("Show", expand_by_default=False):
            gui.add_html(legend())
            for what in ("planned", "executed", "commanded", "ghost"):
                box = gui.add_checkbox(what, True)
                box.on_update(lambda event, what=what: actions.show(what, event.target.value))
        self._log: deque[tuple[str, str]] = deque(maxlen=LOG_LINES)
        self._said: dict[str, str] = {}  # the newest word on each subject of the log
        self._large: dict[int, viser.GuiImageHandle] = {}  # of each client that enlarged the cameras
        self._server = server

    def _enlarge(self, client: viser.ClientHandle | None) -> None:
        """The cameras over the whole page of who asked, until they close it."""
        if client is None:
            return
        modal = client.gui.add_modal("Cameras")
        with modal:
            client.gui.add_html(f'<div class="{LARGE}"></div>')
            image = client.gui.add_image(self._images.image, label=self._images.label, format="jpeg")
            close = client.gui.add_button("Close")
        self._large[client.client_id] = image

        def end(event: object) -> None:
            self._large.pop(client.client_id, None)
            modal.close()

        close.on_click(end)

    def log(self, subject: str, text: str) -> None:
        """A line of the log, where it is not the last word on its subject."""
        if text and self._said.get(subject) != text:
            self._said[subject] = text
            self._log.appendleft((time.strftime("%H:%M:%S"), text))
            self._log_shown.content = log_lines(self._log)

    def show_joints(self, rows: Sequence[JointRow]) -> None:
        """Show where each joint is and is sent."""
        self._joints.content = joint_table(rows)

    def show_streams(self, rows: Sequence[StreamRow]) -> None:
        """Show how old each stream is."""
        self._streams.content = stream_table(rows)

    def show_images(self, images: Mapping[str, np.ndarray]) -> None:
        """Show camera images (name -> uint8 [H, W, 3]) side by side, in the given order."""
        self._images.image = side_by_side(images, IMAGE_HEIGHT)
        self._images.label = "  |  ".join(images)
        here = self._server.get_clients()
        for client, large in list(self._large.items()):
            if client in here:
                large.image = side_by_side(images, LARGE_HEIGHT)
            else:  # they left with it open
                self._large.pop(client, None)

    def show_headline(self, state: str, prompt: str, notice: str) -> None:
        """Show the controller's state, the instruction, and what the last button did, on top of the panel."""
        content = headline(state, prompt, notice)
        if self._headline.content != content:
            self._headline.content = content

    def show_health(self, rows: Sequence[Health]) -> None:
        """Show one line per row."""
        content = health_lines(rows)
        if rows and self._health.content != content:
            self._health.content = content

    def show_recording(self, visible: bool) -> None:
        """Show the recording buttons once a recorder was heard."""
        if self._recording.visible != visible:
            self._recording.visible = visible


def side_by_side(images: Mapping[str, np.ndarray], height: int) -> np.ndarray:
    """Images [H, W, 3] in a row, each at this height."""
    gap = np.full((height, 6, 3), 30, np.uint8)
    return np.hstack([part for image in images.values() for part in (gap, enlarge(image, height))][1:])


def enlarge(image: np.ndarray, height: int) -> np.ndarray:
    """An image [H, W, 3] at another height by nearest neighbours, same aspect."""
    rows = np.arange(height) * image.shape[0] // height
    width = max(1, round(height * image.shape[1] / image.shape[0]))
    columns = np.arange(width) * image.shape[1] // width
    return image[rows[:, None], columns]
