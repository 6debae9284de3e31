"""Take the picture of the browser view for the README: a running viewer in, a PNG out.

    python tools/screenshot.py http://localhost:8080 docs/images/demo.png

Needs Chromium (`apt-get install chromium`) and the running demo. The page is drawn without a GPU: it takes a while.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

DISMISS = "document.querySelectorAll('.mantine-Notification-closeButton').forEach(button => button.click())"
START_S = 60.0


def screenshot(address: str, out: Path, width: int, height: int, wait_s: float) -> None:
    """Open `address` in headless Chromium, let it draw for `wait_s`, write a PNG of width x height pixels.

    Raises FileNotFoundError without Chromium, TimeoutError when it does not start, URLError when nothing is served.
    """
    urllib.request.urlopen(address).close()
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        raise FileNotFoundError("no Chromium here: apt-get install chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [
            browser, "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run",
            "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", f"--user-data-dir={profile}",
            f"--window-size={width},{height}", "--remote-debugging-port=0", address,
        ]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            picture = _capture(_page(Path(profile) / "DevToolsActivePort"), width, height, wait_s)
        finally:
            process.terminate()
            process.wait(30)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(picture)


def _page(port_file: Path) -> str:
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


def _capture(page: str, width: int, height: int, wait_s: float) -> bytes:
    numbers = itertools.count(1)
    with connect(page, max_size=None, open_timeout=START_S) as socket:

        def call(method: str, **parameters: Any) -> dict[str, Any]:
            number = next(numbers)
            socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
            while (answer := json.loads(socket.recv(timeout=120)))["id"] != number:
                pass
            return dict(answer.get("result", {}))

        call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        time.sleep(wait_s)
        call("Runtime.evaluate", expression=DISMISS)
        time.sleep(3.0)
        return base64.b64decode(call("Page.captureScreenshot", format="png")["data"])


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", help="of the browser view")
    parser.add_argument("out", type=Path, help="PNG file to write")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=800)
    parser.add_argument("--wait", type=float, default=20.0, help="seconds before the picture")
    args = parser.parse_args()
    screenshot(args.address, args.out, args.width, args.height, args.wait)
    return 0


if __name__ == "__main__":
    sys.exit(main())
