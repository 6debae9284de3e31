"""The panel beside the browser's scene: buttons, camera images, instructions, recording and health.

State and emergency stop are not here but in the bar above it (`top_bar.py`): a panel can be folded.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import viser

from pi0_ros.monitor.offers import Offer
from pi0_ros.monitor.panel_text import (
    LARGE,
    STYLE,
    Health,
    JointRow,
    StreamRow,
    as_text,
    headline,
    health_lines,
    joint_table,
    legend,
    log_lines,
    padded,
    stream_table,
)
from pi0_ros.monitor.recording_text import recorded_streams, recording_lines

COLOURS = ("red", "green", "blue")
IMAGE_HEIGHT = 192  # pixels; small camera images are enlarged to it without smoothing
LARGE_HEIGHT = 480  # the same, of enlarged ones
LOG_LINES = 12
NOTHING_SILENT: Mapping[str, float] = {}
TWICE_S = 5.0  # within which an episode is discarded by a second press
MOTION = {"arm": "green", "disarm": None, "reset": None, "take over": "violet", "hand back": None}
RECORDING = {"start": "red", "success": "green", "failure": None, "discard": None}
LABELS = {
    **{name: name.capitalize() for name in MOTION},
    "start": "Start an episode",
    "success": "Save as success",
    "failure": "Save as failure",
    "discard": "Discard",
}
AGAIN = "Discard: press again"


@dataclass(frozen=True)
class Actions:
    """What the panel's buttons do. Called from threads of the web server."""

    instruct: Callable[[str], None]
    control: Callable[[str], None]  # arm | disarm | reset | take over | hand back | new scene
    record: Callable[[str], None]  # start | success | failure | discard
    show: Callable[[str, bool], None]  # ghost | planned | executed | commanded | hand, visible


def prompt_choices(prompt: str) -> list[str]:
    """`prompt` for every colour when it names one ("put the red cube in the tray"), else `prompt` alone."""
    pattern = re.compile(rf"\b({'|'.join(COLOURS)})\b")
    if not pattern.search(prompt):
        return [prompt] if prompt else []
    return [pattern.sub(colour, prompt, count=1) for colour in COLOURS]


class Buttons:
    """Buttons of which those are shown that can do something now."""

    def __init__(self, gui: viser.GuiApi, colours: Mapping[str, str | None], press: Callable[[str], None]) -> None:
        self.handles: dict[str, viser.GuiButtonHandle] = {}
        for name, colour in colours.items():
            button = gui.add_button(LABELS[name], color=colour, visible=False)
            button.on_click(lambda _, name=name: press(name))
            self.handles[name] = button

    def show(self, names: Collection[str]) -> None:
        """Show these and no others."""
        for name, button in self.handles.items():
            if button.visible != (name in names):
                button.visible = name in names


