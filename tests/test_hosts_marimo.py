"""marimo inside other servers: as an ASGI app, and inside JupyterLab."""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from hosts import NUMBERED, Lab, Marimo, error_of, wait_for
from installed import ROOT, python_path
from pages import numbered
from playwright.sync_api import Browser, FrameLocator, Page

pytestmark = pytest.mark.hosts

NOTEBOOK = f"""
import marimo

app = marimo.App()


@app.cell
def _():
    import marimo as mo
    import pdum_rfb_widget as rfb

    namespace = {{}}
    exec({NUMBERED!r}, namespace)
    display = rfb.serve(320, 180)
    display.publish(namespace["numbered"](7, 320, 180))
    return display, mo


@app.cell
def _(display, mo):
    mo.ui.anywidget(display.widget(height=240))
    return


if __name__ == "__main__":
    app.run()
"""
APP = """
import sys
import marimo, uvicorn
host, port, token = sys.argv[1:]
app = marimo.create_asgi_app(token=token).with_app(path="/some/app", root="app.py").build()
uvicorn.run(app, host=host, port=int(port))
"""


class AsgiMarimo(Marimo):
    """An app of marimo's, mounted in a server of the user's own at *host*."""

    def __init__(self, home: Path, host: str) -> None:
        super().__init__(home, "run", "app.py")
        self.host = host

    def command(self) -> list[str]:
        return [sys.executable, "-c", APP, self.host, str(self.port), self.token]

    def environment(self) -> dict[str, str]:
        return super().environment() | {"PYTHONPATH": python_path(self.home)}

    def ready_url(self) -> str:
        return f"http://{self.host}:{self.port}/some/app/health"

    def page_url(self) -> str:
        return f"http://{self.host}:{self.port}/some/app/?access_token={self.token}"


class LabWithMarimo(Lab):
    """JupyterLab with marimo's own extension for it, which starts marimo behind jupyter-server-proxy, at *host*."""

    def __init__(self, home: Path, host: str) -> None:
        super().__init__(home)
        self.host = host

    def command(self) -> list[str]:
        # Without its sandbox, which makes each notebook an environment from a package index.
        settings = ["--MarimoProxyConfig.no_sandbox=True", "--MarimoProxyConfig.skip_update_check=True"]
        return [*(word.replace("ip=127.0.0.1", f"ip={self.host}") for word in super().command()), *settings]

    def environment(self) -> dict[str, str]:
        marimo = Marimo.environment(self)  # type: ignore[arg-type]
        return (
            super().environment()
            | marimo
            | {
                "PYTHONPATH": python_path(self.home),
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "JUPYTER_CONFIG_PATH": str(ROOT / "jupyter-config"),
            }
        )

    def ready_url(self) -> str:
        return super().ready_url().replace("127.0.0.1", self.host)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that may report errors, as marimo's own does."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    yield context.new_page()
    context.close()


def shown(place: Page | FrameLocator) -> str:
    """How the picture came there, once it is shown."""
    canvas = place.locator(".rfb-canvas.rfb-has-picture")
    canvas.wait_for(timeout=90_000)
    wait_for(lambda: error_of(canvas, numbered(7, 320, 180)) < 6, "the picture")
    tries = place.locator(".rfb-list").text_content() or ""
    print(tries)
    return tries


@pytest.mark.parametrize(("host", "way"), [("127.0.0.1", "direct"), ("127.0.0.2", "route")])
def test_an_asgi_app_of_marimos_shows_the_picture(tmp_path: Path, page: Page, host: str, way: str) -> None:
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "app.py").write_text(NOTEBOOK)
    with AsgiMarimo(tmp_path, host) as marimo:
        page.goto(marimo.page_url())
        assert f" {way} ws:" in shown(page)


ROUNDS = f"""
import marimo

app = marimo.App()


@app.cell
def _():
    import marimo as mo
    import pdum_rfb_widget as rfb

    namespace = {{}}
    exec({NUMBERED!r}, namespace)
    display = rfb.serve(320, 180)
    display.publish(namespace["numbered"](7, 320, 180))
    with open("streams", "w") as file:
        file.write(f"http://127.0.0.1:{{display.server.port}}/streams?token={{display.server.token}}")
    slider = mo.ui.slider(0, 1000)
    slider
    return display, mo, slider


@app.cell
def _(display, mo, slider):
    mo.vstack([mo.md(f"round {{slider.value}}."), mo.ui.anywidget(display.widget(height=240 + slider.value))])
    return


if __name__ == "__main__":
    app.run()
"""


def test_nothing_is_left_of_a_hundred_reactive_runs(tmp_path: Path, page: Page) -> None:
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "app.py").write_text(ROUNDS)
    with Marimo(tmp_path, "edit", "app.py") as marimo:
        page.goto(marimo.page_url())
        shown(page)
        workers = len(page.workers)
        streams = (tmp_path / "notebooks" / "streams").read_text()

        def viewers() -> int:
            with urllib.request.urlopen(streams, timeout=60) as answer:
                return int(json.load(answer)[0]["clients"])

        assert viewers() == 1
        for number in range(1, 101):
            page.get_by_role("slider").first.press("ArrowRight")
            page.get_by_text(f"round {number}.").wait_for()
        shown(page)
        assert page.locator(".rfb-root").count() == 1
        wait_for(lambda: viewers() == 1, "the viewers to be gone")
        wait_for(lambda: page.evaluate("true") and len(page.workers) == workers, "the workers to be gone")


@pytest.mark.parametrize(("host", "way"), [("127.0.0.1", "direct ws:"), ("127.0.0.2", "route ws://{}/pdum-rfb/")])
def test_marimo_inside_jupyterlab_shows_the_picture_by_no_proxy(
    tmp_path: Path, page: Page, host: str, way: str
) -> None:
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "app_mo.py").write_text(NOTEBOOK)
    with LabWithMarimo(tmp_path, host) as lab:
        page.goto(f"http://{host}:{lab.port}/lab?token={lab.token}&reset")
        page.wait_for_function("window.jupyterapp")
        opened = "jupyterapp.commands.execute('docmanager:open', { path: 'app_mo.py' })"
        page.evaluate(f"void jupyterapp.restored.then(() => {opened})")
        tries = shown(page.frame_locator("iframe"))
        assert f" {way.format(f'{host}:{lab.port}')}" in tries
        assert "/marimo/" not in tries, "through jupyter-server-proxy, which was not needed"
