"""A real browser, controlled through its own debugging protocol.

A driver that watches the network, as Playwright's does, gets a copy of every frame of every WebSocket as base64: at 60
lossless frames per second that took a third of two cores, and would have dominated the measurement.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from .._testing.extras import extra

_ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--mute-audio", "--no-first-run"),
    *("--disable-extensions", "--disable-component-update", "--disable-background-networking", "--disable-sync"),
    *("--disable-background-timer-throttling", "--disable-backgrounding-occluded-windows"),
    *("--disable-renderer-backgrounding", "--disable-dev-shm-usage", "--remote-debugging-port=0"),
)
_PATIENCE = 30.0


def chromium_path() -> str:
    """The browser named by ``RFB_CHROMIUM``, one on the path, or Playwright's own."""
    names = (os.environ.get("RFB_CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    if found is None:
        with extra("playwright.sync_api").sync_playwright() as playwright:
            found = str(playwright.chromium.executable_path)
    return found


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium with software rendering and a fresh profile."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [chromium_path(), *_ARGUMENTS, f"--user-data-dir={profile}", "about:blank"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                with connect(
                    _debugger(process, Path(profile, "DevToolsActivePort")), compression=None, max_size=None
                ) as socket:
                    browser = Browser(socket)
                    yield browser
                    browser.ask("Browser.close")
                    process.wait(_PATIENCE)
            finally:
                process.kill()


def _debugger(process: subprocess.Popen[bytes], said: Path) -> str:
    """The address of the debugger's socket, which the browser writes into its profile."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        lines = said.read_text().split() if said.exists() else []
        if len(lines) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        time.sleep(0.05)
    raise RuntimeError(f"the browser did not start within {_PATIENCE:g} s: {process.args!r}")


class Browser:
    """A browser, controlled over its debugger's socket."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)

    @property
    def version(self) -> str:
        return str(self.ask("Browser.getVersion")["product"]).partition("/")[2]

    def processor_times(self) -> dict[int, float]:
        """Processor seconds of each of the browser's processes since its start, by the process's number."""
        return {one["id"]: one["cpuTime"] for one in self.ask("SystemInfo.getProcessInfo")["processInfo"]}

    def memory(self) -> float | None:
        """Bytes of all the browser's processes, shared pages divided among those that share them; None except on
        Linux."""
        try:
            rollups = [Path(f"/proc/{id}/smaps_rollup").read_text() for id in self.processor_times()]
        except OSError:
            return None
        return sum(1024.0 * int(line.split()[1]) for text in rollups for line in text.splitlines() if "Pss:" in line)

    @contextmanager
    def page(self, url: str, size: tuple[int, int]) -> Iterator[Page]:
        """A new page at *url* with a viewport of *size*."""
        target = self.ask("Target.createTarget", url="about:blank", newWindow=True)["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        try:
            width, height = size
            metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
            self.ask("Emulation.setDeviceMetricsOverride", session, **metrics)
            self.ask("Page.navigate", session, url=url)
            yield page
        finally:
            self.ask("Target.closeTarget", targetId=target)

    def ask(self, method: str, session: str | None = None, **arguments: Any) -> Any:
        """Send one command and return its result. Raises `RuntimeError` with the browser's error."""
        number = next(self._numbers)
        command = {"id": number, "method": method, "params": arguments} | ({"sessionId": session} if session else {})
        self._socket.send(json.dumps(command))
        while (answer := json.loads(self._socket.recv(_PATIENCE))).get("id") != number:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]


class Page:
    """One page of the browser."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    def call(self, function: str, *arguments: Any) -> Any:
        """Call a function of the page and return its result, awaited if it is a promise."""
        return self.evaluate(f"{function}(...{json.dumps(arguments)})")

    def evaluate(self, expression: str) -> Any:
        """The value of an *expression* on the page. Raises `RuntimeError` with the error that it throws."""
        options = {"awaitPromise": True, "returnByValue": True}
        answer = self._browser.ask("Runtime.evaluate", self._session, expression=expression, **options)
        if thrown := answer.get("exceptionDetails"):
            raise RuntimeError(thrown.get("exception", {}).get("description") or thrown["text"])
        return answer["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Wait until *condition* is true on the page, checked in each animation frame."""
        look = f"const look = () => ({condition}) ? done() : requestAnimationFrame(look)"
        self.evaluate(f"new Promise((done) => {{ {look}; look() }})")
