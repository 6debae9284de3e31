"""The bar on top of the live view: the state in colour and words, and the emergency stop.

It is no part of viser's page, whose panel can be folded, scrolled away or covered by a dialog: it is written into the
page as it is served (`top_bar.html`) and asks this server by requests of its own. So state and stop are in sight
before the scene is there, and also where the scene cannot be drawn.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files

from pi0_ros.monitor.panel_text import OTHER_COLOUR, SHOWN, STATE_COLOURS

STATE_PATH, STOP_PATH = "/pi0/state", "/pi0/stop"
BAR = files("pi0_ros.monitor").joinpath("top_bar.html").read_text("utf8")


@dataclass(frozen=True)
class Standing:
    """How things stand: what the bar says."""

    state: str  # the controller's, such as RUNNING or SHADOW HOLDING
    detail: str = ""  # who is in charge, why, what is recorded
    notice: str = ""  # what the last button did


class TopBar:
    """Answers the bar's requests. `standing` and `stop` are called from threads of the web server."""

    def __init__(self, standing: Callable[[], Standing], stop: Callable[[], None]) -> None:
        self._standing, self._stop = standing, stop

    def answer(self, path: str) -> str | None:
        """The answer to a request that the guard let through; None where it is none of the bar's."""
        path = path.partition("?")[0]
        if path == STOP_PATH:
            self._stop()
            return "asked to stop"
        return json.dumps(said(self._standing())) if path == STATE_PATH else None


def said(standing: Standing) -> dict[str, str | bool]:
    """What the bar shows of how things stand."""
    word = known_word(standing.state)
    return {
        "state": standing.state[:SHOWN],
        "detail": standing.detail[:SHOWN],
        "notice": standing.notice[:SHOWN],
        "colour": STATE_COLOURS.get(word, OTHER_COLOUR),
        "stopped": word == "STOPPED",
    }


def known_word(state: str) -> str:
    """The first word of a state that has a colour, "" without: of SHADOW HOLDING it is HOLDING."""
    return next((word for word in state.split() if word in STATE_COLOURS), "")


def with_bar(page: str) -> str:
    """A page of HTML with the bar at the beginning of its body."""
    before, body, after = page.rpartition("<body>")
    return f"{before}{body}{BAR}{after}" if body else f"{page}{BAR}"
