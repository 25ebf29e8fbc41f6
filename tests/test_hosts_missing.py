"""JupyterLab without what the widget needs: each time the cell says what is missing, and what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hosts import Lab, wait_for
from installed import ROOT
from pages import wait_until_notice
from playwright.sync_api import Browser, Locator, Page

pytestmark = pytest.mark.hosts

SERVE = """
import numpy as np
import pdum_rfb_widget as rfb
display = rfb.serve(64, 48)
display.publish(np.full((48, 64, 3), 200, np.uint8))
print("served")
"""


class PoorLab(Lab):
    """JupyterLab at *host* whose pages lack the extensions *front*, and whose server those in *back*."""

    def __init__(self, home: Path, *, front: tuple[str, ...] = (), back: tuple[str, ...] = (), host: str = "127.0.0.1"):
        super().__init__(home)
        self.host, self.back = host, back
        settings = home / "jupyter_config_dir" / "labconfig"
        settings.mkdir(parents=True)
        (settings / "page_config.json").write_text(json.dumps({"disabledExtensions": dict.fromkeys(front, True)}))

    def command(self) -> list[str]:
        words = [word.replace("ip=127.0.0.1", f"ip={self.host}") for word in super().command()]
        return [*words, *(f"--ServerApp.jpserver_extensions={name}=False" for name in self.back)]

    def environment(self) -> dict[str, str]:
        return super().environment() | {"JUPYTER_CONFIG_PATH": str(ROOT / "jupyter-config")}

    def ready_url(self) -> str:
        return super().ready_url().replace("127.0.0.1", self.host)

    def show(self, page: Page, serve: str = SERVE) -> Locator:
        """The output of the cell that shows the widget."""
        self.write("show.ipynb", [serve, "display.widget(height=200)"])
        page.goto(f"http://{self.host}:{self.port}/lab/tree/show.ipynb?token={self.token}&reset")
        idle = "window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
        page.wait_for_function(idle, timeout=60_000)
        self.run_all(page)
        return page.locator(".jp-Cell").nth(1).locator(".jp-OutputArea")


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that may report errors, as JupyterLab's own does about what it lacks."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield context.new_page()
    context.close()


def test_a_server_without_anywidget_is_said_beside_the_error(tmp_path: Path, page: Page) -> None:
    with PoorLab(tmp_path, front=("anywidget",)) as lab:
        output = lab.show(page)
        hint = output.locator(".rfb-hint")
        hint.wait_for()
        words = hint.evaluate("hint => getComputedStyle(hint, '::before').content")
        assert "run 'pip install anywidget' where the notebook's server runs" in words


def test_a_page_without_widgets_is_said_in_place_of_the_view(tmp_path: Path, page: Page) -> None:
    with PoorLab(tmp_path, front=("@jupyter-widgets/jupyterlab-manager",)) as lab:
        output = lab.show(page)
        words = "live in pages with Jupyter widgets: pip install anywidget where the page's server runs"
        output.get_by_text(words).wait_for()
        assert not output.locator(".rfb-hint").is_visible()


def test_a_kernel_without_anywidget_is_said_by_the_call() -> None:
    code = f"import sys; sys.modules['anywidget'] = None; {SERVE.replace(chr(10), ';').strip(';')}; display.widget()"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert "ModuleNotFoundError: widget() needs anywidget: run 'pip install anywidget' in this Python" in ran.stderr


def test_a_server_without_our_extension_or_a_proxy_is_said(tmp_path: Path, page: Page) -> None:
    missing = ("pdum_rfb_widget.jupyter", "jupyter_server_proxy")
    with PoorLab(tmp_path, back=missing, host="127.0.0.2") as lab:
        lab.show(page)
        words = wait_until_notice(page, "no way to the kernel")
        assert "its extension pdum_rfb_widget is not enabled, and jupyter-server-proxy is missing" in words
        assert "Run 'pip install pdum-rfb-widget' where the server runs" in words
        wait_for(lambda: "route" in (page.locator(".rfb-list").text_content() or ""), "what was tried")


def test_a_kernel_on_another_machine_than_the_server_is_said(tmp_path: Path, page: Page) -> None:
    elsewhere = "from pdum_rfb_widget._hosts import discovery\ndiscovery.machine = lambda: 'faraway'\n"
    with PoorLab(tmp_path, host="127.0.0.2") as lab:
        lab.show(page, elsewhere + SERVE.replace("serve(64, 48)", "serve(64, 48, tcp=False)"))
        words = wait_until_notice(page, "faraway")
        assert words.startswith("The kernel runs on faraway, this server on ")
        assert "Serve it with a port" in words
