"""A headless Chromium for tests: where it is, and a page of it that is looked at and pressed as a person would."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-component-update",
    "--disable-background-networking", "--disable-sync", "--disable-dev-shm-usage", "--window-size=1400,900",
    "--hide-scrollbars",
)  # fmt: skip
KEYS = {"Tab": 9, "Enter": 13, " ": 32, "Escape": 27, "Backspace": 8, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39,
        "ArrowDown": 40}  # fmt: skip


def executable() -> str:
    """The browser of this machine. Skips the test where there is none."""
    named = (os.environ.get("CHROME"), "chromium", "chromium-browser", "google-chrome", "chrome")
    found = next((path for name in named if name and (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium or Chrome on this machine; install one or name it in CHROME")
    return found


class Page:
    """A page in a browser that is steered through a pipe (the DevTools protocol). To be closed."""

    def __init__(self, downloads: Path):
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        ours, theirs = os.pipe(), os.pipe()
        # The browser reads from the file number 3 and writes to 4.
        start = f"import os, sys; os.dup2({ours[0]}, 53); os.dup2({theirs[1]}, 4); os.dup2(53, 3)"
        start += "; os.execv(sys.argv[1], sys.argv[1:])"
        command = [sys.executable, "-c", start, executable(), *FLAGS, "--remote-debugging-pipe",
                   f"--user-data-dir={self._profile.name}", "about:blank"]  # fmt: skip
        self._browser = subprocess.Popen(
            command, pass_fds=(ours[0], theirs[1]), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(ours[0])
        os.close(theirs[1])
        self._to, self._from, self._data = os.fdopen(ours[1], "wb", 0), theirs[0], b""
        self._count, self._session = 0, None
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._call("Page.enable")
        self._call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))

    def close(self) -> None:
        """End the browser."""
        self._browser.terminate()
        self._browser.wait(20)
        self._to.close()
        os.close(self._from)
        self._profile.cleanup()

    def open(self, path: Path) -> None:
        """Show a file, and wait until its scripts have run."""
        self._call("Page.navigate", url=path.as_uri())
        self.wait("document.readyState === 'complete' && !!document.getElementById('lines').value.length + 1")

    def run(self, script: str):
        """What a script gives, as JSON has it."""
        said = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    def wait(self, condition: str) -> None:
        """Until a script gives something true."""
        wait = (
            f"new Promise(done => {{ const look = () => ({condition}) ? done(true) : setTimeout(look, 20); look() }})"
        )
        assert self.run(wait)

    def press(self, key: str, shift: bool = False) -> None:
        """Press and release a key, as a keyboard does."""
        text = {"Enter": "\r", " ": " "}.get(key)
        said = {"key": key, "windowsVirtualKeyCode": KEYS[key], "code": "Space" if key == " " else key}
        said |= {"modifiers": 8 if shift else 0, **({"text": text} if text else {})}
        self._call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **said)
        self._call("Input.dispatchKeyEvent", type="keyUp", **said)

    def click(self, x: float, y: float, count: int = 1) -> None:
        """Press the mouse at a place of the window."""
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=count)

    def look(self, width: int, dark: bool = False, height: int = 900) -> None:
        """Make the window so wide, by day or by night."""
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path: Path) -> None:
        """Write what the window shows as PNG."""
        import base64

        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot")["data"]))

    def _call(self, method: str, **params):
        number = self._send(method, params)
        while True:
            answer = self._read()
            if answer.get("method") == "Page.javascriptDialogOpening":
                self._send("Page.handleJavaScriptDialog", {"accept": True})  # yes, leave the page
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def _send(self, method: str, params: dict) -> int:
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        message |= {"sessionId": self._session} if self._session else {}
        self._to.write(json.dumps(message).encode() + b"\0")
        return self._count

    def _read(self):
        """The next message. What it does not say within a minute it will not say."""
        while b"\0" not in self._data:
            assert select.select([self._from], [], [], 60)[0], "the browser says nothing"
            data = os.read(self._from, 1 << 16)
            assert data, "the browser has gone"
            self._data += data
        message, _, self._data = self._data.partition(b"\0")
        return json.loads(message)
