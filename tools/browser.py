"""A headless Chromium that is led over its DevTools socket: pages are opened, clicked, typed into and photographed.

Needs Chromium (`apt-get install chromium`). Pages are drawn without a GPU: it takes a while.
"""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from websockets.sync.client import connect
from websockets.sync.connection import Connection

NAMES = ("chromium", "chromium-browser", "google-chrome")
START_S = 60.0
ANSWER_S = 120.0
OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run"),
    *("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--remote-debugging-port=0"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
KEYS = {" ": "Space", "?": "Slash", "/": "Slash"}  # characters whose key has another name


@dataclass(frozen=True)
class Screen:
    """A window in pixels, in which colours, and whether it is a phone's."""

    width: int = 1280
    height: int = 800
    dark: bool = False
    phone: bool = False


DESK, PHONE = Screen(), Screen(390, 844, phone=True)


class Page:
    """One page of a browser."""

    def __init__(self, socket: Connection) -> None:
        self._socket, self._numbers = socket, itertools.count(1)
        self.complaints: list[str] = []  # errors that the page's console showed, and exceptions that nobody caught
        self.call("Page.enable")
        self.call("Runtime.enable")
        self.call("Network.enable")
        self.call("Log.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A DevTools command's answer. Raises RuntimeError where the browser refuses it."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (answer := json.loads(self._socket.recv(timeout=ANSWER_S))).get("id") != number:
            self._hear(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return dict(answer.get("result", {}))

    def _hear(self, event: dict[str, Any]) -> None:
        told = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(str(told["exceptionDetails"].get("exception", told["exceptionDetails"])))
        elif event.get("method") == "Runtime.consoleAPICalled" and told["type"] in ("error", "assert"):
            self.complaints.append(str(told["args"]))
        elif event.get("method") == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.complaints.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")

    def show(self, screen: Screen) -> None:
        """Draw for this screen."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=screen.width, height=screen.height,
            deviceScaleFactor=2 if screen.phone else 1, mobile=screen.phone,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if screen.dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, address: str) -> None:
        """Go to an address, and wait until it is loaded."""
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=address)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, expression: str) -> Any:
        """What a JavaScript expression gives, as JSON. Raises RuntimeError where it throws."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{expression}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def wait(self, expression: str, longest_s: float = 60.0) -> Any:
        """Wait until the expression is true, and return what it gives. Raises TimeoutError."""
        end = time.monotonic() + longest_s
        while not (found := self.run(expression)):
            if time.monotonic() > end:
                raise TimeoutError(f"not within {longest_s:g} s: {expression}")
            time.sleep(0.05)
        return found

    def click(self, selector: str) -> None:
        """Press the mouse in the middle of an element, as a person would: what lies above it gets the click."""
        place = self.run(
            f"(() => {{ const element = document.querySelector({json.dumps(selector)});"
            "element.scrollIntoView({block: 'center'}); const box = element.getBoundingClientRect();"
            "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call(
                "Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", buttons=1, clickCount=1
            )

    def press(self, key: str, shift: bool = False) -> None:
        """Press and release a key, such as ArrowLeft."""
        more = {"text": key} if len(key) == 1 else {}
        for kind in ("keyDown", "keyUp"):
            named = {"key": key, "code": KEYS.get(key, key), "modifiers": 8 if shift else 0}
            self.call("Input.dispatchKeyEvent", type=kind, **named, **(more if kind == "keyDown" else {}))

    def type(self, text: str) -> None:
        """Type a text into what has the focus."""
        self.call("Input.insertText", text=text)

    def picture(self, path: Path) -> None:
        """Write a PNG of what is in sight."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))


def found() -> str | None:
    """The browser's program; None without one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def browser(screen: Screen = DESK) -> Iterator[Page]:
    """A browser with one page. Raises FileNotFoundError without Chromium, TimeoutError when it does not start."""
    program = found()
    if program is None:
        raise FileNotFoundError("no Chromium here: apt-get install chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        size = f"--window-size={screen.width},{screen.height}"
        command = [program, *OPTIONS, f"--user-data-dir={profile}", size, "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            address = _address(Path(profile) / "DevToolsActivePort")
            # No pings: a browser that draws a scene without a GPU may not answer them for a while.
            with connect(address, max_size=None, open_timeout=START_S, ping_interval=None) as socket:
                page = Page(socket)
                page.show(screen)
                yield page
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(port_file: Path) -> str:
    """Websocket address of the browser's first page."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if port_file.is_file() and (lines := port_file.read_text().splitlines()):
            with urllib.request.urlopen(f"http://127.0.0.1:{lines[0]}/json") as answer:
                pages = [target for target in json.load(answer) if target["type"] == "page"]
            if pages:
                return str(pages[0]["webSocketDebuggerUrl"])
        time.sleep(0.2)
    raise TimeoutError(f"Chromium did not start within {START_S:g} s")
