"""A headless Chromium that is clicked and typed into as by a user, over its DevTools protocol; needs no library."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.label.server import end

NAMES = ("chromium", "chromium-browser", "google-chrome")
# Without a sandbox it runs as root in a container, too; it is shown our own server alone.
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe"),
)
ANSWER_S, WAIT_S, POLL_S = 60, 60, 0.05
KEYS = {"Enter": 13, "Tab": 9, "PageUp": 33, "PageDown": 34, "End": 35, "Home": 36}
KEYS |= {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, " ": 32}
TEXTS = {"Enter": "\r", " ": " "}


def find_chromium() -> str | None:
    """Return the program, or None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One tab.

    Args:
        program: from `find_chromium`.
        folder: for its profile.
    """

    def __init__(self, program: str, folder: Path) -> None:
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        # The protocol is spoken on the descriptors 3 and 4; copies above them keep one from overwriting the other.
        high = [os.dup2(to_read, 103), os.dup2(to_write, 104)]
        os.set_inheritable(high[0], True)
        os.set_inheritable(high[1], True)
        command = f'exec "$0" "$@" 3<&{high[0]} 4>&{high[1]}'
        words = [program, *FLAGS, f"--user-data-dir={folder}", "about:blank"]
        self.process = subprocess.Popen(
            ["bash", "-c", command, *words], pass_fds=high, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for descriptor in (to_read, to_write, *high):
            os.close(descriptor)
        self._pending = b""
        self._count = 0
        self._session: str | None = None
        self.requested: list[str] = []
        self.complaints: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        """End it."""
        end(self.process)
        os.close(self._write)
        os.close(self._read)

    def open(self, url: str, width: int = 1280, height: int = 900) -> None:
        """Show an address in a window of a size."""
        self.resize(width, height)
        self.call("Page.navigate", url=url)

    def resize(self, width: int, height: int) -> None:
        """Change the size of the window, pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript, awaited."""
        told = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in told:
            raise AssertionError(f"{expression}: {told['exceptionDetails']}")
        return told["result"].get("value")

    def wait(self, expression: str, seconds: float = WAIT_S) -> None:
        """Wait until an expression holds."""
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            if self.evaluate(f"Boolean({expression})"):
                return
            time.sleep(POLL_S)
        message = self.evaluate("document.getElementById('message')?.textContent")
        raise AssertionError(f"{expression} must hold within {seconds} s; the page says {message!r}; {self.complaints}")

    def click(self, selector: str, across: float = 0.5, down: float = 0.5) -> None:
        """Click on an element, at a share of its width and height."""
        place = self.evaluate(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " e.scrollIntoView({block: 'center'});"
            " const b = e.getBoundingClientRect(); return [b.left, b.top, b.width, b.height]; })()"
        )
        at = {"x": place[0] + across * place[2], "y": place[1] + down * place[3]}
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            pressed = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
            self.call("Input.dispatchMouseEvent", type=kind, **at, **pressed)

    def press(self, key: str, times: int = 1, shift: bool = False) -> None:
        """Press a key of `KEYS`."""
        common = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": KEYS[key]}
        common["modifiers"] = 8 if shift else 0
        for _ in range(times):
            self.call(
                "Input.dispatchKeyEvent", type="keyDown", **common, **({"text": TEXTS[key]} if key in TEXTS else {})
            )
            self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, text: str) -> None:
        """Type a text."""
        self.call("Input.insertText", text=text)

    def screenshot(self, path: Path) -> None:
        """Save the whole page as PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        told = self.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(told["data"]))

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command of the protocol and return its answer."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            told = self._next()
            if told.get("id") == self._count:
                if "error" in told:
                    raise AssertionError(f"{method}: {told['error']}")
                result: dict[str, Any] = told["result"]
                return result
            self._note(told)

    def _note(self, event: dict[str, Any]) -> None:
        method, params = event.get("method"), event.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requested.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(params["exceptionDetails"].get("exception", {}).get("description", "an exception"))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(params["entry"]["text"])

    def _next(self) -> dict[str, Any]:
        limit = time.monotonic() + ANSWER_S
        while b"\0" not in self._pending:
            ready, _, _ = select.select([self._read], [], [], max(0.0, limit - time.monotonic()))
            part = os.read(self._read, 1 << 16) if ready else b""
            if not part:
                raise AssertionError(f"Chromium must answer within {ANSWER_S} s, got nothing")
            self._pending += part
        message, self._pending = self._pending.split(b"\0", 1)
        told: dict[str, Any] = json.loads(message)
        return told