class Panel:
    """The controls. Methods may be called from any one thread."""

    def __init__(
        self,
        server: viser.ViserServer,
        title: str,
        prompts: Sequence[str],
        actions: Actions,
        new_scene: bool = False,
        hands: bool = False,
    ) -> None:
        gui = server.gui
        # Light or dark says the page (`top_bar.html`): dark_mode here would be so in every browser.
        gui.configure_theme(
            control_width="medium", show_logo=False, show_share_button=False, brand_color=(20, 130, 155)
        )
        gui.set_panel_label(title)
        gui.main_panel.dock_right()
        with gui.add_folder("Controller"):
            gui.add_html(STYLE)
            self._headline = gui.add_html(headline("", "", ""))
            self._motion = Buttons(gui, MOTION, actions.control)
        with gui.add_folder("Not drawn", visible=False) as self._undrawn:
            self._undrawn_text = gui.add_html("")
        with gui.add_folder("Cameras"):
            self._no_picture = gui.add_html(padded("no picture yet"))
            self._images = gui.add_image(
                np.zeros((IMAGE_HEIGHT, IMAGE_HEIGHT, 3), np.uint8), format="jpeg", visible=False
            )
            self._enlarging = gui.add_button("Enlarge", visible=False)
            self._enlarging.on_click(lambda event: self._enlarge(event.client))
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
            self._recorded = gui.add_html("")
            self._record = Buttons(gui, RECORDING, lambda what: self._pressed(what, actions.record))
            self._cannot = gui.add_html("", visible=False)
            self._recorded_streams = gui.add_html("")
        with gui.add_folder("Health"):
            self._health = gui.add_html(log_lines([("", "nothing on /diagnostics yet")]))
            self._streams = gui.add_html("")
        with gui.add_folder("Log"):
            self._log_shown = gui.add_html(log_lines(()))
        with gui.add_folder("Joints: blue is, orange is sent", expand_by_default=False):
            self._joints = gui.add_html("")
        with gui.add_folder("Show", expand_by_default=False):
            gui.add_html(legend(hands))
            for what in ("planned", "executed", "commanded", "hand" if hands else "ghost"):
                box = gui.add_checkbox(what, True)
                box.on_update(lambda event, what=what: actions.show(what, event.target.value))
        self._log: deque[tuple[str, str]] = deque(maxlen=LOG_LINES)
        self._said: dict[str, str] = {}  # the newest word on each subject of the log
        self._sure_until = 0.0  # a second press until then discards an episode
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

    def _pressed(self, what: str, record: Callable[[str], None]) -> None:
        """A recording button; an episode is discarded by two presses."""
        if what == "discard" and time.monotonic() > self._sure_until:
            self._sure_until = time.monotonic() + TWICE_S
            self._record.handles[what].label = AGAIN
            return
        self._sure_until = 0.0
        record(what)

    def log(self, subject: str, text: str) -> None:
        """A line of the log, where it is not the last word on its subject."""
        if text and self._said.get(subject) != text:
            self._said[subject] = text
            self._log.appendleft((time.strftime("%H:%M:%S"), text))
            self._log_shown.content = log_lines(self._log)

    def show_undrawn(self, text: str) -> None:
        """Say what of the robot is not drawn, and what to do."""
        self._undrawn.visible = bool(text)
        self._undrawn_text.content = padded(as_text(text))

    def show_joints(self, rows: Sequence[JointRow]) -> None:
        """Show where each joint is and is sent."""
        self._joints.content = joint_table(rows)

    def show_streams(self, rows: Sequence[StreamRow]) -> None:
        """Show how old each stream is."""
        self._streams.content = stream_table(rows)

    def show_images(self, images: Mapping[str, np.ndarray], silent: Mapping[str, float] = NOTHING_SILENT) -> None:
        """Show camera images (name -> uint8 [H, W, 3]) side by side, in the given order; of those that are `silent`
        for so long (s) it is said."""
        self._images.image = side_by_side(images, IMAGE_HEIGHT)
        self._images.label = "  |  ".join(
            f"{name} (silent for {silent[name]:.0f} s)" if name in silent else name for name in images
        )
        if not self._images.visible:
            self._images.visible = self._enlarging.visible = True
            self._no_picture.visible = False
        here = self._server.get_clients()
        for client, large in list(self._large.items()):
            if client in here:
                large.image = side_by_side(images, LARGE_HEIGHT)
            else:  # they left with it open
                self._large.pop(client, None)

    def show_headline(self, prompt: str, notice: str, offer: Offer, heeded: bool = True) -> None:
        """Show the instruction, and whether a policy is there to heed it, what the last button did, and the motion
        buttons that do something now."""
        self._motion.show(offer.buttons)
        content = headline(prompt, notice, offer.why, heeded)
        if self._headline.content != content:
            self._headline.content = content

    def show_health(self, rows: Sequence[Health]) -> None:
        """Show one line per row."""
        content = health_lines(rows)
        if rows and self._health.content != content:
            self._health.content = content

    def show_recording(self, status: Mapping[str, str], in_charge: str, offer: Offer) -> None:
        """Show what a recorder said last, once one was heard, and the buttons that do something now."""
        if not self._recording.visible:
            self._recording.visible = True
        for shown, content in (
            (self._recorded, recording_lines(status, in_charge)),
            (self._cannot, padded(as_text(offer.why))),
            (self._recorded_streams, recorded_streams(status)),
        ):
            if shown.content != content:
                shown.content = content
        self._record.show(offer.buttons)
        discard = self._record.handles["discard"]
        if time.monotonic() > self._sure_until and discard.label != LABELS["discard"]:
            discard.label = LABELS["discard"]
        if self._cannot.visible != bool(offer.why):
            self._cannot.visible = bool(offer.why)


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
