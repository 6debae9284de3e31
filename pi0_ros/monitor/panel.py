"""The panel beside the browser's scene: camera images, instructions, safety buttons, recording and health."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import viser

STATE_COLOURS = {  # of the headline, dark enough for white words
    "RUNNING": "#1d7a3d",
    "TAKEOVER": "#8a3a9a",
    "HOLDING": "#a35200",
    "IDLE": "#2b5f9e",
    "DISARMED": "#555",
    "STOPPED": "#b3261e",
}
COLOURS = ("red", "green", "blue")
IMAGE_HEIGHT = 192  # pixels; small camera images are enlarged to it without smoothing
SHOWN = 500  # characters of a foreign text
LEVELS = ("", " (warning)", " (error)", " (stale)")  # OK, WARN, ERROR, STALE


@dataclass(frozen=True)
class Health:
    """One line of the panel's health table, from a status on `/diagnostics`."""

    name: str
    level: int  # as in diagnostic_msgs: OK, WARN, ERROR, STALE
    text: str


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
        self._headline = gui.add_html(headline("waiting for the robot", "", ""))
        with gui.add_folder("Controller"):
            gui.add_button("EMERGENCY STOP", color="red").on_click(lambda _: actions.control("estop"))
            controls = gui.add_button_group("motion", ("arm", "disarm", "reset"), hint="reset: after a stop, then arm")
            controls.on_click(lambda event: actions.control(event.target.value))
            if takeover:
                lead = gui.add_button_group(
                    "lead", ("take over", "hand back"), hint="by your own poses; then the policy"
                )
                lead.on_click(lambda event: actions.control(event.target.value))
        with gui.add_folder("Cameras") as self._cameras_folder:
            self._images = gui.add_image(np.full((IMAGE_HEIGHT, 2 * IMAGE_HEIGHT, 3), 30, np.uint8), format="jpeg")
        with gui.add_folder("Instruction"):
            for prompt in prompts:
                colour = next((colour for colour in COLOURS if re.search(rf"\b{colour}\b", prompt)), None)
                button = gui.add_button(prompt, color=colour)
                button.on_click(lambda _, prompt=prompt: actions.instruct(prompt))
            text = gui.add_text("or in words", "")
            gui.add_button("Send").on_click(lambda _: actions.instruct(text.value))
            if new_scene:
                gui.add_button("New scene").on_click(lambda _: actions.control("new scene"))
        with gui.add_folder("Recording", visible=False) as self._recording:
            for label, options in (("episode", ("start", "discard")), ("save as", ("success", "failure"))):
                group = gui.add_button_group(label, options)
                group.on_click(lambda event: actions.record(event.target.value))
        with gui.add_folder("Health"):
            self._health = gui.add_html(as_text("nothing on /diagnostics yet"))
        with gui.add_folder("Show", expand_by_default=False):
            for what, visible in (("planned", True), ("executed", True), ("commanded", True), ("ghost", True)):
                box = gui.add_checkbox(what, visible)
                box.on_update(lambda event, what=what: actions.show(what, event.target.value))

    def show_images(self, images: Mapping[str, np.ndarray]) -> None:
        """Show camera images (name -> uint8 [H, W, 3]) side by side, in the given order."""
        rows = [enlarge(image, IMAGE_HEIGHT) for image in images.values()]
        gap = np.full((IMAGE_HEIGHT, 6, 3), 30, np.uint8)
        strip = [part for row in rows for part in (gap, row)][1:]
        self._images.image = np.hstack(strip)
        self._images.label = "  |  ".join(images)

    def show_headline(self, state: str, prompt: str, notice: str) -> None:
        """Show the controller's state, the instruction, and what the last button did, on top of the panel."""
        content = headline(state, prompt, notice)
        if self._headline.content != content:
            self._headline.content = content

    def show_health(self, rows: Sequence[Health]) -> None:
        """Show one line per row."""
        content = "".join(
            f"<p><b>{as_text(row.name)}</b>{LEVELS[min(row.level, 3)]} {as_text(row.text)}</p>" for row in rows
        )
        if content and self._health.content != content:
            self._health.content = content

    def show_recording(self, visible: bool) -> None:
        """Show the recording buttons once a recorder was heard."""
        if self._recording.visible != visible:
            self._recording.visible = visible


def as_text(text: str) -> str:
    """Foreign text as HTML that shows it letter by letter: no tag, no script, not longer than `SHOWN` characters.

    viser's markdown is MDX, which runs what stands in braces and tags; so the panel shows no foreign text through it.
    """
    return html.escape(text if len(text) <= SHOWN else f"{text[:SHOWN]} ...")


def headline(state: str, prompt: str, notice: str) -> str:
    """The top of the panel as HTML, all three shown as text; the state also in colour, by its first known word."""
    word = next((word for word in state.split() if word in STATE_COLOURS), "")
    paint = f"background:{STATE_COLOURS.get(word, '#555')};color:#fff;padding:6px 10px;border-radius:4px;margin:8px 0"
    said = f"<p><i>{as_text(notice)}</i></p>" if notice else ""
    return f'<div style="padding:0 10px"><h3 style="{paint}">{as_text(state)}</h3><p>{as_text(prompt)}</p>{said}</div>'


def enlarge(image: np.ndarray, height: int) -> np.ndarray:
    """An image [H, W, 3] at another height by nearest neighbours, same aspect."""
    rows = np.arange(height) * image.shape[0] // height
    width = max(1, round(height * image.shape[1] / image.shape[0]))
    columns = np.arange(width) * image.shape[1] // width
    return image[rows[:, None], columns]
