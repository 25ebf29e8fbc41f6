"""Real notebook servers and a real browser, for tests: started, driven, and read back."""

from __future__ import annotations

import base64
import io
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, sync_playwright

from pdum_rfb_widget._hub.web_page import BUNDLE

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
ARTIFACTS = Path(__file__).parent.parent / "artifacts"


def wait_for(condition: Callable[[], object], what: str, seconds: float = 120) -> None:
    """Until *condition* holds; `TimeoutError` that says *what* was waited for."""
    deadline, pause = time.monotonic() + seconds, 0.001
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come within {seconds} s")
        time.sleep(pause)
        pause = min(0.02, 1.5 * pause)


def chromium_path() -> str | None:
    """The browser that setup.sh found, or one on the path; None leaves it to Playwright."""
    names = (os.environ.get("RFB_CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if name and (path := shutil.which(name))), None)


NAME = "hub.test"
"""A name of this machine that only the tests' browser knows: its pages are not local, and over http not secure."""

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
ARGUMENTS += [f"--host-resolver-rules=MAP {NAME} 127.0.0.1"]


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium with software rendering."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


def read_canvas(canvas: Locator) -> npt.NDArray[np.uint8]:
    """The pixels that the canvas holds, as (H, W, 3)."""
    url = canvas.evaluate(
        """canvas => {
            const copy = document.createElement("canvas");
            copy.width = canvas.width;
            copy.height = canvas.height;
            copy.getContext("2d").drawImage(canvas, 0, 0);
            return copy.toDataURL("image/png");
        }"""
    )
    picture = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    return np.asarray(picture.convert("RGB"))


def error_of(canvas: Locator, wanted: npt.NDArray[np.uint8]) -> float:
    """The mean difference between the canvas and *wanted*, of 255; infinite while their sizes differ."""
    shown = read_canvas(canvas)
    if shown.shape != wanted.shape:
        return float("inf")
    return float(np.abs(shown.astype(int) - wanted).mean())


class _Pages(BaseHTTPRequestHandler):
    """The page that was asked for last, and the bundle."""

    html = b""
    headers_sent: Mapping[str, str] = {}

    def do_GET(self) -> None:
        script = self.path.endswith("/widget.js")
        body = BUNDLE.read_bytes() if script else self.html
        self.send_response(200)
        self.send_header("Content-Type", "text/javascript" if script else "text/html; charset=utf-8")
        for name, value in self.headers_sent.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@cache
def _page_server() -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def serve_page(html: str, headers: Mapping[str, str]) -> str:
    """The address of a page at another port than the hub's, as a notebook's is, with the bundle beside it."""
    _Pages.html, _Pages.headers_sent = html.encode(), headers
    return f"http://127.0.0.1:{_page_server().server_port}/plain.html"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class HostProcess(ABC):
    """A notebook server as a process of its own, with a home of its own. A context manager that ends it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        self.token = secrets.token_hex(8)
        self.log = home / "server.log"
        self.process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """What starts it."""

    @abstractmethod
    def ready_url(self) -> str:
        """An address that answers once it is up."""

    @abstractmethod
    def environment(self) -> dict[str, str]:
        """What it finds its own settings by."""

    def __enter__(self) -> Self:
        folder = self.home / "notebooks"
        folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command(), cwd=folder, env=os.environ | self.environment(), stdout=log, stderr=log
            )
        try:
            wait_for(self._answers, f"{type(self).__name__} at port {self.port}", 180)
        except TimeoutError:
            self.__exit__(None, None, None)
            raise RuntimeError(self.log.read_text(errors="replace")[-4000:]) from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self.process is not None
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise RuntimeError(self.log.read_text(errors="replace")[-4000:])
        try:
            with urllib.request.urlopen(self.ready_url(), timeout=2):
                return True
        except urllib.error.HTTPError as error:
            error.close()
            return False
        except OSError:
            return False


def notebook_of(cells: list[str]) -> str:
    """The file of a notebook of code *cells*."""
    code = [
        {"cell_type": "code", "id": f"c{n}", "source": s, "metadata": {}, "outputs": [], "execution_count": None}
        for n, s in enumerate(cells)
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return json.dumps({"cells": code, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5})


class Lab(HostProcess):
    """JupyterLab."""

    def command(self) -> list[str]:
        return [
            *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
            *("--ServerApp.ip=127.0.0.1", f"--ServerApp.port={self.port}", "--ServerApp.port_retries=0"),
            *(f"--IdentityProvider.token={self.token}", "--LabApp.expose_app_in_browser=True"),
        ]

    def ready_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/status?token={self.token}"

    def environment(self) -> dict[str, str]:
        folders = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
        settings = self.home / "settings" / "@jupyterlab" / "apputils-extension"
        settings.mkdir(parents=True, exist_ok=True)
        quiet = {"fetchNews": "false", "checkForUpdates": False}
        (settings / "notification.jupyterlab-settings").write_text(json.dumps(quiet))
        return {name: str(self.home / name.lower()) for name in folders} | {
            "JUPYTERLAB_SETTINGS_DIR": str(self.home / "settings")
        }

    def write(self, name: str, cells: list[str]) -> None:
        """A notebook of code *cells*."""
        (self.home / "notebooks" / name).write_text(notebook_of(cells))

    def open(self, page: Page, name: str) -> None:
        """Open the notebook *name* and wait for its kernel."""
        page.goto(f"http://127.0.0.1:{self.port}/lab/tree/{name}?token={self.token}&reset")
        idle = f"window.jupyterapp && {_PANEL}?.sessionContext?.session?.kernel?.status === 'idle'"
        page.wait_for_function(idle, timeout=60_000)

    def run_all(self, page: Page) -> None:
        """Run all cells and wait until the last has ended."""
        page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')")

    def run_cell(self, page: Page, index: int) -> None:
        """Run the code cell *index* without waiting for its end."""
        page.evaluate(
            f"""index => {{
                {_PANEL}.content.activeCellIndex = index;
                jupyterapp.commands.execute('notebook:run-cell');
            }}""",
            index,
        )

    def output(self, page: Page, index: int) -> str:
        """The text that cell *index* has printed."""
        outputs = page.evaluate(f"index => {_PANEL}.content.widgets[index].model.outputs.toJSON()", index)
        return "".join(
            "".join(out.get("text", "")) or "\n".join(out.get("traceback", []))
            for out in outputs
            if out["output_type"] in ("stream", "error")
        )


_PANEL = "jupyterapp.shell.currentWidget"


class Marimo(HostProcess):
    """marimo on one notebook, to `edit` or to `run`."""

    def __init__(self, home: Path, mode: str, name: str) -> None:
        super().__init__(home)
        self.mode = mode
        self.name = name

    def command(self) -> list[str]:
        return [
            *(sys.executable, "-m", "marimo", "-y", self.mode, self.name, "--headless"),
            *("--host", "127.0.0.1", "--port", str(self.port), "--token-password", self.token),
            *(["--skip-update-check"] if self.mode == "edit" else []),
        ]

    def ready_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/health"

    def page_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/?access_token={self.token}"

    def environment(self) -> dict[str, str]:
        settings = self.home / "config" / "marimo"
        settings.mkdir(parents=True, exist_ok=True)
        (settings / "marimo.toml").write_text("[runtime]\nauto_instantiate = true\n")
        return {"XDG_CONFIG_HOME": str(self.home / "config"), "HOME": str(self.home)}


# Frames that carry a number, and the page's own count of those it has shown -----------------------------------------

NUMBERED = """
import numpy as np

def numbered(n, width=1280, height=720):
    '''A picture whose first ten 16 px blocks hold *n* in black and white; the rest is a gradient that moves with it.'''
    x, y = np.arange(width, dtype=np.int64), np.arange(height, dtype=np.int64)[:, None]
    picture = np.empty((height, width, 3), np.uint8)
    picture[..., 0], picture[..., 1], picture[..., 2] = (x + 3 * n) % 256, (y + 2 * n) % 256, ((x + y) // 2 + n) % 256
    for bit in range(10):
        picture[:16, 16 * bit : 16 * bit + 16] = 255 if n >> bit & 1 else 0
    return picture
"""

_WATCH = """canvas => {
    const reader = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const seen = (canvas.rfbSeen = []);
    const look = () => {
        if (!canvas.isConnected) return;
        reader.drawImage(canvas, 0, 0, 160, 16, 0, 0, 10, 1);
        const { data } = reader.getImageData(0, 0, 10, 1);
        let number = 0;
        for (let bit = 0; bit < 10; bit++) if (data[4 * bit] > 127) number |= 1 << bit;
        if (seen.at(-1) !== number) seen.push(number);
        requestAnimationFrame(look);
    };
    look();
}"""


def watch_numbers(canvas: Locator) -> None:
    """From now on note at every animation frame which number the canvas shows; see `numbers_seen`."""
    canvas.evaluate(_WATCH)


def numbers_seen(canvas: Locator) -> list[int]:
    """The numbers that the canvas has shown, in order, since they were last asked for."""
    return list(canvas.evaluate("canvas => canvas.rfbSeen.splice(0)"))
